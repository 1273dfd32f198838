"""The planner fuses what belongs together and never lets live values overlap."""

from itertools import pairwise

import pytest
from random_llama import LAYERS, arrays, metadata

from ggufpy.architectures.llama import forward
from ggufpy.graph import Graph
from ggufpy.graph.nodes import Attention, Copy, Linear, RopeTable, Rotate
from ggufpy.runtime.passes import PASSES, Pass
from ggufpy.runtime.plan import Plan, make_plan


def plan(passes: tuple[Pass, ...] = PASSES) -> Plan:
    graph = Graph.trace(metadata(), arrays(), "test")
    logits = forward(graph)["logits"]
    return make_plan(graph.nodes, {"logits": logits}, passes)


def test_linears_are_fused() -> None:
    linears = [node for node in plan().nodes if isinstance(node, Linear)]
    names = [[matrix.tensor.split(".")[-2] for matrix in node.matrices] for node in linears]
    rest = [["attn_output"], ["ffn_gate", "ffn_up"], ["ffn_down"]]
    first = [["attn_q", "attn_k", "attn_v"], *rest] * (LAYERS - 1)
    assert names == [*first, ["attn_q"], ["attn_k", "attn_v"], *rest, ["output"]]
    assert [node.gate for node in linears if node.gate] == ["silu"] * LAYERS
    assert sum(node.add is not None for node in linears) == 2 * LAYERS


def test_one_rope_table_serves_all_layers() -> None:
    assert sum(isinstance(node, RopeTable) for node in plan().nodes) == 1


def test_heads_are_turned_where_they_lie() -> None:
    made = plan()
    turned = [node for node in made.nodes if isinstance(node, Rotate)]
    assert len(turned) == 2 * LAYERS
    assert all(made.places[node.x] == made.places[node.outputs[0]] for node in turned)


def test_only_wanted_rows_pass_the_last_attention() -> None:
    nodes = plan().nodes
    last = next(i for i, node in reversed(list(enumerate(nodes))) if isinstance(node, Attention))
    assert all(node.rows == "wanted" for node in nodes[last:])
    picked = [node for node in nodes if isinstance(node, Copy)]
    assert all(node.picks and node.rows == "wanted" for node in picked) and len(picked) == 3
    made_for_all = {value for node in nodes if node.rows == "all" for value in node.outputs}
    for node in nodes:
        if node.rows == "wanted" and node not in picked:
            kept = {node.kept} if isinstance(node, Attention) else set()
            assert not made_for_all.intersection(set(node.inputs) - kept)


@pytest.mark.parametrize("passes", [PASSES, ()], ids=["all", "none"])
def test_live_values_do_not_overlap(passes: tuple[Pass, ...]) -> None:
    made = plan(passes)
    last_use = {made.places[value].buffer: len(made.nodes) for value in made.outputs.values()}
    for i, node in enumerate(made.nodes):
        for value in (*node.inputs, *node.outputs):
            if value in made.places:
                buffer = made.places[value].buffer
                last_use[buffer] = max(last_use.get(buffer, 0), i)
    born: set[object] = set()
    for i, node in enumerate(made.nodes):
        born.update(made.places[value].buffer for value in node.outputs if value in made.places)
        alive = [buffer for buffer, last in last_use.items() if buffer in born and last >= i]
        spans = sorted((buffer.offset, buffer.offset + buffer.width) for buffer in alive)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans)), node
        assert spans[-1][1] <= made.arena_width
