"""Measuring by turns, so that a slow moment of the machine hits all; ratios of what was measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from statistics import median

Times = dict[str, list[float]]
Row = dict[str, str]  # of a table: column, cell


def take_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """Seconds of each contestant in each round, after one that does not count."""
    times: Times = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            seconds = run()
            if number > 0:
                times[name].append(seconds)
        print(f"round {number} of {rounds}", file=sys.stderr)
    return times


def rates(times: Times, n_tokens: int) -> Row:
    """Tokens per second of each, the median."""
    return {f"{name} tok/s": f"{n_tokens / median(seconds):.1f}" for name, seconds in times.items()}


def ratio(times: Times, slow: str, fast: str, factor: float = 1.0) -> str:
    """`factor` times the seconds of `slow` over those of `fast`: median, least and most of all rounds."""
    ratios = [factor * a / b for a, b in zip(times[slow], times[fast], strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def ratios(times: Times) -> Row:
    """Ggufpy's speed over that of each other one."""
    return {f"ggufpy / {name}": ratio(times, name, "ggufpy") for name in times if name != "ggufpy"}


def print_table(rows: Mapping[str, Row]) -> None:
    """Markdown: a line per file, a column per figure."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print("| file |", " | ".join(columns), "|")
    print("|---|" + "---|" * len(columns))
    for name, row in rows.items():
        print(f"| {name} |", " | ".join(row.get(column, "") for column in columns), "|")
