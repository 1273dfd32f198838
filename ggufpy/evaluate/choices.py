"""Which of several texts a model finds likeliest: HellaSwag, Winogrande, multiple choices.

Texts are compared by the mean log-probability of their tokens, from the first that differs on. Source:
llama.cpp tools/perplexity/perplexity.cpp, hellaswag_score(), winogrande_score(), multiple_choice_score().
Where all of a text's own tokens count, winogrande_score() predicts the first of the second text by the end of
the first; here it is predicted by what stands before both, as its own comment says it should be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ggufpy.errors import GgufpyError
from ggufpy.evaluate.continuations import continuations
from ggufpy.evaluate.task_files import Task
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import Tokenizer

_FEW = 3  # tokens that follow a word: fewer do not decide
_Z = 1.95996398454  # standard deviations that hold 95 %


@dataclass(frozen=True, slots=True)
class Score:
    """How many tasks had a right text as the likeliest one; chance: which part would have by guessing."""

    n_tasks: int
    n_right: int
    chance: float

    @property
    def accuracy(self) -> float:
        """From 0 to 1."""
        return self.n_right / self.n_tasks

    @property
    def error(self) -> float:
        """The standard error of the accuracy."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / max(1, self.n_tasks - 1))

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, which holds the accuracy at 95 %."""
        z, p = _Z * _Z / self.n_tasks, self.accuracy
        half = z * math.sqrt(self.n_tasks * (4 * p * (1 - p) + z)) / (2 * _Z)
        return (p + z / 2 - half) / (1 + z), (p + z / 2 + half) / (1 + z)


@dataclass(frozen=True, slots=True)
class Choice:
    """A task in tokens: what all texts begin with, what each goes on with, and which tokens of that count."""

    shared: list[int]
    rests: list[list[int]]
    counted: list[slice]


def score(
    engine: Engine,
    tokenizer: Tokenizer,
    tasks: Sequence[Task],
    *,
    on_task: Callable[[Score], None] | None = None,
) -> Score:
    """Let a model choose; the engine has room for a sequence more than a task has texts.

    on_task is told the score so far. Raises GgufpyError for tasks that do not fit into the context, or have
    nothing to compare.
    """
    n_right, n_texts, found = 0, 0, Score(0, 0, 0)
    for number, task in enumerate(tasks, 1):
        choice = cut(tokenizer, task, engine.n_ctx, number)
        n_right += int(np.argmax(log_likelihoods(engine, choice))) in task.right
        n_texts += len(task.texts)
        found = Score(number, n_right, number / n_texts)
        if on_task is not None:
            on_task(found)
    return found


def cut(tokenizer: Tokenizer, task: Task, n_ctx: int, number: int) -> Choice:
    """Cut a task, which errors call by its number, into tokens. Raises GgufpyError."""
    tokens = [tokenizer.encode(text) for text in task.texts]
    shortest, longest = min(map(len, tokens)), max(map(len, tokens))
    if longest > n_ctx:
        raise GgufpyError(f"task {number} has {longest} tokens, the context {n_ctx}; give -c {longest}")
    common = max(0, min(_common(tokens), shortest - 1))
    first = 0 if common else 1  # nothing predicts the first token of a text
    if shortest <= first:
        raise GgufpyError(f"task {number} has a text of {shortest} tokens, with none that could be predicted")
    counted = [slice(first, len(each) - common) for each in tokens]
    if task.behind:
        ends = [len(tokenizer.encode(text[:at])) for text, at in zip(task.texts, task.behind, strict=True)]
        counted = _behind(counted, [end - common for end in ends])
    return Choice(tokens[0][:common], [each[common:] for each in tokens], counted)


def _behind(counted: list[slice], ends: list[int]) -> list[slice]:
    """Winogrande's rule: only what follows the words, if that is enough, and never the full stop."""
    if all(
        part.stop > _FEW and part.start <= end < part.stop for part, end in zip(counted, ends, strict=True)
    ):
        counted = [slice(end, part.stop) for part, end in zip(counted, ends, strict=True)]
    return [slice(part.start, max(part.start + 1, part.stop - 1)) for part in counted]


def _common(tokens: Sequence[list[int]]) -> int:
    """How many tokens all begin with."""
    columns = enumerate(zip(*tokens, strict=False))
    return next((i for i, column in columns if len(set(column)) > 1), min(map(len, tokens)))


def log_likelihoods(engine: Engine, of: Choice) -> list[float]:
    """The mean log-probability of what counts of each text."""
    found = continuations(engine, of.shared, of.rests)
    return [-float(each.losses[part].mean()) for each, part in zip(found, of.counted, strict=True)]
