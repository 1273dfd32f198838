"""The tracing API that architectures are written in."""

from ggufpy.graph.nodes import Node, Value
from ggufpy.graph.trace import Graph, Layer, Outputs

__all__ = ["Graph", "Layer", "Node", "Outputs", "Value"]
