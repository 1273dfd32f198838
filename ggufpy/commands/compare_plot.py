"""The plot of `ggufpy compare`: how far models are from the base, against their size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure

from ggufpy.commands.compare_output import Row
from ggufpy.commands.console import printable
from ggufpy.gguf.outputs import whole_files

_MIB = 2**20
_LEAST = 1e-6  # nats: what is nearer to the base is the base


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Write a PNG. A line joins those than which none is both smaller and nearer to the base."""
    shown = [row for row in rows if _kl(row) > _LEAST]
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    caches = list(dict.fromkeys(row.cache for row in rows))
    for marker, cache in zip(cycle("os^Dv"), caches, strict=False):
        these = [row for row in shown if row.cache == cache]
        errors = [row.quality.kl.error for row in these]
        axes.errorbar(*_places(these), errors, fmt=marker, capsize=3, label=f"{cache} KV cache")
    axes.plot(*_places(_best(shown)), color="gray", alpha=0.5, zorder=0)
    for row in {row.model: row for row in reversed(shown)}.values():  # each model's first
        place = row.n_bytes / _MIB, _kl(row)
        name = printable(row.model.stem)
        axes.annotate(name, place, textcoords="offset points", xytext=(6, 4), fontsize=8)
    if shown:
        axes.set_yscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(low, high + 0.35 * (high - low))  # room for the last names
    if len(caches) > 1:
        axes.legend()
    axes.set_xlabel("size of the tensors, MiB")
    axes.set_ylabel(f"mean KL from {printable(rows[0].model.stem)}, nats per token")
    axes.grid(which="both", alpha=0.3)
    with whole_files([path]) as [stream]:
        figure.savefig(stream, format="png", dpi=120)


def _places(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row.n_bytes / _MIB for row in rows], [_kl(row) for row in rows]


def _best(rows: Sequence[Row]) -> list[Row]:
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.n_bytes, _kl(row))):
        if not best or _kl(row) < _kl(best[-1]):
            best.append(row)
    return best


def _kl(row: Row) -> float:
    return row.quality.kl.value
