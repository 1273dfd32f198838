"""Vocabularies and tensors that do not belong together, wherever a model is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import random_llama
from random_llama import VOCAB, WIDTH

from ggufpy.__main__ import main as door
from ggufpy.api.llama import Llama
from ggufpy.commands import perplexity, run
from ggufpy.errors import FormatError, TokenizerError
from ggufpy.tokenizers import load_tokenizer


def model(path: Path, embeddings: int = VOCAB, outputs: int = VOCAB, **metadata: int) -> Path:
    """A model with so many rows; those of its output that stand for no token are the likeliest."""
    tensors = random_llama.arrays(tied=False)
    rows = np.zeros((max(embeddings, outputs), WIDTH), np.float32)
    rows[:VOCAB] = tensors["token_embd.weight"]
    tensors["token_embd.weight"] = rows[:embeddings]
    tensors["output_norm.weight"] = np.zeros(WIDTH, np.float32)
    tensors["output_norm.weight"][0] = 1
    head = np.zeros((outputs, WIDTH), np.float32)
    # One of these has a positive logit, whatever the sign of the only value that is left.
    head[VOCAB:, 0] = np.where(np.arange(max(outputs - VOCAB, 0)) % 2, 9, -9)
    tensors["output.weight"] = head
    return random_llama.write(
        path,
        tensors,
        tokenizer__ggml__tokens=["<unk>", "<s>", "</s>", *(chr(ord(" ") + i) for i in range(VOCAB - 3))],
        tokenizer__ggml__token_type=[2, 3, 3, *[1] * (VOCAB - 3)],
        **metadata,
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((5, VOCAB), "token_embd.weight has 5 rows for a vocabulary of 128 tokens"),
        ((VOCAB, 5), "the output has 5 rows for a vocabulary of 128 tokens"),
        ((VOCAB, 160), "token_embd.weight has 128 rows, the output 160"),
    ],
)
def test_too_few_rows_are_one_line_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: tuple[int, int], message: str
) -> None:
    path = model(tmp_path / "model.gguf", *rows)
    with pytest.raises(FormatError, match=message):
        Llama(path)
    text = tmp_path / "text"
    text.write_text("x" * 100)
    for command, arguments in (
        (run.main, ["-m", str(path), "-no-cnv", "-p", "abc"]),
        (perplexity.main, ["-m", str(path), "-f", str(text), "-c", "16"]),
    ):
        assert command(arguments) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"error: {path}: {message}" in error
    assert Llama(path, vocab_only=True).tokenize(b"a")


def test_padding_behind_the_vocabulary_has_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model(tmp_path / "model.gguf", VOCAB + 2, VOCAB + 2)
    with Llama(path, n_ctx=32) as llm:
        assert next(llm.generate([5, 6], temp=0)) >= VOCAB
        response = llm([5, 6], max_tokens=3, temperature=0, logprobs=2)
        assert isinstance(response, dict)
        logprobs = response["choices"][0]["logprobs"]
        assert response["choices"][0]["text"] == "" and logprobs is not None
        assert logprobs["tokens"] == [""] * 3
    assert run.main(["-m", str(path), "-no-cnv", "-p", "A", "-n", "3", "--temp", "0"]) == 0
    assert capsys.readouterr().out == "A\n"


def test_an_end_token_outside_the_vocabulary_can_be_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model(tmp_path / "model.gguf", tokenizer__ggml__eos_token_id=2**32 - 1)
    command = ["-no-cnv", "-p", "A", "-n", "1", "--no-perf", "-m"]
    assert run.main([*command, str(path)]) == 1
    remedy = capsys.readouterr().err.partition("set it with: ggufpy ")[2].split()
    mended = str(tmp_path / "mended.gguf")
    words = {"IN": str(path), "OUT": mended}
    assert door([words.get(word, word.replace("int:ID", "int:2")) for word in remedy]) == 0
    capsys.readouterr()
    assert run.main([*command, mended]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("default")
def test_other_ids_outside_the_vocabulary_are_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model(tmp_path / "model.gguf", tokenizer__ggml__mask_token_id=VOCAB)
    assert run.main(["-m", str(path), "-no-cnv", "-p", "A", "-n", "1", "--no-perf"]) == 0
    line = f"tokenizer.ggml.mask_token_id is {VOCAB}, not one of the {VOCAB} tokens; none is taken"
    assert capsys.readouterr().err == f"warning: {line}\n"
    with pytest.warns(UserWarning, match="mask_token_id"):
        Llama(path, vocab_only=True)


def test_a_projector_is_no_language_model() -> None:
    for metadata in ({"general.type": "mmproj"}, {"general.architecture": "clip"}):
        with pytest.raises(TokenizerError, match="projector"):
            load_tokenizer(metadata)
    with pytest.raises(TokenizerError, match="of architecture 'brandnew'"):
        load_tokenizer({"general.architecture": "brandnew"})
