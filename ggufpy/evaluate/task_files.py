"""Tasks in the files that llama-perplexity takes: a text and its continuations, of which some are right.

Source: llama.cpp tools/perplexity/perplexity.cpp, hellaswag_score(), load_winogrande_from_csv(),
multiple_choice_score().
"""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ggufpy.errors import FormatError

_MOST_ANSWERS = 100  # of a multiple choice; more are taken for a file of another kind
_HELLASWAG_LINES = 6

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """Texts that begin alike, one of which the model shall find likeliest.

    right: their numbers. behind: where in each text its own words end, in characters, if what follows them
    shall decide and not they themselves; else empty.
    """

    texts: tuple[str, ...]
    right: frozenset[int]
    behind: tuple[int, ...] = ()


def read_hellaswag(data: bytes, path: object) -> list[Task]:
    """Six lines each: a context, the number of its right ending from 0, four endings.

    Raises FormatError, which calls the file `path`.
    """
    lines = [line.removesuffix("\r") for line in _text(data).removesuffix("\n").split("\n")]
    if len(lines) % _HELLASWAG_LINES:
        problem = f"{len(lines)} lines are no multiple of 6: a context, a number, four endings"
        raise FormatError(f"{path}: {problem}")
    tasks = []
    for start in range(0, len(lines), _HELLASWAG_LINES):
        context, number, *endings = lines[start : start + _HELLASWAG_LINES]
        if number.strip() not in ("0", "1", "2", "3"):
            raise FormatError(
                f"{path}: line {start + 2} is {number[:40]!r}, must be an ending's number, 0 to 3"
            )
        right = frozenset([int(number)])
        tasks.append(Task(tuple(f"{context} {ending}" for ending in endings), right))
    return tasks


def read_winogrande(data: bytes, path: object) -> list[Task]:
    """Lines of CSV: number, a sentence with "_", two words for it, which of them is right, 1 or 2.

    Raises FormatError, which calls the file `path`.
    """
    rows = csv.reader(io.StringIO(_text(data), newline=""))
    tasks = []
    try:
        for row in rows:
            if row:
                tasks.append(_winogrande(row))
    except (csv.Error, ValueError) as error:
        raise FormatError(f"{path}: line {rows.line_num}: {error}") from None
    return tasks


def _winogrande(row: Sequence[str]) -> Task:
    if len(row) != 5 or "_" not in row[1] or row[4].strip() not in ("1", "2"):
        raise ValueError(f"{','.join(row)[:60]!r} is not number, sentence with _, word, word, 1 or 2")
    before, after = row[1].split("_", 1)
    words = row[2:4]
    texts = tuple(before + word + after for word in words)
    return Task(texts, frozenset([int(row[4]) - 1]), tuple(len(before + word) for word in words))


def read_multiple_choice(data: bytes, path: object) -> list[Task]:
    """A binary file: how many tasks, where each is, then the tasks.

    A task is a question, and twice, of which the first counts: how many answers, the answers, for each
    whether it is right. Numbers are 32 bits, in front of a string is its length. Raises FormatError.
    """
    reader = _Reader(data, path)
    n_tasks = reader.number()
    reader.skip(4 * n_tasks)
    tasks = []
    for number in range(n_tasks):
        question = reader.string()
        answers, labels = reader.answers()
        reader.answers()
        right = frozenset(i for i, label in enumerate(labels) if label == 1)
        if not question or not all(answers) or not answers:
            raise FormatError(f"{path}: task {number + 1} of {n_tasks} has no question, or an empty answer")
        tasks.append(Task(tuple(f"{question} {answer}" for answer in answers), right))
    return tasks


class _Reader:
    """Steps through the bytes of a file."""

    def __init__(self, data: bytes, path: object) -> None:
        self._data, self._path, self._at = data, path, 0

    def skip(self, n: int) -> bytes:
        """The next n bytes."""
        found = self._data[self._at : self._at + n]
        if len(found) < n:
            problem = f"byte {self._at} begins {n} bytes, the file has {len(self._data)}"
            raise FormatError(f"{self._path}: {problem}; is it a file of multiple choices?")
        self._at += n
        return found

    def number(self) -> int:
        number: int = struct.unpack("<I", self.skip(4))[0]
        return number

    def string(self) -> str:
        return _text(self.skip(self.number()))

    def answers(self) -> tuple[list[str], tuple[int, ...]]:
        """Answers, and for each whether it is right."""
        n = self.number()
        if n > _MOST_ANSWERS:
            problem = f"a task has {n} answers, must be at most {_MOST_ANSWERS}"
            raise FormatError(f"{self._path}: {problem}; is it a file of multiple choices?")
        return [self.string() for _ in range(n)], struct.unpack(f"<{n}i", self.skip(4 * n))


def drawn(items: Sequence[T], n: int) -> list[T]:
    """The n items that llama-perplexity draws for Winogrande and multiple choices, or all, in their order."""
    if n >= len(items):
        return list(items)
    random, left, found = np.random.RandomState(1), list(items), []
    for _ in range(n):
        share = np.float32(random.randint(2**32, dtype=np.uint32)) * np.float32(2**-32)
        i = min(int(share * np.float32(len(left))), len(left) - 1)
        found.append(left[i])
        left[i] = left[-1]
        left.pop()
    return found


def drawn_hellaswag(items: Sequence[T], n: int) -> list[T]:
    """The n items that llama-perplexity draws for HellaSwag, in its order, or all.

    It draws by std::uniform_int_distribution, which is the standard library's: this is GCC's.
    """
    random, left = np.random.RandomState(1), list(items)
    return [left.pop(_below(random, len(left))) for _ in range(min(n, len(left)))]


def _below(random: np.random.RandomState, n: int) -> int:
    """A number below n, by Lemire's way."""
    while True:
        product = int(random.randint(2**32, dtype=np.uint32)) * n
        if product % 2**32 >= 2**32 % n:
            return product >> 32


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")
