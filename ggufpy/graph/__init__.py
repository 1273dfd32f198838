"""The tracing API that architectures are written against: hyperparameters in, a list of typed ops out."""

from ggufpy.graph.trace import Graph, Layer, Node

__all__ = ["Graph", "Layer", "Node"]
