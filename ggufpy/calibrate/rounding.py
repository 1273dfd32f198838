"""One matrix rounded towards what it should be, given the moment of what it reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.sums import Sums
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.reader import TensorInfo
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import check_range, decode, encode
from ggufpy.quants.grids import Grid
from ggufpy.quants.learned import learn_rounding
from ggufpy.quants.moment import Moment, damped
from ggufpy.quants.rounding import KINDS, descend, round_with_feedback
from ggufpy.quants.two_sided import round_two_sided

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_LEAST = 0.01  # of the mean diagonal, added to it
_ROWS = 8192  # of a matrix that are decoded at a time


def rounded(
    tensor: TensorInfo,
    type: GGMLType,
    moment: Moment,
    threads: int,
    *,
    goal: Callable[[Floats], Floats] = lambda weights: weights,
    fisher: Floats | None = None,
    learned: bool = False,
    first: int = 0,
    last: int | None = None,
) -> Bytes:
    """Rows first .. last of a tensor as blocks of `type`: (rows, bytes).

    goal: what rows should be, of what they are. fisher: G of the outputs, which are then rounded together.
    learned: by descent on shifts, in place of error feedback, where levels are single ones.
    Raises FormatError for weights that the type cannot hold.
    """
    source, kind = tensor.source(), KINDS[type]
    last = source.rows if last is None else last
    step = last - first if fisher is not None else _ROWS
    made = []
    for begin in range(first, last, step):
        data = source.read(begin, min(begin + step, last))
        aim = goal(decode(data, source.type).reshape(-1, source.columns))
        parts = kind.parts(_encoded(tensor.name, aim, type, moment.importance))
        if learned and isinstance(kind, Grid):
            learn_rounding(aim, moment, kind, parts, threads)
        elif fisher is None:
            round_with_feedback(aim, moment, kind, parts, threads)
            descend(aim, moment, kind, parts, threads)
        else:
            round_two_sided(aim, moment, fisher, kind, parts, threads)
        made.append(kind.data(parts))
    return np.concatenate(made)


def made_of(tensor: TensorInfo, type: GGMLType, data: Bytes) -> TensorSource:
    """The tensor with these blocks."""
    return TensorSource(tensor.name, tensor.shape, type, lambda start, stop: data[start:stop])


def solution(sums: Sums) -> Callable[[Floats], Floats]:
    """T of rows of a matrix, by the moments of both streams; the rows themselves where there is one."""
    crossed, lost, h = sums.crossed, sums.lost, sums.h
    if crossed is None:
        return lambda weights: weights
    # T fits what tokens have by chance, the more, the fewer there are to each column.
    solid = damped(h, max(_LEAST, len(h) / sums.tokens))
    turned: Floats = np.linalg.solve(solid, (crossed + (solid - h)).T).T.astype(np.float32)
    added = None if lost is None else np.linalg.solve(solid, lost.T).T

    def goal(weights: Floats) -> Floats:
        found = weights @ turned
        return np.ascontiguousarray(found if added is None else found + added, np.float32)

    return goal


def _encoded(name: str, goal: Floats, type: GGMLType, importance: Floats) -> Bytes:
    try:
        check_range(goal, type)
        return encode(goal, type, importance)
    except FormatError as error:
        raise FormatError(f"tensor {quoted(name)}: {error}") from error
