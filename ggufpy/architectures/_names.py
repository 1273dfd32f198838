"""What a checkpoint calls the tensors of a GGUF file, and what happens to them on the way.

NAMES of an architecture: name in the file -> name in the checkpoint, both without the ".weight" and ".bias"
that follow; {i} is the layer, {e} the expert. Around a name there may be functions of this file. Of a tuple
of ways, and of several lines for one tensor, the first counts whose tensors are there. The file has the order
of the table, its lines with {i} for one layer after the other. Which tensors there must be, and their shapes,
`forward` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf import sources
from ggufpy.gguf.sources import Which
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.values import Typed, Value

Metadata = Mapping[str, Value | Typed]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands. part: "weight", "bias" or "scale", nothing where a table has the whole name.

    layer: 0 outside of layers. keys: the architecture's metadata, without its prefix. tokens: how many the
    vocabulary has.
    """

    config: Mapping[str, Any]
    keys: Metadata
    tokens: int
    layer: int = 0
    part: str = ""
    expert: int = 0

    def count(self, key: str) -> int:
        """A number of the metadata, in this layer."""
        value = self.keys[key]
        value = value.value if isinstance(value, Typed) else value
        number = value[self.layer] if isinstance(value, list) else value
        assert isinstance(number, int)
        return number

    def filled(self, name: str) -> str:
        """A name of a table, of either side, for this place."""
        return name.format(i=self.layer, e=self.expert) + (f".{self.part}" if self.part else "")


@dataclass(frozen=True, slots=True)
class Way:
    """How to make a tensor of the file: from which tensors of the checkpoint, by their names, and how.

    whole: names, on both sides, are those of one tensor, so nothing is put behind them.
    """

    names: Callable[[Place], list[str]]
    make: Callable[[Place, list[TensorSource]], TensorSource | None]
    whole: bool = False


Names = Mapping[str, str | Way | tuple[str | Way, ...]]


def ways(entry: str | Way | tuple[str | Way, ...]) -> list[Way]:
    """The ways of a table's entry."""
    return [_way(each) for each in (entry if isinstance(entry, tuple) else (entry,))]


def _way(of: str | Way) -> Way:
    if isinstance(of, Way):
        return of
    return Way(lambda place: [place.filled(of)], _first)


def _first(place: Place, found: list[TensorSource]) -> TensorSource:
    return found[0]


def _changed(of: str | Way, change: Callable[[Place, TensorSource], TensorSource]) -> Way:
    way = _way(of)

    def make(place: Place, found: list[TensorSource]) -> TensorSource | None:
        made = way.make(place, found)
        return None if made is None else change(place, made)

    return replace(way, make=make)


def tensor(name: str) -> Way:
    """The one tensor of this whole name."""
    return replace(_way(name), whole=True)


def renamed(name: str, **endings: str) -> Way:
    """Parts that end otherwise than in "weight" and "bias": what stands in place of these."""

    def names(place: Place) -> list[str]:
        ending = endings.get(place.part, place.part)
        return [f"{replace(place, part='').filled(name)}.{ending}"]

    return Way(names, _first)


def when(is_so: Callable[[Place], bool], of: str | Way) -> Way:
    """A way that there is for some configurations only."""
    way = _way(of)

    def make(place: Place, found: list[TensorSource]) -> TensorSource | None:
        return way.make(place, found) if is_so(place) else None

    return Way(lambda place: way.names(place) if is_so(place) else [], make, way.whole)


def unless_zero(of: Way) -> Way:
    """A small tensor, if it would change anything."""

    def make(place: Place, found: list[TensorSource]) -> TensorSource | None:
        made = of.make(place, found)
        return made if made is not None and made.read(0, made.rows).any() else None

    return replace(of, make=make)


def constant(values: Callable[[Mapping[str, Any]], NDArray[np.float32] | None]) -> Way:
    """Numbers that follow from the configuration, if they do; not in the checkpoint."""

    def make(place: Place, found: list[TensorSource]) -> TensorSource | None:
        computed = values(place.config)
        return None if computed is None else sources.constant("", computed)

    return Way(lambda place: [], make, whole=True)


