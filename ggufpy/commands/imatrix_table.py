"""The table of `ggufpy imatrix --show-statistics`."""

from __future__ import annotations

from collections.abc import Mapping

from ggufpy.calibrate.statistics import Statistics, statistics
from ggufpy.commands.console import printable
from ggufpy.quants.choice.imatrix_file import Squares

_HEADS = (
    *("sum(x^2)", "min", "max", "mean", "deviation", "active", "columns"),
    *("entropy", "evenness", "outliers", "likeness"),
)


def table(entries: Mapping[str, Squares]) -> str:
    """A line for each tensor, those with the largest sums first."""
    rows = [("tensor", *_HEADS), *map(_row, statistics(entries))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        name, *numbers = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(name)), *numbers]))
    return "\n".join(lines)


def _row(of: Statistics) -> tuple[str, ...]:
    return (
        printable(of.name),
        f"{of.total:.2f}",
        f"{of.least:.4f}",
        f"{of.most:.4f}",
        f"{of.mean:.4f}",
        f"{of.deviation:.4f}",
        f"{of.active:.2%}",
        f"{of.columns}",
        f"{of.entropy:.4f}",
        f"{of.evenness:.2%}",
        f"{of.outliers:.2%}",
        "-" if of.likeness is None else f"{of.likeness:.4f}",
    )
