"""From a row for each token to one for each text: pooling, and the head of a classifier.

Source of the numbers: llama.cpp llama.h, llama_pooling_type; of the heads: llama-graph.cpp, build_pooling.
"""

from __future__ import annotations

from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Value
from ggufpy.graph.nodes import Attention
from ggufpy.graph.values import Function

NONE, MEAN, CLS, LAST, RANK = range(5)

_HEAD = tuple(f"{name}.{part}" for name in ("cls", "cls.norm", "cls.output") for part in ("weight", "bias"))


def pooled(
    g: Graph,
    x: Value,
    *,
    function: Function = "tanh",
    of_classifier: int | None = None,
    shares: bool = False,
) -> Value:
    """The rows that the file's `pooling_type` wants of x, the last hidden state.

    Mean and cls (the first token) give a row for each text; last is the row of the last token, which is to be
    asked for. Rank is what the classifier says of the first token, of the last where attention is causal, or
    of what `classifier.pooling_type` says. function: of the classifier's first layer. of_classifier: that key
    where it is not there. shares: the classifier's results are the shares of two labels, which sum to 1.
    Raises UnsupportedModelError for rank without a classifier.
    """
    kind = g.keys.integer("pooling_type", NONE, least=NONE, most=RANK)
    sees_later = any(isinstance(node, Attention) and not node.causal for node in g.nodes)
    default = of_classifier or (CLS if sees_later else LAST)
    of_classifier = g.keys.integer("classifier.pooling_type", default, least=MEAN, most=LAST)
    labels = g.keys.get("classifier.output_labels", [])
    if not isinstance(labels, list):
        raise g.keys.error("classifier.output_labels", f"is {labels!r:.40}, must be a list of names")
    g.ignore(*_HEAD)
    if kind != RANK:
        return _dense(g, _of_text(g, x, kind))
    y = _of_text(g, x, of_classifier)
    if not (g.has("cls.weight") or g.has("cls.output.weight")):
        problem = "this model has no classifier (cls, cls.output), so it cannot rank texts"
        raise UnsupportedModelError(f"{g.keys.source}: {problem}; choose another pooling")
    if g.has("cls.weight"):
        y = g.linear(y, "cls").apply(function)
        y = g.norm(y, "cls.norm", size="layer") if g.has("cls.norm.weight") else y
    if g.has("cls.output.weight"):
        y = g.linear(y, "cls.output", outputs=len(labels) or None)
    return _shares(g, y) if shares else y


def _of_text(g: Graph, x: Value, kind: int) -> Value:
    if kind == MEAN:
        return g.pool(x, "mean")
    return g.pool(x, "first") if kind == CLS else x


def _dense(g: Graph, y: Value) -> Value:
    """Layers that sentence-transformers puts behind the pooling."""
    for name in ("dense_2", "dense_3"):
        if g.has(f"{name}.weight"):
            outputs = g.keys.integer(f"{name}_feat_out", g.shape(f"{name}.weight")[0])
            g.keys.expect(f"{name}_feat_in", y.width)
            y = g.linear(y, name, outputs=outputs)
    return y


def _shares(g: Graph, y: Value) -> Value:
    """Softmax of two values."""
    if y.width != 2:
        raise UnsupportedModelError(
            f"{g.keys.source}: cls.output has {y.width} labels; ggufpy ranks by two, yes and no"
        )
    difference = y[:1] + y[1:] * -1.0
    return g.concat(difference.apply("sigmoid"), (difference * -1.0).apply("sigmoid"))
