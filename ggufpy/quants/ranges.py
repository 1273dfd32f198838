"""How a range is chosen for the levels of a type, by the weights alone, and how far a scale reaches.

A weight x becomes the level q nearest to (x + low) / step, and stands for step * q - low. The levels are the
integers from a to b: -8 to 7 of q4_0, 0 to 15 of q4_1 (of iq4_nl -127 to 113, some of those between). Types
without minimums have low = 0. The weights that share step and low are a sub-block's, or more: see `Range`.

absmax      types without minimums: step = max |x| / b. With: step = 2 max |x| / b, low = max |x|.
zero-point  step = (max(x, 0) - min(x, 0)) / b, low = step * round(-min(x, 0) / step): 0 stays 0.
percentile  as absmax, with the P-th percentile of |x| for max |x|; with minimums step = (hi - lo) / b and
            low = -lo, of the P-th percentile hi of x and the (100 - P)-th lo. What is beyond is clipped.
mse         the least sum of squared errors, of c times the step and low of percentile=100, c from 0.2 to 1
            by 0.01, and where a is not -b, of the same with minus signs.

Types with two levels of scales have the step d s and the low m t of a sub-block: d = max |step| / max s over
the sub-blocks of a block, s = round(step / d); m and t of the lows, which are 0 at least, alike.
Sources: absmax and zero-point as in LLM.int8() (arXiv 2208.07339), mse as in OMSE (arXiv 1902.06822).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.clipping import least_error
from ggufpy.quants.grids import GRIDS, Grid, Parts

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

RANGES = ("absmax", "zero-point", "percentile=P", "mse")
GRANULARITIES = ("tensor", "channel", "group=N")

_SHARES: Floats = np.arange(100, 19, -1).astype(np.float32) / np.float32(100)


@dataclass(frozen=True, slots=True)
class Range:
    """method: a name of RANGES. percentile: of that one. reach: how many columns share a scale.

    reach None: those of a sub-block, as the type has it; "channel": a row; "tensor": all rows of a matrix.
    """

    method: str
    percentile: float = 100.0
    reach: int | str | None = None

    @classmethod
    def named(cls, method: str, granularity: str | None = None) -> Range:
        """By their names in RANGES and GRANULARITIES, with numbers; raises FormatError for others."""
        name, _, number = method.partition("=")
        reach = None if granularity is None else _reach(granularity)
        if name == "percentile":
            if not re.fullmatch(r"\d+(\.\d+)?", number) or not 50 < float(number) <= 100:
                raise FormatError(f"method {method!r:.40}: percentile=P, P above 50 and at most 100")
            return cls(name, float(number), reach)
        if method not in RANGES:
            raise FormatError(f"method {method!r:.40} is unknown; known are {', '.join(RANGES)}")
        return cls(name, reach=reach)

    @property
    def names(self) -> tuple[str, ...]:
        """As a person gives them: the method, and the granularity where there is one."""
        method = f"percentile={self.percentile:g}" if self.method == "percentile" else self.method
        if self.reach is None:
            return (method,)
        return method, f"group={self.reach}" if isinstance(self.reach, int) else self.reach

    def check(self, name: str, type: GGMLType, columns: int) -> None:
        """Raises FormatError where a tensor of so many columns cannot have this range in that type."""
        grid = GRIDS.get(type)
        if grid is None or grid.has_powers:
            known = ", ".join(type.label for type, each in GRIDS.items() if not each.has_powers)
            remedy = f"choose a type of {known}, or no --method"
            raise FormatError(f"tensor '{name}': {type.label} has no free scale for {self.method}; {remedy}")
        if self.method == "zero-point" and not (grid.is_flat and grid.has_minimum):
            remedy = "choose q4_1 or q5_1 (--pure: for all), or another method"
            raise FormatError(f"tensor '{name}': {type.label} has no free zero-point; {remedy}")
        if isinstance(self.reach, int) and (self.reach % grid.sub or columns % self.reach):
            remedy = f"choose a multiple of {grid.sub} that divides {columns}"
            problem = f"groups of {self.reach} do not fit {type.label}, a scale per {grid.sub} weights"
            raise FormatError(f"tensor '{name}': {problem}, in rows of {columns}; {remedy}")

    def scales(self, x: Floats, grid: Grid) -> tuple[Floats, Floats]:
        """Step and low of each sub-block of (rows, n): (rows, n / sub). With "tensor", x is the matrix."""
        rows, n = x.shape
        if isinstance(self.reach, int):
            width = self.reach
        else:
            width = {None: grid.sub, "channel": n, "tensor": x.size}[self.reach]
        groups = x.reshape(-1, width)
        if self.method == "absmax":
            most = np.abs(groups).max(axis=1)
            step, low = _of_ends(-most, most, grid)
        elif self.method == "zero-point":
            step, low = _with_zero(groups, grid)
        else:
            step, low = _of_ends(*_ends(groups, self.percentile, grid), grid)
        if self.method == "mse":
            groups = np.require(groups, np.float32, ["C", "A", "W"])  # as it is compiled for
            least_error(groups, step, low, grid.levels, _middles(grid), grid.is_flat, _SHARES)
        times = width // grid.sub
        return np.repeat(step, times).reshape(rows, -1), np.repeat(low, times).reshape(rows, -1)


def _reach(granularity: str) -> int | str:
    found = re.fullmatch(r"group=([1-9]\d{0,8})", granularity)
    if found:
        return int(found[1])
    if granularity not in ("tensor", "channel"):
        raise FormatError(f"granularity {granularity!r:.40} is unknown; known are {', '.join(GRANULARITIES)}")
    return granularity


def _of_ends(least: Floats, most: Floats, grid: Grid) -> tuple[Floats, Floats]:
    """Step and low, so that the levels reach from the one to the other."""
    last = grid.levels[-1]
    if not grid.has_minimum:
        return np.maximum(-least, most) / last, np.zeros_like(most)
    if not grid.is_flat:  # m t is 0 at least
        least = np.minimum(least, np.float32(0))
    return np.maximum(most - least, np.float32(0)) / last, -least


def _ends(groups: Floats, percentile: float, grid: Grid) -> tuple[Floats, Floats]:
    """What shall be the ends of the levels."""
    if not grid.has_minimum:
        groups = np.abs(groups)
    if percentile == 100:
        least, most = groups.min(axis=1), groups.max(axis=1)
    else:
        least, most = np.percentile(groups, (100 - percentile, percentile), axis=1).astype(np.float32)
    return (least, most) if grid.has_minimum else (-most, most)


def _with_zero(groups: Floats, grid: Grid) -> tuple[Floats, Floats]:
    """Such that 0 is one of the levels."""
    zero = np.float32(0)
    step, low = _of_ends(np.minimum(groups.min(axis=1), zero), np.maximum(groups.max(axis=1), zero), grid)
    # As f16 has the step, so that the low is a multiple of what the file says.
    step = step.astype(np.float16).astype(np.float32)
    return step, step * np.rint(np.divide(low, step, out=np.zeros_like(low), where=step > 0))


def _middles(grid: Grid) -> Floats:
    """Between levels; none where these are all integers of a range."""
    levels = grid.levels
    return levels[:0] if (np.diff(levels) == 1).all() else (levels[1:] + levels[:-1]) / np.float32(2)


def encode_with(x: Floats, step: Floats, low: Floats, grid: Grid) -> Bytes:
    """Blocks of (rows, n), with step and low of each sub-block, (rows, n / sub), or nearly."""
    if grid.is_flat:
        sign = np.float32(grid.t_range[0])  # -1, or 0 without minimums
        d, m, s, t = step, low * sign, np.ones_like(step), np.full_like(low, sign)
    else:
        d, s = _two_levels(step, grid, grid.s_range)
        m, t = _two_levels(low, grid, grid.t_range)
    d, m = (each.astype(np.float16).astype(np.float32) for each in (d, m))
    parts = Parts(d, m, s.astype(np.int32), t.astype(np.int32), np.zeros(x.shape, np.int32))
    per_block = grid.block // grid.sub
    own_step = np.repeat(np.repeat(d, per_block, 1) * s, grid.sub, 1)
    own_low = np.repeat(np.repeat(m, per_block, 1) * t, grid.sub, 1)
    ratio = np.divide(x + own_low, own_step, out=np.zeros_like(x), where=own_step != 0)
    middles = _middles(grid)
    if middles.size:
        parts.q = np.searchsorted(middles, ratio).astype(np.int32)
    else:
        first = grid.levels[0]
        parts.q = (np.rint(np.clip(ratio, first, grid.levels[-1])) - first).astype(np.int32)
    return grid.data(parts)


def _two_levels(values: Floats, grid: Grid, limits: tuple[int, int]) -> tuple[Floats, Floats]:
    """Of sub-blocks, (rows, n / sub), the f16 values of blocks, (rows, n / block), and integers."""
    blocks = values.reshape(len(values), -1, grid.block // grid.sub)
    whole = np.abs(blocks).max(axis=2) / np.float32(max(limits[1], 1))
    whole = whole.astype(np.float16).astype(np.float32)
    ratio = np.divide(blocks, whole[..., None], out=np.zeros_like(blocks), where=whole[..., None] > 0)
    return whole, np.clip(np.rint(ratio), *limits).reshape(values.shape)