def pairs(of: str | Way, heads: str, turned: str | None = None) -> Way:
    """Rows, or a bias, reordered for RoPE of neighbours.

    heads: the key that says how many there are. turned: the one that says how many first values of a head
    turn; None for all.
    """

    def change(place: Place, source: TensorSource) -> TensorSource:
        return sources.pairs(source, place.count(heads), place.count(turned) if turned else None)

    return _changed(of, change)


def _experts(place: Place) -> int:
    return place.count("expert_count") if "expert_count" in place.keys else 0


def stack(of: str | Way, count: Callable[[Place], int] = _experts) -> Way:
    """One matrix, or bias, for each {e}, if there are any; count: how many there are."""
    way = _way(of)

    def each(place: Place) -> list[Place]:
        return [replace(place, expert=expert) for expert in range(count(place))]

    def names(place: Place) -> list[str]:
        return [name for one in each(place) for name in way.names(one)]

    def make(place: Place, found: list[TensorSource]) -> TensorSource | None:
        rest = iter(found)
        made = [way.make(one, list(islice(rest, len(way.names(one))))) for one in each(place)]
        if not made:
            return None
        stacked = sources.stack([source for source in made if source is not None])
        return sources.reshaped(stacked, (len(made),)) if place.part == "scale" else stacked

    return Way(names, make, way.whole)


def rows(of: str | Way, which: Which | Callable[[Place], Which]) -> Way:
    """Some outputs: rows of a matrix, or of each of several, elements of a bias."""

    def change(place: Place, source: TensorSource) -> TensorSource:
        chosen = which(place) if callable(which) else which
        return sources.columns(source, chosen) if place.part == "bias" else sources.rows(source, chosen)

    return _changed(of, change)


def columns(of: str | Way, which: Which) -> Way:
    """Some of the last axis."""
    return _changed(of, lambda place, source: sources.columns(source, which))


def ordered(of: str | Way, order: Callable[[Place], NDArray[np.int64]], *, inputs: bool = False) -> Way:
    """All outputs in another order, or all inputs; `rows` and `columns` are for some of them."""

    def change(place: Place, source: TensorSource) -> TensorSource:
        is_last = inputs or len(source.shape) == 1
        which = order(place)
        if source.shape[-1 if is_last else -2] != len(which):
            return source
        return sources.columns(source, which) if is_last else sources.rows(source, which)

    return _changed(of, change)


def padded(of: str | Way) -> Way:
    """As many rows as the vocabulary has tokens: those that are not there are as the first."""
    return _changed(of, lambda place, source: sources.padded(source, place.tokens))


def transposed(of: str | Way) -> Way:
    """Matrices that the checkpoint multiplies from the other side."""
    return _changed(of, lambda place, source: sources.transposed(source))


def reshaped(of: str | Way, shape: Callable[[Place], Sequence[int]]) -> Way:
    """The same numbers in another shape."""
    return _changed(of, lambda place, source: sources.reshaped(source, tuple(shape(place))))


def plus_one(of: str | Way) -> Way:
    """Norms that multiply with 1 + weight; a bias stays."""
    return _changed(of, lambda place, source: source if place.part == "bias" else sources.plus_one(source))


def scaled(of: str | Way, factors: Callable[[Place], Sequence[float]]) -> Way:
    """Numbers times one factor, or one for each output."""

    def change(place: Place, source: TensorSource) -> TensorSource:
        if place.part == "scale":
            return source
        return sources.scaled(source, np.array(factors(place), np.float32))

    return _changed(of, change)


def negative_exp(of: str | Way) -> Way:
    """-exp(x)."""
    return _changed(of, lambda place, source: sources.negative_exp(source))


def unit_rows(of: str | Way) -> Way:
    """Each row divided by its length."""
    return _changed(of, lambda place, source: sources.unit_rows(source))
