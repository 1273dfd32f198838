"""Time grows with what is read, not faster; an interrupt ends what is long."""

import random
import signal
from pathlib import Path
from types import FrameType

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from ggufpy.convert.model_card import read_model_card
from ggufpy.gguf.strings import Strings
from ggufpy.tokenizers.bpe import Merges, pre_tokenizer
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from ggufpy.tokenizers.tokens import Tokens

PROGRAMS = {program.regexes: (name, program) for name, program in PRE_TOKENIZERS.items()}
KINDS = [
    *" \n\t\r\u00a0aA1!'\u00e9\u4e2d\u0301\U0001f600\u3002\u0627-_/",
    " a",
    "a ",
    "\n ",
    " \n",
    "1a",
    "'s",
    "aA",
]
LONG = 100_000  # characters: a second, or hours where it grows with the square


@pytest.mark.parametrize(("name", "program"), PROGRAMS.values(), ids=[name for name, _ in PROGRAMS.values()])
def test_one_kind_of_character(name: str, program: PreTokenizer) -> None:
    cutter = pre_tokenizer(program)
    for kind in KINDS:
        n = LONG if kind == "1" else 8_000
        assert cutter.pre_tokenize_str(kind * (n // len(kind)))


def as_written(program: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    splits = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in program.regexes]
    return pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


@pytest.mark.parametrize("name", ["tiny_aya", "superbpe", "afmoe"])
@settings(max_examples=400, deadline=None)
@given(
    text=st.lists(
        st.sampled_from([*"0123456789" * 3, *"a_ .,\n\u00bd\u0663\u4e2d\u2167-", "12", "345", "678"])
    ).map("".join)
)
def test_numbers_are_cut_alike(name: str, text: str) -> None:
    program = PRE_TOKENIZERS[name]
    assert pre_tokenizer(program).pre_tokenize_str(text) == as_written(program).pre_tokenize_str(text)


def test_long_lines_of_a_model_card(tmp_path: Path) -> None:
    spaces = " " * LONG
    lines = [
        f"license: mit{spaces}x",
        f"name: a{spaces}# a comment",
        f"tags: [{'a,' * LONG}]",
        f"a{'-' * LONG}",
        spaces,
    ]
    (tmp_path / "README.md").write_text("\n".join(["---", *lines, "---"]))
    card = read_model_card(tmp_path)
    assert card["name"] == "a"
    assert card["license"] == f"mit{spaces}x"


def test_an_interrupt_ends_encoding() -> None:
    pairs = [a + b for a in "abcdefgh" for b in "abcdefgh"]
    texts = [*"abcdefgh", *pairs, *(a + b for a in pairs for b in pairs)]
    metadata = {
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.merges": [f"{t[: len(t) // 2]} {t[len(t) // 2 :]}" for t in texts if len(t) > 1],
    }
    merges = Merges(metadata, Tokens(Strings.of(texts)), False)
    word = "".join(random.Random(1).choices("abcdefgh", k=1 << 23))

    def ring(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            merges.encode([word])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert merges.encode(["abcd" * 3]) == [texts.index("abcd")] * 3
