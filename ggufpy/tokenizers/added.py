"""Added tokens in texts: cut out before anything else happens to a text, as `tokenizers` does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import tokenizers
from tokenizers import models

from ggufpy.tokenizers.libraries import errors_of_rust


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is found by its text.

    lstrip, rstrip: it swallows the white space in front of it, or behind. single_word: only where no letter
    or digit touches it.
    """

    text: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


class Splitter:
    """Finds added tokens from left to right, and of those that begin at one place the longest.

    llama.cpp looks for the longest in the whole text first; that differs only where tokens overlap.
    """

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self._tokens = [token for token in tokens if token.text and _is_valid(token.text)]
        self._beginnings = {token.text[:2] for token in self._tokens}

    def split(self, text: str) -> Iterator[str | int]:
        """The text with ids in place of tokens, without empty stretches."""
        if not any(beginning in text for beginning in self._beginnings):
            if text:
                yield text
            return
        with errors_of_rust(f"a text of {len(text)} characters cannot be searched for tokens", "divide it"):
            found = self._finder.encode(text, add_special_tokens=False)
        end = 0
        for number, (start, stop) in zip(found.ids, found.offsets, strict=True):
            if start > end:
                yield text[end:start]
            yield self._tokens[number].id
            end = stop
        if end < len(text):
            yield text[end:]

    @cached_property
    def _finder(self) -> tokenizers.Tokenizer:
        """A tokenizer that has these tokens and no others; their ids are their places in the list."""
        finder = tokenizers.Tokenizer(models.BPE(cache_capacity=0))
        flags = [
            tokenizers.AddedToken(
                token.text,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                single_word=token.single_word,
                normalized=False,
            )
            for token in self._tokens
        ]
        finder.add_tokens(flags)
        return finder


def _is_valid(text: str) -> bool:
    """Whether a text can have it: no surrogates, which stand for bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
