"""Texts are cut into words: by a program of pretokenizers.py, or as a checkpoint's tokenizer.json says."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Protocol

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from ggufpy.tokenizers.libraries import errors_of_rust, parsed, parts
from ggufpy.tokenizers.pretokenizers import PreTokenizer
from ggufpy.tokenizers.special import PRE_TOKENIZER_KEY
from ggufpy.tokenizers.words import Words

# Stands between words while a program runs: in no class of its expressions, and hardly ever in a text.
_MARK = "\x1e"

# Characters: between matches a step is tried at each, and Oniguruma panics after ten million tries. More than
# five of one character no step needs. A single step matches nearly everywhere.
_LONG = 1 << 20

_CLASS = re.compile(r"\[(?:\\.|[^\]\\])*\]")
_LOOKS_BACK = re.compile(r"\\[AzGb]|\$|\(\?<")


class Cutter(Protocol):
    """What cuts a text, or the part of one between added tokens; is_first: it starts the whole text."""

    def cut(self, text: str, is_first: bool) -> Words:
        """The words; raises TokenizerError where a library gives up."""


class Uncut:
    """Cutter: the text is one word."""

    def cut(self, text: str, is_first: bool) -> Words:
        """The text."""
        return Words.of([text])


class Program:
    """Cutter: by the expressions of a program.

    `tokenizers` cuts slowly, as it remembers where each character came from. Replacing is many times faster:
    where every step allows it, the place behind each match is replaced by a mark.
    """

    def __init__(self, program: PreTokenizer) -> None:
        self._steps = program.steps
        marks = [_marking(step, number) for number, step in enumerate(self._steps)]
        regexes = [tokenizers.Regex(mark) for mark in marks if mark]
        replace = [normalizers.Replace(regex, _MARK) for regex in regexes]
        self._marks = normalizers.Sequence(replace) if len(replace) == len(marks) else None

    def cut(self, text: str, is_first: bool) -> Words:
        """The words of a text."""
        with errors_of_rust(f"a text of {len(text)} characters cannot be cut into words", "divide it"):
            is_long = len(text) > _LONG and len(self._steps) > 1
            if self._marks is None or is_long or _MARK in text:
                return Words.of([word for word, _ in self.split.pre_tokenize_str(text)])
            return Words(self._marks.normalize_str(text).encode(), ord(_MARK))

    @cached_property
    def split(self) -> pre_tokenizers.PreTokenizer:
        """The program as `tokenizers` cuts by it."""
        steps = [pre_tokenizers.Split(tokenizers.Regex(step), "isolated") for step in self._steps]
        return pre_tokenizers.Sequence(steps)


def _marking(regex: str, number: int) -> str | None:
    """An expression for the places behind the matches of a step, and behind what lies between them.

    number: of the step; the first one meets no marks. None where a step looks at what lies before it, or at
    the ends of pieces, as these would have to be the marks.
    """
    if _LOOKS_BACK.search(_CLASS.sub("", regex)):
        return None
    if number:
        regex = regex.replace("[^", f"[^{_MARK}").replace(r"\S", rf"[^\s{_MARK}]")
    return rf"(?:{regex}|(?>(?:(?!{regex})[^{_MARK}])++))\K"


class Described:
    """Cutter: by a pre_tokenizer of a tokenizer.json."""

    def __init__(self, description: str) -> None:
        """Raises TokenizerError for what `tokenizers` cannot read."""
        block = parsed(description, PRE_TOKENIZER_KEY)
        self._first = parts(pre_tokenizer=block).pre_tokenizer
        # Metaspace may put a space in front of what starts a text, as pre_tokenize_str thinks all texts do.
        self._later = parts(pre_tokenizer=_never_first(block)).pre_tokenizer

    def cut(self, text: str, is_first: bool) -> Words:
        """The words of a text."""
        with errors_of_rust(f"a text of {len(text)} characters cannot be cut into words", "divide it"):
            cutter = self._first if is_first else self._later
            return Words.of([word for word, _ in cutter.pre_tokenize_str(text)])


def _never_first(block: Any) -> Any:
    """The same block, for texts that are not the first."""
    if isinstance(block, list):
        return [_never_first(each) for each in block]
    if not isinstance(block, dict):
        return block
    changes = {"prepend_scheme": "never"} if block.get("prepend_scheme") == "first" else {}
    return {key: _never_first(value) for key, value in block.items()} | changes
