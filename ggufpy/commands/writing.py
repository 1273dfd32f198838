"""What commands that write GGUF files share: a table of tensors, progress, a summary."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ggufpy.commands.console import printable
from ggufpy.gguf.tensors import TensorSource
from ggufpy.quants.choice.planning import Planned
from ggufpy.quants.formats.compiled import on_compile

OnProgress = Callable[[TensorSource, int], None]

_NAMES_SHOWN = 3


class Plan(Protocol):
    """What will be written, and where."""

    @property
    def path(self) -> Path:
        """The file; of a split model, the name that its shards' names begin with."""

    @property
    def planned(self) -> Sequence[Planned]:
        """Its tensors in their order."""


def show_plan(plan: Plan, sizes: Mapping[Path, int]) -> None:
    """Print, on stdout, the tensors, the summary and the exact sizes of the files."""
    for line in (*table(plan.planned), *summary(plan.planned)):
        print(line)
    for path, size in sizes.items():
        print(f"{path}: {size:,} bytes")


def write_plan(plan: Plan, write: Callable[[OnProgress], list[Path]]) -> None:
    """Call `write`, with progress and a summary on stderr; print the paths of the files on stdout."""
    with _progress(plan) as on_progress:
        paths = write(on_progress)
    for line in summary(plan.planned):
        print(line, file=sys.stderr)
    for path in paths:
        print(path)


def table(planned: Sequence[Planned]) -> Iterator[str]:
    """A line for each tensor: name, shape, types, bytes."""
    for each in planned:
        tensor = each.tensor
        shape = " x ".join(map(str, tensor.shape))
        types = f"{each.source.type.label:>4} -> {tensor.type.label:<7}"
        yield f"{printable(tensor.name):<28} {shape:<16} {types} {tensor.n_bytes:>13,}"


def summary(planned: Sequence[Planned]) -> Iterator[str]:
    """Types, tensors that could not have theirs and why, sizes before and after, bits per weight."""
    if not planned:
        yield "no tensors, metadata only"
        return
    yield "types: " + ", ".join(_types(planned))
    yield from _fallbacks(planned)
    if any(each.calibrated for each in planned):
        missing = [each.tensor.name for each in planned if _lacks_importance(each)]
        if missing:
            yield f"not in the importance matrix: {some(missing)}"
    before, after = (sum(t.n_bytes for t in tensors) for tensors in zip(*_pairs(planned), strict=True))
    weights = sum(each.tensor.rows * each.tensor.columns for each in planned)
    bits = 8 * after / max(weights, 1)
    yield f"{len(planned)} tensors, {before / 1e6:,.1f} -> {after / 1e6:,.1f} MB, {bits:.2f} bits per weight"


def _pairs(planned: Sequence[Planned]) -> Iterator[tuple[TensorSource, TensorSource]]:
    return ((each.source, each.tensor) for each in planned)


def _types(planned: Sequence[Planned]) -> Iterator[str]:
    count, n_bytes = Counter[str](), Counter[str]()
    for each in planned:
        count[each.tensor.type.label] += 1
        n_bytes[each.tensor.type.label] += each.tensor.n_bytes
    for type, total in n_bytes.most_common():
        yield f"{count[type]} {type} ({total / 1e6:,.1f} MB)"


def _fallbacks(planned: Sequence[Planned]) -> Iterator[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for each in planned:
        wanted = each.decision.wanted
        if wanted is not None and each.decision.is_fallback:
            why = f"blocks of {wanted.block_size} do not divide rows of {each.tensor.columns}"
            groups[f"{each.tensor.type.label} in place of {wanted.label}, {why}"].append(each.tensor.name)
    for what, names in groups.items():
        yield f"{what}: {some(names)}"


def _lacks_importance(each: Planned) -> bool:
    changed = each.tensor.type is not each.source.type
    return changed and each.tensor.type.block_size > 1 and not each.calibrated


def some(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(map(printable, names[:_NAMES_SHOWN])) + more


@contextmanager
def _progress(plan: Plan) -> Iterator[OnProgress]:
    """Progress on stderr: a bar with rate and time left on a terminal, elsewhere only the lines around it."""
    console = Console(stderr=True)
    total = sum(each.tensor.n_bytes for each in plan.planned)
    _say(console, f"{plan.path}: {len(plan.planned)} tensors, {total / 1e6:,.1f} MB")
    start = time.monotonic()
    columns = (
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        with _told_of_compiling(console):
            yield lambda tensor, n_bytes: progress.update(
                task, advance=n_bytes, description=printable(tensor.name)
            )
    seconds = time.monotonic() - start
    _say(console, f"written in {seconds:.1f} s, {total / 1e6 / max(seconds, 1e-9):,.0f} MB/s")


@contextmanager
def _told_of_compiling(console: Console) -> Iterator[None]:
    """The first time on a machine, half a minute passes before anything is written: a line says why."""
    said: list[bool] = []

    def tell() -> None:
        if not said:
            said.append(True)
            _say(console, "compiling the encoders; their code is kept for the next time")

    on_compile.append(tell)
    try:
        yield
    finally:
        on_compile.remove(tell)


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
