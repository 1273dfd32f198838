"""What may be changed in a program or a batch so that it makes no sense, each alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from programs import Batch, Machine
from reference import FUNCTIONS

from ggufpy._kernels import ffi
from ggufpy.graph import Node
from ggufpy.graph import nodes as n
from ggufpy.runtime.records import _FILLS

_STEP = re.compile(r"\.?(\w+)|\[(\d+)\]")


def get(thing: Any, path: str) -> Any:
    """What is at `path`, as in "src[0].width"."""
    for name, index in _STEP.findall(path):
        thing = getattr(thing, name) if name else thing[int(index)]
    return thing


def put(thing: Any, path: str, value: Any) -> None:
    """Put something else at `path`."""
    *steps, last = _STEP.finditer(path)
    name, index = last.groups()
    thing = get(thing, path[: steps[-1].end()] if steps else "")
    if name:
        setattr(thing, name, value)
    else:
        thing[int(index)] = value


def more(old: int) -> int:
    return old + 1


def less(old: int) -> int:
    return old - 1


COUNTS: list[tuple[str, Any]] = [
    ("n_rows", 0),
    ("n_rows", less),
    ("n_rows", 46),
    ("n_prompt", -1),
    ("n_prompt", 45),
    ("n_out", -1),
    ("n_out", 45),
    ("n_out_wide", -1),
    ("n_out_wide", 43),
    ("n_sequences", 0),
    ("n_sequences", 2),
    ("n_states", 2),
    ("n_states", 4),
]
ARRAYS_OF_BATCH: list[tuple[str, int, int]] = [
    ("token", 5, -2),
    ("token", 43, 40),
    ("token", 0, -1),  # nothing is given in its stead
    ("place", 0, 35),
    ("place", 2, 39),
    ("place", 3, -1),
    ("place", 43, 64),
    ("place", 42, 41),
    ("sequence", 0, 1),
    ("sequence", 43, 1),
    ("sequence", 43, 3),
    ("first_row", 0, 1),
    ("first_row", 0, -1),
    ("first_row", 1, 0),
    ("first_row", 1, 43),
    ("first_row", 2, 44),
    ("first_row", 3, 43),
    ("first_row", 3, 45),
    ("out_row", 0, -1),
    ("out_row", 1, 2),
    ("out_row", 2, 3),
    ("out_row", 41, 44),
]
# Of the pages with a window, of the others, of the slots.
STATES: list[tuple[int, str, Any]] = [
    (0, "entry[1]", -1),
    (0, "entry[1]", 10**6),
    (0, "is_pages", 0),
    (0, "n_entries", 10**6),
    (1, "entry[0]", -1),
    (1, "entry[2]", 10**6),
    (1, "first[0]", -1),
    (1, "first[1]", 1),
    (1, "first[2]", 2),
    (1, "first[3]", 4),
    (1, "n_entries", 0),
    (2, "entry[0]", -1),
    (2, "entry[5]", 10**6),
    (2, "entry[1]", "the one before"),
    (2, "first[1]", 1),
    (2, "is_pages", 1),
    (2, "n_entries", 10**6),
]
PROGRAM: list[tuple[str, Any]] = [
    ("max_rows", 43),
    ("max_rows", more),
    ("arena_floats", less),
    ("scratch_floats", less),
    ("shared_bytes", less),
    ("n_buffers", 1),
    ("n_states", 2),
    ("n_states", 4),
    ("buffers[0].width", 0),
    ("buffers[0].width", 10**6),
    ("buffers[0].offset", 10**9),
]
VIEW: list[tuple[str, Any]] = [
    ("buffer", -2),
    ("buffer", 10**6),
    ("first", -1),
    ("first", 10**6),
    ("heads", 0),
    ("heads", 2**30),
    ("heads", less),
    ("width", 0),
    ("width", less),
    ("width", 10**6),
    ("stride", 0),
    ("stride", 10**6),
]
# By kind of op, its arguments and its views.
ARGUMENTS: dict[type[Node], list[tuple[str, Any]]] = {
    n.Attention: [
        ("temperature_length", 0),
        *[
            (f"cache.{name}", value)
            for name in ("heads", "key_length", "value_length")
            for value in (0, 3, more)
        ],
        *[(f"cache.{name}", value) for name in ("k_type", "v_type") for value in (1, 2, 99)],
        *[(f"cache.{name}", value) for name in ("k_page_bytes", "v_page_bytes") for value in (less, more)],
        *[("cache.state", value) for value in (-1, 2, 3)],
        ("cache.n_pages", 1),
    ],
    n.Conv: [("size", 1), ("size", more), ("slots.floats", less), ("slots.state", 0), ("slots.n_slots", 1)],
    n.DeltaRule: [("slots.floats", more), ("slots.state", 1), ("slots.state", -1)],
    n.Embed: [
        ("weight.type", 99),
        ("weight.type", 3),
        ("weight.n_in", less),
        ("weight.n_in", 0),
        ("weight.n_out", 30),
        ("weight.n_out", more),
        ("weight.count", 0),
        ("weight.count", 2),
        ("weight.stride", more),
        ("weight.bytes", less),
    ],
    n.Keep: [
        *[
            (f"cache.{name}", value)
            for name in ("heads", "key_length", "value_length")
            for value in (0, less)
        ],
        ("cache.state", 2),
    ],
    n.Linear: [
        ("n_weights", 0),
        ("n_weights", 4),
        ("gate", 99),
        ("weight[0].type", 99),
        ("weight[0].n_in", less),
        ("weight[0].n_out", less),
        ("weight[0].count", 2),
        ("weight[0].stride", less),
        ("weight[0].bytes", less),
    ],
    n.Norm: [("n_weights", 3), ("n_weights", 10**6)],
    n.RopeTable: [("axis[0]", 4), ("axis[7]", -1)],
    n.Route: [
        ("groups", 0),
        ("groups", 5),
        ("groups_used", 0),
        ("groups_used", 2),
        ("lists", ffi.NULL),
        ("chosen", ffi.NULL),
    ],
    n.Scan: [("n_a", 0), ("n_a", 2), ("slots.floats", less), ("slots.state", 0)],
    n.Unary: [("function", -1), ("function", len(FUNCTIONS))],
    n.Vector: [("n", 0), ("n", 3), ("n", -64)],
}


def lies(machine: Machine, batch: Batch) -> Iterator[tuple[str, Any, str, Any]]:
    """What it is, and the struct, the path within it and the value."""
    record = machine.program.record
    for path, value in PROGRAM:
        yield f"program.{path}", record, path, value
    for number, path, value in STATES if len(machine.states) else ():
        lie = batch.states[number].entry[0] if value == "the one before" else value
        yield f"states[{number}].{path}", batch.states[number], path, lie
    for i, node in enumerate(machine.plan.nodes):
        op, where = record.ops[i], f"{type(node).__name__} {i}"
        for value in (-1, 10**6):
            yield f"{where}: kind {value}", op, "kind", value
        for value in (-1, 3):
            yield f"{where}: rows {value}", op, "rows", value
        for view in (*(f"src[{k}]" for k in range(5)), *(f"dst[{k}]" for k in range(3))):
            if get(op, view).buffer < 0:
                continue
            yield f"{where}: {view} is missing", op, f"{view}.buffer", -1
            for name, value in VIEW:
                is_right = name == "stride" and get(op, view).heads == 1
                is_right |= isinstance(node, n.Total) and (name, value) == ("heads", less)  # fewer to add
                if not is_right:
                    yield f"{where}: {view}.{name} {value}", op, f"{view}.{name}", value
        if type(node) in ARGUMENTS:
            arguments = ffi.cast(f"gg_{_FILLS[type(node)][0]} *", op.args)
            for path, value in ARGUMENTS[type(node)]:
                if is_read(arguments, path):
                    yield f"{where}: {path} {value}", arguments, path, value


def is_read(arguments: Any, path: str) -> bool:
    """Whether there is what `path` leads to, or is about."""
    if path.startswith("axis"):
        return bool(arguments.axis)
    return path != "n_weights" or bool(arguments.weight)
