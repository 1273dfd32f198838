"""Time grows with what is read, not faster; an interrupt ends what is long."""

import itertools
import random
import signal
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import tokenizers
from tokenizers import pre_tokenizers

from ggufpy._kernels import ffi
from ggufpy.convert.model_card import read_model_card
from ggufpy.gguf.strings import Strings
from ggufpy.tokenizers.added import AddedToken, Splitter
from ggufpy.tokenizers.cutting import Program
from ggufpy.tokenizers.merges import Merges
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from ggufpy.tokenizers.tokens import Tokens
from ggufpy.tokenizers.words import Words

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
CUT = [
    *"1234  \n\r\taAbB_.,/'",
    *"\u00a0\u00bd\u0663\u2167\u4e2d\u3005\u02b0\u01c5\u0301\u0627",
    "'s",
    "'LL",
    "345",
    "6789",
    "<sentinel:1>",
    "IMGIMGABZ",
]
LONG = 100_000  # characters: a second, or hours where it grows with the square


EACH = pytest.mark.parametrize(
    ("name", "program"), PROGRAMS.values(), ids=[name for name, _ in PROGRAMS.values()]
)


def words(cutter: Program, text: str) -> list[str]:
    cut = cutter.cut(text, True)
    return [word.decode() for word in cut.data.split(bytes([cut.separator])) if word]


@EACH
def test_one_kind_of_character(name: str, program: PreTokenizer) -> None:
    cutter = Program(program)
    for kind in KINDS:
        n = LONG if kind in ("1", " ") else 8_000
        text = kind * (n // len(kind))
        assert words(cutter, text)
        assert words(cutter, f"\u00bd{text}\u00bd")


@EACH
def test_programs_cut_as_what_is_written(name: str, program: PreTokenizer) -> None:
    splits = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in program.regexes]
    written, run = pre_tokenizers.Sequence(splits), Program(program)
    some = random.Random(name)
    for number in range(1000):
        kinds = some.sample(CUT, some.randint(2, 8))
        text = "".join(some.choices(kinds, k=some.randint(2, 25))) + "\x1e" * (number % 10 == 0)
        assert words(run, text) == [word for word, _ in written.pre_tokenize_str(text)]


@pytest.mark.parametrize(("name", "kind"), [("qwen2", " "), ("gpt-4o", "A")])
def test_more_of_one_kind_than_oniguruma_gives_back(name: str, kind: str) -> None:
    for last in ("", "\x1e"):
        assert len(words(Program(PRE_TOKENIZERS[name]), kind * 11_000_000 + last)) == 1 + len(last)


def test_long_texts_in_which_a_step_finds_nothing() -> None:
    assert words(Program(PRE_TOKENIZERS["youtu"]), "a" * 3_000_000) == ["a" * 3_000_000]


def alike_modulo_2_64() -> list[str]:
    """Texts that have one hash whatever k is, if hash = (hash ^ byte) * k modulo 2^64, k odd.

    In bytes of 0 and 1 that is a polynomial in k, whose coefficients are differences of bits. The signs of
    (k - 1) * (k^2 - 1) * ... * (k^512 - 1) and their opposites, as bits, differ by a multiple of 2^64.
    """
    signs = [number.bit_count() % 2 for number in range(1024)]
    rows = [[0, *signs], [0, *(1 - sign for sign in signs)]]
    texts = []
    for choice in itertools.product(rows, repeat=6):
        bits = [1, *itertools.chain(*choice), 0]
        texts.append("".join(chr(a ^ b) for a, b in itertools.pairwise(bits)))
    return texts


def test_tokens_that_would_collide() -> None:
    texts = alike_modulo_2_64()
    tokens = Tokens(Strings.of(texts))
    slots = ffi.buffer(tokens.record.slots, 8 << tokens.record.slot_bits)
    halves = np.frombuffer(slots, np.uint64) >> 32  # of the hashes
    assert len(set(halves[halves > 0].tolist())) == len(texts)
    assert tokens.find(texts[-1]) == len(texts) - 1


def test_many_special_tokens() -> None:
    ids = random.Random(1).sample(range(100_000), 30_000)
    splitter = Splitter([AddedToken(f"<custom_{id:05}>", id) for id in sorted(ids)])
    assert list(splitter.split("".join(f"<custom_{id:05}>" for id in ids))) == ids
    assert list(splitter.split("<c" * 500_000)) == ["<c" * 500_000]


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
        "tokenizer.ggml.merges": [f"{t[: len(t) // 2]} {t[len(t) // 2 :]}" for t in texts if len(t) > 1],
    }
    merges = Merges(Tokens(Strings.of(texts)))
    merges.read(metadata)
    word = "".join(random.Random(1).choices("abcdefgh", k=1 << 23))

    def ring(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            merges.encode(Words.of([word]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert merges.encode(Words.of(["abcd" * 3])) == [texts.index("abcd")] * 3
