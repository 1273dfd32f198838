"""Batches: the tokens of some spans, cut so that they fit, as the records that C reads."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi
from ggufpy.runtime.state import Sequence, States

Wanted = Literal["none", "last", "all"]

# A span's number, and its tokens from .. to.
Slice = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens to append to a sequence.

    generating: they were generated (int8 numerics under "fast"). logits: the tokens whose results are wanted.
    inputs: rows to take instead of the tokens' embeddings, (tokens, width); the ids are not looked at then.
    angles: what rotary embeddings turn by, (4, tokens), where that is not each token's place.
    """

    sequence: Sequence
    tokens: Items[int]
    generating: bool = False
    logits: Wanted = "last"
    inputs: NDArray[np.float32] | None = None
    angles: NDArray[np.int32] | None = None


def cut(spans: Items[Span], n_batch: int, *, whole: bool) -> Iterator[list[Slice]]:
    """Cut the tokens of all spans into batches; whole: between spans only.

    Rows that are computed together come first: those of prompts, and of these the ones with all logits.
    """
    slices: list[Slice] = []
    room = n_batch
    for i in sorted(range(len(spans)), key=lambda i: (spans[i].generating, spans[i].logits != "all")):
        start, end = 0, len(spans[i].tokens)
        if whole and end > room:
            yield slices
            slices, room = [], n_batch
        while start < end:
            stop = min(end, start + room)
            slices.append((i, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield slices
                slices, room = [], n_batch
    if slices:
        yield slices


def wanted_rows(span: Span, start: int, stop: int) -> range:
    """Rows of tokens start..stop whose results are wanted, counted from `start`."""
    if span.logits == "all":
        return range(stop - start)
    is_end = span.logits == "last" and stop == len(span.tokens)
    return range(stop - start - 1, stop - start) if is_end else range(0)


class Batch:
    """A gg_batch of slices of spans, whose sequences have begun it; one at a time for the same `states`.

    record: the gg_batch. wanted: the span of each wanted row; texts: the span of each slice.
    """

    def __init__(self, spans: Items[Span], slices: Items[Slice], states: States, width: int) -> None:
        self.wanted: list[int] = []
        self.texts = [i for i, *_ in slices]
        self.record = ffi.new("gg_batch *")
        columns = self._columns(spans, slices)
        self.record.n_rows, self.record.n_out = len(columns["token"]), len(columns["out_row"])
        self.record.n_sequences = len(slices)
        self._count_prompts(spans, slices)
        # All integers are in one array: a generated token should cost little beside its arithmetic.
        state = states.columns([spans[i].sequence for i in self.texts])
        parts = [*columns.values(), *(column for pair in state for column in pair)]
        self._integers = np.array([value for part in parts for value in part], np.int32)
        pointer = ffi.from_buffer("int32_t[]", self._integers)
        starts = [0, *accumulate(map(len, parts))]
        for name, start in zip(columns, starts, strict=False):
            setattr(self.record, name, pointer + start)
        for number, record in enumerate(states.records):
            at = len(columns) + 2 * number
            record.first, record.entry = pointer + starts[at], pointer + starts[at + 1]
        self.record.states, self.record.n_states = states.records, len(states)
        if any(spans[i].inputs is not None for i in self.texts):
            self._given = _given(spans, slices, width)
            self.record.given, self.record.given_width = ffi.from_buffer("float[]", self._given), width

    def _columns(self, spans: Items[Span], slices: Items[Slice]) -> dict[str, list[int]]:
        """The fields of the record that are integers of rows and of sequences."""
        columns: dict[str, list[int]] = {
            name: [] for name in ("token", "place", "sequence", "first_row", "out_row")
        }
        for number, (i, start, stop) in enumerate(slices):
            span, n = spans[i], stop - start
            wanted = wanted_rows(span, start, stop)
            columns["first_row"].append(len(columns["token"]))
            columns["out_row"] += [len(columns["token"]) + row for row in wanted]
            columns["token"] += span.tokens[start:stop] if span.inputs is None else [-1] * n
            columns["place"] += range(span.sequence.length, span.sequence.length + n)
            columns["sequence"] += [number] * n
            self.wanted += [i] * len(wanted)
        columns["first_row"].append(len(columns["token"]))
        columns["angle"] = _angles(spans, slices, columns["place"])
        return columns

    def _count_prompts(self, spans: Items[Span], slices: Items[Slice]) -> None:
        # Of a prompt one row of logits is wanted, or all: one alone is not worth the work for many.
        prompts = [(spans[i], stop - start) for i, start, stop in slices if not spans[i].generating]
        self.record.n_prompt = sum(n for _, n in prompts)
        self.record.n_out_wide = sum(n for span, n in prompts if span.logits == "all")


def _angles(spans: Items[Span], slices: Items[Slice], places: list[int]) -> list[int]:
    """What rows turn by, four times all of a batch: their places, unless their span says otherwise."""
    if all(spans[i].angles is None for i, *_ in slices):
        return places * 4
    angles = np.tile(np.array(places, np.int32), (4, 1))
    row = 0
    for i, start, stop in slices:
        given = spans[i].angles
        if given is not None:
            angles[:, row : row + stop - start] = given[:, start:stop]
        row += stop - start
    flat: list[int] = angles.ravel().tolist()
    return flat


def _given(spans: Items[Span], slices: Items[Slice], width: int) -> NDArray[np.float32]:
    """The rows that spans give instead of tokens, zeros for the others: (rows, width)."""
    parts = []
    for i, start, stop in slices:
        given = spans[i].inputs
        parts.append(np.zeros((stop - start, width), np.float32) if given is None else given[start:stop])
    return np.ascontiguousarray(np.concatenate(parts), np.float32)
