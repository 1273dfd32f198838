"""Tables in Markdown that read well as they are, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ggufpy.commands.console import printable


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], n_left: int = 1) -> Iterator[str]:
    """The lines of a table; its first `n_left` columns are words, the others numbers."""
    cells = [[printable(cell).replace("|", "\\|") if cell else "" for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rules = ["-" * width if i < n_left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    for row in (cells[0], rules, *cells[1:]):
        padded = (
            cell.ljust(width) if i < n_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"| {' | '.join(padded)} |"


def short_names(paths: Sequence[Path]) -> list[str]:
    """What a table calls files: by their names, or where two have the same one by their paths."""
    distinct = len({path.name for path in paths}) == len(set(paths))
    return [path.name if distinct else str(path) for path in paths]
