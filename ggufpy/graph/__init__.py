"""The tracing API that architectures are written in."""

from ggufpy.graph.trace import Graph, Layer, Outputs
from ggufpy.graph.values import Node, Value

__all__ = ["Graph", "Layer", "Node", "Outputs", "Value"]
