"""When scores of tokens say the same as a list of merges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from math import inf

_MOST = 1 << 30  # characters of the two parts of tokens, cut at each place
_LONGEST_RUN = 64


def scores_of(tokens: Iterable[str], merges: Sequence[tuple[str, str]]) -> Mapping[str, float]:
    """SentencePiece's scores from the order of merges: the earlier a token can be made, the higher."""
    scores = dict.fromkeys(tokens, -float(len(merges)))
    for rank in reversed(range(len(merges))):
        scores["".join(merges[rank])] = -float(rank)
    return scores


def scores_say(merges: Sequence[tuple[str, str]], scores: Mapping[str, float], cut_out: Set[str]) -> bool:
    """Whether merging by scores gives what the merges give.

    scores: of the tokens that can be made; any two neighbours whose texts make one are merged. cut_out:
    tokens that are cut out of texts before, so that it does not matter how they can be made.
    """
    return _is_complete(merges, scores, cut_out) and _is_ordered(merges, scores)


def _is_complete(merges: Sequence[tuple[str, str]], scores: Mapping[str, float], cut_out: Set[str]) -> bool:
    """Whether all that could be merged is a merge."""
    listed, tokens = set(merges), scores.keys() - cut_out
    if sum(len(token) ** 2 for token in tokens) > _MOST:
        return False
    for token in tokens:
        for i in range(1, len(token)):
            left, right = token[:i], token[i:]
            if (
                (left in scores or i == 1)
                and (right in scores or i == len(token) - 1)
                and (left, right) not in listed
            ):
                return False
    return True


def _is_ordered(merges: Sequence[tuple[str, str]], scores: Mapping[str, float]) -> bool:
    """Whether of two tokens that may be in each other's way, the one made first has the higher score.

    Runs of one character may be made in another order, if that comes to the same.
    """
    lowest: dict[str, float] = {}
    mixed: set[str] = set()
    disordered: set[str] = set()
    latest = ""
    for left, right in merges:
        token = left + right
        if token not in scores:
            return False
        characters = set(token)
        is_run = len(characters) == 1 and not characters & mixed
        late = set() if token == latest else {c for c in characters if lowest.get(c, inf) <= scores[token]}
        if late and not is_run:
            return False
        disordered |= late
        mixed |= set() if is_run else characters
        lowest.update({c: min(scores[token], lowest.get(c, inf)) for c in characters})
        latest = token
    return all(_runs_agree(character, merges, scores) for character in disordered)


def _runs_agree(character: str, merges: Sequence[tuple[str, str]], scores: Mapping[str, float]) -> bool:
    """Whether runs of a character are cut alike by merges and by scores."""
    ranks = {
        (len(pair[0]), len(pair[1])): float(rank)
        for rank, pair in enumerate(merges)
        if not "".join(pair).strip(character)
    }
    longest = max(map(sum, ranks))
    if longest > _LONGEST_RUN:
        return False
    by_scores = {(left, right): -scores[character * (left + right)] for left, right in ranks}
    lengths = (*range(1, longest + 2), 2 * longest, 2 * longest + 1)
    return all(_merged(length, ranks) == _merged(length, by_scores) for length in lengths)


def _merged(length: int, order: Mapping[tuple[int, int], float]) -> list[int]:
    """The lengths of the tokens that a run becomes if what comes first in `order` is merged first."""
    parts = [1] * length
    while True:
        first, place = min(
            ((order.get(pair, inf), i) for i, pair in enumerate(pairwise(parts))), default=(inf, 0)
        )
        if first == inf:
            return parts
        parts[place : place + 2] = [sum(parts[place : place + 2])]
