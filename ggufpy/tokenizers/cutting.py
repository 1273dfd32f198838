"""Special tokens cut out of a text: longer ones first, in the whole text, as llama.cpp does it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# What C's isspace takes for space.
_ASCII_SPACES = frozenset(" \t\n\v\f\r")


def _is_space(character: str) -> bool:
    """Whether it is white space, as `tokenizers` has it."""
    return character.isspace() and not "\x1c" <= character <= "\x1f"


class Cutter:
    """Cuts tokens out of texts, in time that grows with the text, whatever the number of tokens in it.

    tokens: texts and ids, in the order in which they are looked for: none is part of a later one. lstrip,
    rstrip: ids of tokens that swallow the white space in front of them, or behind; strip_after: as rstrip,
    but ASCII only.
    """

    def __init__(
        self,
        tokens: Sequence[tuple[str, int]],
        lstrip: frozenset[int],
        rstrip: frozenset[int],
        strip_after: frozenset[int],
    ) -> None:
        self._tokens, self._lstrip, self._rstrip, self._strip_after = tokens, lstrip, rstrip, strip_after
        self._ranks: dict[str, int] = {}
        lengths: dict[str, set[int]] = {}
        for rank, (text, _) in enumerate(tokens):
            self._ranks.setdefault(text, rank)
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(them) for first, them in lengths.items()}
        self._first = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None

    def parts(self, text: str) -> Iterator[str | int]:
        """The ids of the tokens in a text, and the stretches between them that are not empty."""
        found = self._occurrences(text)
        is_taken = bytearray(len(text))
        taken = [each for rank in sorted(found) for each in self._take(text, rank, found[rank], is_taken)]
        done = 0
        for begin, end, id in sorted(taken):
            if done < begin:
                yield text[done:begin]
            yield id
            done = end
        if done < len(text):
            yield text[done:]

    def _occurrences(self, text: str) -> dict[int, list[int]]:
        """Where tokens begin, by their rank; they may overlap."""
        found: dict[int, list[int]] = {}
        for match in self._first.finditer(text) if self._first else ():
            start = match.start()
            for length in self._lengths[match.group()]:
                rank = self._ranks.get(text[start : start + length])
                if rank is not None and start + length <= len(text):
                    found.setdefault(rank, []).append(start)
        return found

    def _take(
        self, text: str, rank: int, starts: list[int], is_taken: bytearray
    ) -> Iterator[tuple[int, int, int]]:
        """Take one token where nothing has been taken, then the white space that it swallows.

        Gives begin, end and id of each.
        """
        token, id = self._tokens[rank]
        mine = []
        for start in starts:
            # What has been taken is no part of this token, so it overlaps one of its ends.
            if not (is_taken[start] or is_taken[start + len(token) - 1]):
                is_taken[start : start + len(token)] = b"\1" * len(token)
                mine.append(start)
        for start in mine:
            begin, end = start, start + len(token)
            while end < len(text) and not is_taken[end] and self._swallows_after(id, text[end]):
                is_taken[end] = 1
                end += 1
            while id in self._lstrip and begin and not is_taken[begin - 1] and _is_space(text[begin - 1]):
                begin -= 1
                is_taken[begin] = 1
            yield begin, end, id

    def _swallows_after(self, id: int, character: str) -> bool:
        return (id in self._rstrip and _is_space(character)) or (
            id in self._strip_after and character in _ASCII_SPACES
        )
