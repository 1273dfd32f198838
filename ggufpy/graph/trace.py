"""Tracing: an architecture's forward pass, written with a Graph, becomes a list of typed nodes.

Nothing is computed. A node knows how many values it has per token (its width) and what it is made from.
Tensor shapes are checked here, once, for all architectures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.graph.hyperparameters import Hyperparameters, Rope


class Shaped(Protocol):
    """What tracing needs to know of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """In NumPy order: (outputs, inputs)."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A value per token. Sums and products of nodes are nodes."""

    graph: Graph = field(repr=False)
    width: int
    inputs: tuple[Node, ...]

    def __add__(self, other: Node) -> Node:
        return self.graph.put(Add(self.graph, self.width, (self, other)))

    def __mul__(self, other: Node) -> Node:
        return self.graph.put(Mul(self.graph, self.width, (self, other)))

    def silu(self) -> Node:
        """X / (1 + exp(-x))."""
        return self.graph.put(Silu(self.graph, self.width, (self,)))


@dataclass(frozen=True, eq=False, slots=True)
class Add(Node):
    """Sum of two nodes."""


@dataclass(frozen=True, eq=False, slots=True)
class Mul(Node):
    """Product of two nodes, value by value."""


@dataclass(frozen=True, eq=False, slots=True)
class Silu(Node):
    """x / (1 + exp(-x))."""


@dataclass(frozen=True, eq=False, slots=True)
class Embed(Node):
    """The rows of a tensor that the batch's token ids name."""

    tensor: str


@dataclass(frozen=True, eq=False, slots=True)
class RMSNorm(Node):
    """x * weight / sqrt(mean(x^2) + epsilon)."""

    tensor: str
    epsilon: float


@dataclass(frozen=True, eq=False, slots=True)
class Linear(Node):
    """x @ tensor.T, plus bias if there is one."""

    tensor: str
    bias: str | None


@dataclass(frozen=True, eq=False, slots=True)
class Rotate(Node):
    """Each head turned by the token's position; factors: the tensor that divides the angles, or None."""

    rope: Rope
    factors: str | None
    heads: int
    head_dim: int


@dataclass(frozen=True, eq=False, slots=True)
class Attention(Node):
    """softmax(scale * q k^T) v over the tokens of the sequence so far; inputs: q, k, v."""

    layer: int
    heads: int
    kv_heads: int
    key_length: int
    value_length: int
    scale: float
    temperature_scale: float
    temperature_length: int


class Graph:
    """The forward pass as it is traced; `nodes` are in the order of the code."""

    def __init__(self, hyperparameters: Hyperparameters, tensors: Mapping[str, Shaped], source: str) -> None:
        self.hyperparameters = hyperparameters
        self.nodes: list[Node] = []
        self.used: set[str] = set()
        self._tensors = tensors
        self._source = source

    def put(self, node: Node) -> Node:
        """Append a node."""
        if isinstance(node, Add | Mul) and len({n.width for n in node.inputs}) != 1:
            raise UnsupportedModelError(f"{self._source}: {type(node).__name__} of widths that differ")
        self.nodes.append(node)
        return node

    def has(self, name: str) -> bool:
        """Whether the file has a tensor of this name."""
        return name in self._tensors

    def tensor(self, name: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """Note that `name` is used, return its shape; raises if it is missing or not `shape` (None: any)."""
        if name not in self._tensors:
            architecture = self.hyperparameters.architecture
            raise FormatError(
                f"{self._source}: tensor '{name}' is missing; is this a complete {architecture} model?"
            )
        found = self._tensors[name].shape
        if 0 in found:
            raise FormatError(f"{self._source}: tensor '{name}' is empty, its shape is {found}")
        if len(found) != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, found, strict=True)
        ):
            wanted = tuple("any" if n is None else n for n in shape)
            raise FormatError(f"{self._source}: tensor '{name}' has shape {found}, must have {wanted}")
        self.used.add(name)
        return found

    def embed(self, name: str) -> Node:
        """One row of `name` per token."""
        width = self.hyperparameters.embedding_length
        self.tensor(f"{name}.weight", (None, width))
        return self.put(Embed(self, width, (), f"{name}.weight"))

    def layers(self) -> Iterator[Layer]:
        """The blocks, in order."""
        for index in range(self.hyperparameters.block_count):
            yield Layer(self, index)

    def rms_norm(self, x: Node, name: str) -> Node:
        """Root mean square norm with weight `name`."""
        self.tensor(f"{name}.weight", (x.width,))
        return self.put(RMSNorm(self, x.width, (x,), f"{name}.weight", self.hyperparameters.norm_epsilon))

    def linear(self, x: Node, name: str, tied: str | None = None) -> Node:
        """X @ `name`.T, plus its bias if the file has one; without `name`, the tensor `tied` serves."""
        weight, bias = f"{name}.weight", f"{name}.bias"
        if tied and not self.has(weight):
            weight = f"{tied}.weight"
        outputs = self.tensor(weight, (None, x.width))[0]
        if self.has(bias):
            self.tensor(bias, (outputs,))
        return self.put(Linear(self, outputs, (x,), weight, bias if self.has(bias) else None))


class Layer:
    """One block of a graph: names are those of GGUF without "blk.N."."""

    def __init__(self, graph: Graph, index: int) -> None:
        self._graph = graph
        self._prefix = f"blk.{index}."
        self._index = index

    def rms_norm(self, x: Node, name: str) -> Node:
        """Root mean square norm with weight `name`."""
        return self._graph.rms_norm(x, self._prefix + name)

    def linear(self, x: Node, name: str) -> Node:
        """X @ `name`.T, plus its bias if the file has one."""
        return self._graph.linear(x, self._prefix + name)

    def rope(self, x: Node) -> Node:
        """Turn neighbouring pairs of each head's values by the token's position."""
        h = self._graph.hyperparameters
        factors = "rope_freqs.weight" if self._graph.has("rope_freqs.weight") else None
        if factors:
            self._graph.tensor(factors, (h.rope.dimensions // 2,))
        heads = x.width // h.key_length
        return self._graph.put(Rotate(self._graph, x.width, (x,), h.rope, factors, heads, h.key_length))

    def attention(self, q: Node, k: Node, v: Node) -> Node:
        """Causal attention of grouped query heads."""
        h = self._graph.hyperparameters
        heads, kv_heads = h.head_count[self._index], h.head_count_kv[self._index]
        self._check_heads(heads, kv_heads, q, k, v)
        node = Attention(
            self._graph,
            heads * h.value_length,
            (q, k, v),
            layer=self._index,
            heads=heads,
            kv_heads=kv_heads,
            key_length=h.key_length,
            value_length=h.value_length,
            scale=h.key_length**-0.5,
            temperature_scale=h.temperature_scale,
            temperature_length=h.rope.original_context,
        )
        return self._graph.put(node)

    def _check_heads(self, heads: int, kv_heads: int, q: Node, k: Node, v: Node) -> None:
        h = self._graph.hyperparameters
        wanted = (heads * h.key_length, kv_heads * h.key_length, kv_heads * h.value_length)
        if heads % kv_heads or (q.width, k.width, v.width) != wanted:
            raise FormatError(
                f"layer {self._index}: {heads}, {kv_heads} heads of {h.key_length}, {h.value_length} values "
                f"do not fit attn_q, attn_k and attn_v with {q.width}, {k.width} and {v.width} rows"
            )
