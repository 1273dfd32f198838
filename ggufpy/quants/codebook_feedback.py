"""GPTQ onto types of codebooks: as in feedback.py, with points of a grid in place of levels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.codebook_points import UNIT, Book, Room, book_of, metric_of, room_for
from ggufpy.quants.codebook_search import search_scales
from ggufpy.quants.codebooks import BLOCK, Codebook, Points
from ggufpy.quants.columns import in_parts
from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.lanes import LANES, load, multiply_add, store
from ggufpy.quants.moment import Moment

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]


class Numbers(NamedTuple):
    """A block of each row: d (rows,); s, places of sorted points, and signs, (rows, ...)."""

    d: Floats
    s: Integers
    places: Integers
    signs: Integers


def numbers_of(parts: Points, book: Book, block: int) -> Numbers:
    """Copies."""
    subs, points, units = (_of_block(block, width) for width in (book.sub, book.dims, UNIT))
    places = np.argsort(book.order).astype(np.int32)[parts.p[:, points]]
    return Numbers(parts.d[:, block].copy(), parts.s[:, subs].copy(), places, parts.signs[:, units].copy())


def put_numbers(numbers: Numbers, parts: Points, book: Book, block: int) -> None:
    """The inverse of numbers_of."""
    subs, points, units = (_of_block(block, width) for width in (book.sub, book.dims, UNIT))
    parts.d[:, block], parts.s[:, subs], parts.signs[:, units] = numbers.d, numbers.s, numbers.signs
    parts.p[:, points] = book.order[numbers.places]


def _of_block(block: int, width: int) -> slice:
    count = BLOCK // width
    return slice(block * count, (block + 1) * count)


def round_with_feedback(
    goal: Floats, moment: Moment, codebook: Codebook, start: Points, threads: int
) -> None:
    """Round `goal` (rows, n) column after column into `start`, whose scales the search begins with."""
    book = book_of(codebook)

    def work(rows: slice) -> None:
        values, own = goal[rows].copy(), start.of(rows)
        for block in range(goal.shape[1] // BLOCK):
            begin, end = block * BLOCK, (block + 1) * BLOCK
            panel, numbers = values[:, begin:end].copy(), numbers_of(own, book, block)
            triangle = moment.triangle[begin:end, begin:end].copy()
            errors = np.empty_like(panel)
            _round_block(panel.reshape(-1), triangle.reshape(-1), book, numbers, errors.reshape(-1))
            put_numbers(numbers, own, book, block)
            values[:, end:] -= errors @ moment.triangle[begin:end, end:]

    in_parts(work, len(goal), threads)


@compiled
def _round_block(values: Floats, triangle: Floats, book: Book, numbers: Numbers, errors: Floats) -> None:
    """A block of each row, sub-block after sub-block; values is used up, errors is filled."""
    rows, sub, room = numbers.d.size, book.sub, room_for(book)
    own = np.empty(sub * sub, np.float32)
    for b in range(BLOCK // sub):
        first, end = b * sub, b * sub + sub
        for i in range(sub):
            own[i * sub : i * sub + sub] = triangle[(first + i) * BLOCK + first : (first + i) * BLOCK + end]
        metric = metric_of(own, sub, book.dims)
        for row in range(rows):
            at = row * BLOCK
            load_hints(numbers, row, b, book, room)
            here, s = values[at + first : at + end], numbers.s[row, b]
            numbers.s[row, b] = search_scales(
                here, metric, numbers.d[row], s, np.float32(np.inf), book, room
            )[1]
            store_points(numbers, row, b, book, room)
            errors[at + first : at + end] = room.best_errors
            for j in range(end, BLOCK, LANES):
                value = load(values, at + j)
                for i in range(sub):
                    u = load(triangle, (first + i) * BLOCK + j)
                    value = multiply_add(u, -room.best_errors[i], value)
                store(values, at + j, value)


@compiled
def load_hints(numbers: Numbers, row: int, b: int, book: Book, room: Room) -> None:
    """The points of sub-block b, where the search begins."""
    points = book.sub // book.dims
    for k in range(points):
        room.places[k] = numbers.places[row, b * points + k]


@compiled
def store_points(numbers: Numbers, row: int, b: int, book: Book, room: Room) -> None:
    """What was found for sub-block b."""
    points, units = book.sub // book.dims, book.sub // UNIT
    for k in range(points):
        numbers.places[row, b * points + k] = room.best_places[k]
    for k in range(units):
        numbers.signs[row, b * units + k] = room.best_signs[k]
