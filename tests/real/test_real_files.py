"""Models that people run, against llama.cpp in the same run: `make real`, half an hour the first time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engines import append, load
from numpy.typing import NDArray
from oracle import Oracle
from packages import PACKED, fetched

from ggufpy.evaluate.perplexity import perplexity, text_chunks
from ggufpy.gguf.reader import GGUFFile
from ggufpy.tokenizers import Tokenizer, load_tokenizer

FOLDER = os.environ.get("GGUFPY_REAL", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="`make real` runs these, on files that it fetches")

ROOT = Path(__file__).resolve().parents[2]
TEXT = Path(os.environ.get("GGUFPY_SHARED", ROOT.parent / "shared")) / "eval" / "wiki.test.raw"
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n",
    "Water boils at",
    "The three largest planets are",
    "import os\n\nfor name in",
)
# Two candidates whose logits are nearer may change places: both programs round activations to 8 bits, in
# other blocks, and `exact` differs from llama.cpp as much.
CLOSE = 0.3


@pytest.fixture(scope="module", params=[name for name in PACKED if name.endswith(".gguf")])
def path(request: pytest.FixtureRequest) -> Path:
    return fetched(request.param, Path(FOLDER))


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return load_tokenizer(GGUFFile.open(path).metadata)


def texts() -> Iterator[str]:
    draw = random.Random(1)
    parts = [
        "the ",
        "river",
        "\n",
        "  ",
        "Größe",
        "水",
        "😀",
        "é",
        "1234",
        "don't",
        "\t",
        "<|im_start|>",
        "</s>",
    ]
    for _ in range(500):
        yield "".join(draw.choice(parts) for _ in range(draw.randrange(1, 12)))


def test_ids(path: Path, tokenizer: Tokenizer) -> None:
    with Oracle(path, vocab_only=True) as oracle:
        for text in texts():
            for special in (False, True):
                want = oracle.tokenize(text, parse_special=special)
                assert tokenizer.encode(text, parse_special=special) == want, repr(text)


def test_perplexity(path: Path, tokenizer: Tokenizer) -> None:
    if not TEXT.exists():
        pytest.skip("no text to measure with beside the repository (set GGUFPY_SHARED)")
    chunks = text_chunks(tokenizer, TEXT.read_bytes()[:32768].decode(), 512)
    with Oracle(path, n_ctx=512, n_threads=2) as oracle:
        losses = [loss(oracle.logits(chunk), chunk) for chunk in chunks]
    want = float(np.exp(np.concatenate(losses).mean()))
    got, exact = (perplexity(load(path, kind, n_ctx=512), chunks).value for kind in ("int8", "exact"))
    print(f"{path.name}: {got:.4f}, llama.cpp {want:.4f}, in f32 {exact:.4f}")
    # Both round activations to 8 bits, each in its own way; where they part, f32 says who is right.
    assert got == pytest.approx(want, rel=2e-3) or abs(got - exact) < abs(want - exact)


def loss(logits: NDArray[np.float32], tokens: list[int]) -> NDArray[np.float64]:
    """Of the second half of a chunk, as llama-perplexity counts."""
    rows = logits[255:-1].astype(np.float64)
    largest = rows.max(axis=1)
    sums = np.log(np.exp(rows - largest[:, None]).sum(axis=1))
    losses: NDArray[np.float64] = largest + sums - rows[np.arange(256), tokens[256:]]
    return losses


def test_greedy_text(path: Path, tokenizer: Tokenizer) -> None:
    """The likeliest tokens are llama.cpp's, but where it was close."""
    engine = load(path, "int8", n_ctx=256)
    with Oracle(path, n_ctx=256, n_threads=2) as oracle:
        for prompt in PROMPTS:
            tokens = tokenizer.encode(prompt)
            want = oracle.greedy(tokens, 40)
            sequence = engine.new_sequence()
            row = append(engine, sequence, tokens, logits="last")[-1]
            for token in want:
                if row.argmax() != token:
                    assert row.max() - row[token] < CLOSE, prompt
                    break
                row = append(engine, sequence, [token], generating=True)[-1]
            sequence.close()
