"""The ops: each kind of node makes values from values.

What a node computes stands in its docstring, and, to be run, in tests/reference.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ggufpy.graph.values import Function, Node, Value

if TYPE_CHECKING:
    from ggufpy.graph.rope import Rope

Size = Literal["rms", "layer", "l2"]


# ---- Views: they cost nothing ----


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class View(Node):
    """x in another shape."""

    x: Value


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Slice(Node):
    """Values start .. start + n of the last axis of x."""

    x: Value
    start: int


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Concat(Node):
    """The parts one after the other in the last axis."""

    parts: tuple[Value, ...]


# ---- Rows ----


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Embed(Node):
    """The rows of a tensor that the batch's token ids name, or its places, or the first; times `scale`.

    Rows that the caller gives instead of tokens are taken as they are.
    """

    tensor: str
    by: Literal["token", "place", "first"]
    scale: float


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Copy(Node):
    """x, made contiguous; rows of x that are all, where the op's are the wanted ones, are picked out."""

    x: Value
    picks: bool


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Pool(Node):
    """One row for each text: the mean of its rows, its first or its last."""

    x: Value
    kind: Literal["mean", "first"]


# ---- Arithmetic ----


@dataclass(frozen=True, slots=True)
class Matrix:
    """The tensor (outputs, inputs) of a linear op, or of experts or heads (n, outputs, inputs); its bias.

    Matrices of one value may be one axis: (n,).
    """

    tensor: str
    bias: str | None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Linear(Node):
    """x @ matrix.T + bias for each matrix; with a gate gate(first) * second, with `add` the sum with it.

    route: a token's slots each go through the matrix of its expert; x is (n,), the same for all slots, or
    (slots, n). per_head: head i of x (heads, n) goes through matrix i.
    """

    x: Value
    matrices: tuple[Matrix, ...]
    route: Value | None = None
    add: Value | None = None
    gate: Function | None = None
    per_head: bool = False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Norm(Node):
    """x / size(x) * weight + bias over the last axis.

    size: "rms" sqrt(mean(x^2) + epsilon), "layer" the deviation, after the mean was taken off, "l2"
    max(length, epsilon). weight and bias: (n,), or (heads, n).
    """

    x: Value
    size: Size
    weight: str | None
    bias: str | None
    epsilon: float


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Unary(Node):
    """function(x), value by value; softplus and gelu as ggml has them."""

    x: Value
    function: Function


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Binary(Node):
    """x + y or x * y, value by value; a last axis of one value counts for all."""

    x: Value
    y: Value
    function: Literal["add", "mul"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Affine(Node):
    """x * factor + offset, then limited to low .. high."""

    x: Value
    factor: float
    offset: float
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Vector(Node):
    """x + or * a tensor: one value for all, one per head, one per value of a head, or one per value."""

    x: Value
    tensor: str
    function: Literal["add", "mul"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Total(Node):
    """The sum over the first axis."""

    x: Value


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Tap(Node):
    """Adds what the linears of `tensors` read to sums that the plan keeps: x^2, or the products x x^T.

    route, per_head: as in Linear; there is a sum for each expert, or head.
    """

    x: Value
    tensors: tuple[str, ...]
    products: bool
    route: Value | None
    per_head: bool


# ---- Experts ----


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Route(Node):
    """The experts of each token, and their weights (slots, 1).

    logits (experts,) -> p by `gating`: softmax, sigmoid, or softmax of the chosen only; the `slots` experts
    with the largest p + bias are chosen, among the best `groups_used` of `groups` by the sum of their best
    `group_best`, 1 or 2; weights are p, normalized to a sum of 1 if wanted, times scale.
    sparsemixer: p are the logits, and a weight is the softmax over those experts of which none was chosen
    before and whose logit is close to that of the chosen: max - p <= 2 jitter max(|p|, max). Source: GRIN
    (arXiv 2409.12136).
    """

    logits: Value
    bias: str | None
    gating: Literal["softmax", "sigmoid", "chosen", "sparsemixer"]
    jitter: float
    normalize: bool
    scale: float
    groups: int
    groups_used: int
    group_best: int


# ---- Places ----


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RopeTable(Node):
    """Cosines and sines of the rows' angles. factors: the tensor that divides the angles.

    sections: how many pairs turn by each of the batch's four angles; () for all by the first.
    """

    rope: Rope
    factors: str | None
    sections: tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Rotate(Node):
    """Pairs of the first values of each head of x, turned by the angles in `table`."""

    x: Value
    table: Value
    rope: Rope


# ---- State ----


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Keep(Node):
    """k (heads, n) and v (heads, m) of each row enter the sequence's state; the output stands for all kept.

    window: how many places later rows look back, themselves among them; None for all.
    """

    k: Value
    v: Value
    window: int | None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Attention(Node):
    """softmax(scale * q k^T) v over what was kept of the sequence.

    q: (heads, n). Scores are also scaled by 1 + temperature * log(1 + floor((place + temperature_offset) /
    temperature_length)), and become softcap * tanh(score / softcap). sinks: a tensor with one more score per
    head, without value.
    slopes: what each place of distance takes off a head's scores (ALiBi, arXiv 2108.12409).
    chunk: a row sees no places before the last multiple of it; 0: it does.
    causal: a row sees no later ones; else it sees those of the batch, too, with a window as far as back.
    """

    q: Value
    kept: Value
    scale: float
    softcap: float
    sinks: str | None
    slopes: tuple[float, ...]
    causal: bool
    temperature: float
    temperature_length: int
    temperature_offset: int
    chunk: int


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Conv(Node):
    """Each channel of x with its own weights over the last k places: sum of w[c, j] x[t - k + 1 + j, c]."""

    x: Value
    tensor: str
    bias: str | None
    size: int


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Scan(Node):
    """Mamba's state S (heads, n, m): S = S exp(dt a) + dt x b^T, y = S c.

    x: (heads, n), dt: (heads,), b and c: (groups, m), of which heads / groups heads share one; a: a tensor
    (heads, 1) or (heads, m). Source: Mamba 2 (arXiv 2405.21060).
    """

    x: Value
    dt: Value
    b: Value
    c: Value
    a: str


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class DeltaRule(Node):
    """Gated delta rule's state S (heads, n, m): S = S exp(decay); S += k (beta (v - S^T k))^T; y = S^T q.

    q, k: (groups, n), v: (heads, m), beta, decay: (heads,); head i reads group i modulo the groups; q is
    scaled by n^-1/2. Source: Gated DeltaNet (arXiv 2412.06464).
    """

    q: Value
    k: Value
    v: Value
    beta: Value
    decay: Value


STATEFUL = (Keep, Conv, Scan, DeltaRule)
LASTING = (*STATEFUL, Tap)  # what they do is not only in their outputs
VIEWS = (View, Slice)
