"""The planner fuses what belongs together and never lets live values overlap."""

from itertools import pairwise

from random_llama import LAYERS, arrays, metadata

from ggufpy.architectures.llama import forward
from ggufpy.graph import Graph
from ggufpy.graph.hyperparameters import Hyperparameters
from ggufpy.runtime.plan import GatherStep, LinearStep, Plan, RopeTableStep, Step, Value, make_plan


def plan() -> Plan:
    graph = Graph(Hyperparameters.read(metadata(), "test"), arrays(), "test")
    return make_plan(graph, forward(graph))


def test_linears_are_fused() -> None:
    linears = [step for step in plan().steps if isinstance(step, LinearStep)]
    names = [[n.tensor.split(".")[-2] for n in step.linears] for step in linears]
    layer = [["attn_q", "attn_k", "attn_v"], ["attn_output"], ["ffn_gate", "ffn_up"], ["ffn_down"]]
    assert names == [*layer * LAYERS, ["output"]]
    assert [step.gated for step in linears] == [*[False, False, True, False] * LAYERS, False]
    assert [len(step.src) for step in linears] == [*[1, 2, 1, 2] * LAYERS, 1]


def test_one_rope_table_serves_all_layers() -> None:
    assert sum(isinstance(step, RopeTableStep) for step in plan().steps) == 1


def test_only_wanted_rows_pass_the_last_feed_forward() -> None:
    steps = plan().steps
    first = next(i for i, step in enumerate(steps) if step.out_rows)
    assert all(step.out_rows for step in steps[first:])
    assert [type(step) for step in steps[first : first + 3]] == [GatherStep, GatherStep, LinearStep]
    outside = {value for step in steps[:first] for value in step.dst}
    assert not any(value in outside for step in steps[first + 2 :] for value in step.src)


def test_live_values_do_not_overlap() -> None:
    made = plan()
    steps: list[Step] = made.steps
    last_use: dict[Value, int] = {}
    for i, step in enumerate(steps):
        last_use.update(dict.fromkeys([*step.src, *step.dst], i))
    last_use[made.output] = len(steps)
    for i, step in enumerate(steps):
        alive = {v for s in steps[: i + 1] for v in s.dst if last_use[v] >= i}
        spans = sorted((v.offset, v.offset + v.width) for v in alive)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans)), step
        assert spans[-1][1] <= made.arena_width
