"""When scores of tokens say the same as a list of merges."""

from __future__ import annotations

import pytest

from ggufpy.convert.vocabulary.scoring import scores_of, scores_say

Merges = list[tuple[str, str]]


def says(merges: Merges, *unmade: str, cut_out: tuple[str, ...] = ()) -> bool:
    tokens = {*"abc", *("".join(merge) for merge in merges), *unmade}
    return scores_say(merges, scores_of(tokens, merges), set(cut_out))


@pytest.mark.parametrize(
    ("merges", "unmade", "same"),
    [
        ([], (), True),
        ([("a", "b"), ("ab", "c")], (), True),
        ([("a", "b"), ("b", "c"), ("ab", "c")], (), False),  # not a and bc
        ([("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")], (), True),
        ([("a", "b")], ("bc",), False),  # a token that no merge makes
        ([], ("xy",), False),  # of letters that are no tokens
        (
            [("a", "b"), ("b", "c"), ("ab", "c"), ("c", "a"), ("a", "bc")],
            (),
            False,
        ),  # ca between the ways to abc
    ],
)
def test_ways_to_make_a_token(merges: Merges, unmade: tuple[str, ...], same: bool) -> None:
    assert says(merges, *unmade) is same


def test_how_a_token_is_made_that_is_cut_out_does_not_matter() -> None:
    assert says([("a", "b")], "bc", cut_out=("bc",))


def run(*lengths: tuple[int, int]) -> Merges:
    return [("a" * left, "a" * right) for left, right in lengths]


def test_runs_of_one_character() -> None:
    """Gemma lists all ways to all lengths, the longest token first, mixed."""
    mixed = run((3, 1), (2, 1), (2, 2), (1, 3), (1, 2), (1, 1))
    assert says(mixed)
    assert says([*mixed, ("a", "b")])
    assert not says([("a", "b"), *mixed])
    assert not says(run((1, 1), (1, 2), (2, 2), (2, 1), (1, 3), (3, 1)))


def test_a_run_that_is_too_long_to_try() -> None:
    ways = [(left, length - left) for length in range(2, 70) for left in range(1, length)]
    assert says(run(*ways))
    assert not says(run(*sorted(ways)))
