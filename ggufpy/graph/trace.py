"""Tracing: an architecture's forward pass, written with a Graph, becomes a list of nodes.

Nothing is computed. Tensor shapes are checked here, once, for all architectures and for both doors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ggufpy.graph import nodes as n
from ggufpy.graph.alibi import slopes_of
from ggufpy.graph.keys import Keys
from ggufpy.graph.messages import Messages
from ggufpy.graph.ops import Experts, Ops
from ggufpy.graph.rope import Rope
from ggufpy.graph.tensors import Shaped
from ggufpy.graph.values import Value

# What a forward pass gives, by name: "logits" of a language model, "embeddings" of its last hidden state.
Outputs = Mapping[str, Value]


class Graph(Ops):
    """The forward pass as it is traced: `nodes`, and the tensors that are `used`.

    Besides the ops of Ops, those that look at other tokens, or choose experts.
    """

    def __init__(
        self,
        keys: Keys,
        tensors: Mapping[str, Shaped],
        messages: Messages,
        prefix: str = "",
        whole: Graph | None = None,
        *,
        n_ctx: int | None = None,
    ) -> None:
        super().__init__(keys, tensors, messages, prefix, whole)
        self._n_ctx: int | None = whole._n_ctx if whole else n_ctx
        self._tables: dict[Any, Value] = whole._tables if whole else {}

    @classmethod
    def trace(
        cls,
        metadata: Mapping[str, Any],
        tensors: Mapping[str, Shaped],
        source: str,
        messages: Messages | None = None,
        n_ctx: int | None = None,
    ) -> Graph:
        """An empty graph for a file's metadata and tensors; errors name `source`. n_ctx: see `context`."""
        keys = Keys(metadata, source)
        return cls(keys, tensors, messages or Messages(source, keys.architecture), n_ctx=n_ctx)

    @property
    def context(self) -> int:
        """How long texts may be: as was asked for, or as the model was made for."""
        return self._n_ctx or self.keys.integer("context_length")

    def layers(self, count: int) -> Iterator[Layer]:
        """The blocks, in order."""
        for index in range(count):
            yield Layer(self, index)

    def check_all_used(self) -> None:
        """Raise UnsupportedModelError for a tensor or a key of the file that nothing used."""
        super().check_all_used()
        keeps = [node for node in self.nodes if isinstance(node, n.Keep)]
        self.keys.check_all_read(
            attends=bool(keeps),
            turns=any(isinstance(node, n.Rotate) for node in self.nodes),
            has_windows=any(node.window is not None for node in keeps),
            scans=any(isinstance(node, n.Scan | n.DeltaRule) for node in self.nodes),
        )

    def rope(self, x: Value, rope: Rope, factors: str | None = None, sections: tuple[int, ...] = ()) -> Value:
        """Turn pairs of the first values of each head. factors: a tensor that may divide the angles."""
        if x.shape[-1] < rope.dimensions:
            raise self._refuse(f"heads of {x.shape[-1]} values cannot turn {rope.dimensions}")
        divisors = self._whole.optional(factors, rope.dimensions // 2) if factors else None
        key = (rope, divisors, sections)
        if key not in self._tables:
            self._tables[key] = self._put(
                n.RopeTable, rope.dimensions, rope=rope, factors=divisors, sections=sections
            )
        return self._put(n.Rotate, *x.shape, x=x, table=self._tables[key], rope=rope)

    def keep(self, k: Value, v: Value, window: int | None = None) -> Value:
        """Let k (heads, n) and v (heads, m) enter the state; `attention` reads the result."""
        if k.shape[0] != v.shape[0]:
            raise self._refuse(f"{k.shape[0]} heads of keys and {v.shape[0]} of values")
        return self._put(n.Keep, k.shape[0], k.shape[1] + v.shape[1], k=k, v=v, window=window)

    def attention(
        self,
        q: Value,
        kept: Value,
        *,
        scale: float | None = None,
        softcap: float = 0.0,
        sinks: str | None = None,
        max_bias: float = 0.0,
        causal: bool = True,
        temperature: float = 0.0,
        temperature_length: int = 1,
        temperature_offset: int = 0,
        chunk: int = 0,
    ) -> Value:
        """Attention of q (heads, n) over what was kept: (heads, m). scale: None for n ** -0.5.

        max_bias: of ALiBi, 0 for none.
        """
        keep = next(node for node in reversed(self.nodes) if node.outputs == (kept,))
        assert isinstance(keep, n.Keep)
        if q.shape[1] != keep.k.shape[1] or q.shape[0] % keep.k.shape[0]:
            raise self._refuse(
                f"attention: {q.shape[0]} heads of {q.shape[1]} values do not fit "
                f"{keep.k.shape[0]} of {keep.k.shape[1]}"
            )
        return self._put(
            n.Attention,
            q.shape[0],
            keep.v.shape[1],
            q=q,
            kept=kept,
            scale=q.shape[1] ** -0.5 if scale is None else scale,
            softcap=softcap,
            sinks=self.tensor(sinks, q.shape[0]) if sinks else None,
            slopes=slopes_of(q.shape[0], max_bias) if max_bias else (),
            causal=causal,
            temperature=temperature,
            temperature_length=temperature_length,
            temperature_offset=temperature_offset,
            chunk=chunk,
        )

    def route(
        self,
        logits: Value,
        slots: int,
        *,
        gating: Literal["softmax", "sigmoid", "chosen", "sparsemixer"] = "softmax",
        jitter: float = 0.0,
        normalize: bool = False,
        scale: float = 1.0,
        bias: str | None = None,
        groups: int = 1,
        groups_used: int = 1,
        group_best: int = 2,
    ) -> Experts:
        """Choose `slots` experts by their logits (experts,). bias: a tensor, if it is there."""
        if slots > logits.width:
            raise self._refuse(f"{slots} experts cannot be used of {logits.width}")
        tensor = self.optional(bias, logits.width) if bias else None
        weights = self._put(
            n.Route,
            slots,
            1,
            logits=logits,
            bias=tensor,
            gating=gating,
            jitter=jitter,
            normalize=normalize,
            scale=scale,
            groups=groups,
            groups_used=groups_used,
            group_best=group_best,
        )
        return Experts(weights, logits.width)

    def conv(self, x: Value, name: str) -> Value:
        """Each channel of x with its own weights over the last places."""
        size = self.shape(f"{name}.weight")[-1]
        if size < 2:
            raise self._refuse(f"{name}.weight looks at no earlier place, its shape ends in {size}")
        tensor = self.tensor(f"{name}.weight", x.width, size)
        bias = self.optional(f"{name}.bias", x.width)
        return self._put(n.Conv, x.width, x=x, tensor=tensor, bias=bias, size=size)

    def scan(self, x: Value, dt: Value, b: Value, c: Value, a: str) -> Value:
        """Mamba's state space: x (heads, n), dt (heads,), b and c (groups, m): (heads, n)."""
        states = self.shape(a)[-1]
        if states not in (1, b.shape[1]) or x.shape[0] % b.shape[0] or b.shape != c.shape:
            raise self._refuse(f"{a} has shape {self.shape(a)}, b {b.shape} and c {c.shape}: no state fits")
        if dt.width != x.shape[0]:
            raise self._refuse(f"{dt.width} time steps for {x.shape[0]} heads")
        return self._put(n.Scan, *x.shape, x=x, dt=dt, b=b, c=c, a=self.tensor(a, x.shape[0], states))

    def delta_rule(self, q: Value, k: Value, v: Value, beta: Value, decay: Value) -> Value:
        """Gated delta rule: q, k (groups, n), v (heads, m), beta and decay (heads,): (heads, m)."""
        if q.shape != k.shape or v.shape[0] % q.shape[0] or {beta.width, decay.width} != {v.shape[0]}:
            raise self._refuse(f"delta rule: q {q.shape}, k {k.shape}, v {v.shape}: no state fits")
        return self._put(n.DeltaRule, *v.shape, q=q, k=k, v=v, beta=beta, decay=decay)


class Layer(Graph):
    """One block of a graph: names of tensors are those of GGUF without "blk.N."."""

    def __init__(self, graph: Graph, index: int) -> None:
        super().__init__(graph.keys, graph._tensors, graph._messages, f"blk.{index}.", graph)
        self.index = index
