"""Matrices of experts rounded, each by the tokens that it was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.adjoints.experts import chosen_by
from ggufpy.calibrate.adjoints.passed import Passed
from ggufpy.calibrate.groups import Group
from ggufpy.calibrate.streams import Floats, Runner
from ggufpy.gguf.reader import TensorInfo
from ggufpy.graph.nodes import Route
from ggufpy.quants import decode
from ggufpy.quants.moment import Moment
from ggufpy.runtime.stages import Stage

# An expert counts as if it had been given so many more tokens than it was, per column, as others were.
_SHARED = 0.25


class Given:
    """What the experts of a group read: rows (tokens * slots, n), and which expert each is for."""

    def __init__(self, rows: Floats, chosen: NDArray[np.int64], count: int) -> None:
        slots = chosen.shape[1]
        self._rows, self._chosen, self._count = rows, chosen.reshape(-1), count
        self._step = 1 if len(rows) == len(self._chosen) else slots  # slots of a token read one row
        self._all = _squared(rows) / len(rows)

    @property
    def is_nothing(self) -> bool:
        """Whether all that experts read is zeros."""
        return not self._all.any()

    def moments(self, damping: float) -> Iterator[Moment]:
        """Of each expert; few tokens count together with those of all."""
        for expert in range(self._count):
            rows = self._rows[np.flatnonzero(self._chosen == expert) // self._step]
            shared = _SHARED * rows.shape[1]
            yield Moment((_squared(rows) + shared * self._all) / (len(rows) + shared), damping)


def given(
    runner: Runner, stage: Stage, group: Group, rows: Floats, tensors: Mapping[str, TensorInfo], count: int
) -> Given:
    """Run a layer as far as the experts of a group read. rows: what it reads, (tokens, width)."""
    route = next(node for node in stage.nodes if isinstance(node, Route) and group.route in node.outputs)
    assert group.route is not None
    found = runner.run(stage.nodes, {"reads": group.reads, "logits": route.logits}, rows, tensors)

    def weight(name: str) -> Floats:
        source = tensors[name].source()
        return decode(source.read(0, source.rows), source.type).reshape(source.shape)

    passed = Passed(stage.nodes, {route.logits: found["logits"]}, weight)
    return Given(found["reads"].reshape(-1, group.reads.shape[-1]), chosen_by(passed, group.route), count)


def _squared(rows: Floats) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = (rows.T @ rows).astype(np.float64)
    return squares
