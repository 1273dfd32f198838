"""Text from bytes: whole characters, stop strings."""

import itertools

import pytest

from ggufpy.generate.stream import TextStream


def stream(data: list[bytes], stop: list[str]) -> tuple[list[str], bool]:
    text = TextStream(stop)
    pieces = [text.push(piece) for piece in data]
    return [*pieces, text.finish()], text.stopped


def test_a_character_comes_when_it_is_whole() -> None:
    pieces, _ = stream([bytes([byte]) for byte in "aé€😀".encode()], [])
    assert pieces == ["a", "", "é", "", "", "€", "", "", "", "😀", ""]


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert stream([b"a\xff", b"b\xe2", b"c"], [])[0] == ["a\ufffd", "b", "\ufffdc", ""]


def test_an_unfinished_last_character_is_left_out() -> None:
    assert stream([b"a\xe2\x82"], [])[0] == ["a", ""]


@pytest.mark.parametrize("stop", ["</s>", "é!", "b", "aab"])
def test_a_stop_string_is_found_however_the_text_is_cut(stop: str) -> None:
    text = f"aaa {stop} more"
    data = text.encode()
    for cut in itertools.combinations(range(1, len(data)), 2):
        bounds = [0, *cut, len(data)]
        pieces, stopped = stream([data[a:b] for a, b in itertools.pairwise(bounds)], [stop])
        assert stopped and "".join(pieces) == text[: text.index(stop)]


def test_what_only_looked_like_a_stop_string_is_given_back() -> None:
    pieces, stopped = stream([b"a<", b"/", b"b", b"</"], ["</s>"])
    assert pieces == ["a", "", "</b", "", "</"] and not stopped


def test_the_stop_string_that_begins_first_counts() -> None:
    assert "".join(stream([b"one two three"], ["three", "two"])[0]) == "one "


def test_nothing_follows_a_stop_string() -> None:
    assert stream([b"a.", b"b"], ["."])[0] == ["a", "", ""]


def test_an_empty_stop_string_stops_nothing() -> None:
    assert stream([b"a"], [""])[0] == ["a", ""]
