"""Tasks of `ggufpy perplexity`: which of several texts a model finds likeliest."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from ggufpy.commands.evaluating import opened, progress
from ggufpy.commands.markdown import markdown, short_names
from ggufpy.commands.parser import Parser
from ggufpy.errors import GgufpyError
from ggufpy.evaluate.choices import Score, score
from ggufpy.evaluate.task_files import (
    Task,
    drawn,
    drawn_hellaswag,
    read_hellaswag,
    read_multiple_choice,
    read_winogrande,
)


class _Kind(NamedTuple):
    """How tasks are read and drawn, and how many of them unless the command line says."""

    read: Callable[[bytes, object], list[Task]]
    draw: Callable[[Sequence[Task], int], list[Task]]
    n_tasks: int
    file: str


_KINDS = {
    "hellaswag": _Kind(read_hellaswag, drawn_hellaswag, 400, "six lines for each"),
    "winogrande": _Kind(read_winogrande, drawn, 0, "CSV"),
    "multiple-choice": _Kind(read_multiple_choice, drawn, 0, "binary"),
}


@dataclass(frozen=True, slots=True)
class _Result:
    model: Path
    task: str
    score: Score
    seconds: float

    def row(self) -> dict[str, str]:
        """Column: cell, but for the model's name."""
        of, (low, high) = self.score, self.score.interval
        return {
            self.task: f"{100 * of.accuracy:.2f} ± {100 * of.error:.2f} %",
            "95 %": f"{100 * low:.2f} to {100 * high:.2f}",
            "by chance": f"{100 * of.chance:.2f} %",
            "tasks": f"{of.n_tasks:,}",
            "s": f"{self.seconds:.1f}",
        }

    def line(self) -> str:
        """The same in a line."""
        row = self.row()
        counted = f"{row['tasks']} tasks, by chance {row['by chance']}, {row['s']} s"
        return f"{self.task}: {row[self.task]}, 95 %: {row['95 %']} ({counted})"

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "model": str(self.model),
            "task": self.task,
            "accuracy": self.score.accuracy,
            "stderr": self.score.error,
            "interval": self.score.interval,
            "chance": self.score.chance,
            "n_tasks": self.score.n_tasks,
            "seconds": round(self.seconds, 3),
        }


def task_options(parser: Parser) -> None:
    """Add the options that let a model choose."""
    group = parser.add_argument_group("tasks in place of a text, in llama-perplexity's files")
    kind = group.add_mutually_exclusive_group().add_argument
    for name, of in _KINDS.items():
        kind(f"--{name}", dest="task", action="store_const", const=name, help=f"-f has tasks: {of.file}")
    for name, of in _KINDS.items():
        most = f"draw so many, 0: all; default: {of.n_tasks or 'all'}"
        group.add_argument(f"--{name}-tasks", type=int, default=of.n_tasks, metavar="N", help=most)


def run_tasks(arguments: argparse.Namespace, n_ctx: int) -> None:
    """Let each model choose, and print the scores."""
    kind = _KINDS[arguments.task]
    tasks = kind.read(arguments.file.read_bytes(), arguments.file)
    wanted = getattr(arguments, f"{arguments.task.replace('-', '_')}_tasks")
    tasks = kind.draw(tasks, wanted if wanted > 0 else len(tasks))
    if not tasks:
        raise GgufpyError(f"{arguments.file} has no tasks")
    results = [_result(path, arguments, n_ctx, tasks) for path in arguments.model]
    _show(results, arguments.output)


def _result(path: Path, arguments: argparse.Namespace, n_ctx: int, tasks: list[Task]) -> _Result:
    start = perf_counter()
    n_seq = 1 + max(len(task.texts) for task in tasks)
    with (
        opened(path, arguments, n_ctx, n_seq) as model,
        progress(path, arguments.task, len(tasks)) as tell,
    ):
        found = score(
            model.engine,
            model.tokenizer,
            tasks,
            on_task=lambda of: tell(of.n_tasks, f"{100 * of.accuracy:.2f} %"),
        )
    return _Result(path, arguments.task, found, perf_counter() - start)


def _show(results: list[_Result], output: str) -> None:
    if output == "json":
        records = [result.record() for result in results]
        print(json.dumps(records if len(records) > 1 else records[0]))
    elif len(results) > 1:
        names = short_names([result.model for result in results])
        rows = [{"model": name} | result.row() for name, result in zip(names, results, strict=True)]
        print("\n".join(markdown(list(rows[0]), [list(row.values()) for row in rows])))
    else:
        print(results[0].line())
