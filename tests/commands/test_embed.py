"""`ggufpy embed`: what llama-embedding prints."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import random_bert
from numpy.typing import NDArray
from random_bert import MEAN, NONE, PLACES, RANK, WIDTH

from ggufpy import Llama
from ggufpy.commands.embed import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_bert.write(tmp_path_factory.mktemp("bert") / "bert.gguf", MEAN)


def vectors(path: Path, texts: list[str], pooling: int = MEAN) -> NDArray[np.float64]:
    llm = Llama(path, embedding=True, precision="exact", pooling_type=pooling)
    return np.array(llm.embed(texts, normalize=True))


def output(capture: Capture, *arguments: str | Path) -> str:
    assert main([*map(str, arguments), "--precision", "exact"]) == 0
    return capture.readouterr().out


def json_of(capture: Capture, *arguments: str | Path) -> NDArray[np.float64]:
    answer = json.loads(output(capture, *arguments, "--embd-output-format", "json"))
    assert [item["index"] for item in answer["data"]] == list(range(len(answer["data"])))
    assert answer["object"] == "list" and answer["data"][0]["object"] == "embedding"
    return np.array([item["embedding"] for item in answer["data"]])


def test_formats(bert: Path, capsys: Capture) -> None:
    want = vectors(bert, ["ab", "c"])
    arguments = "-m", bert, "-p", "ab\\nc", "--embd-output-format"
    array = json.loads(output(capsys, *arguments, "array"))
    raw = [list(map(float, line.split(" "))) for line in output(capsys, *arguments, "raw").splitlines()]
    np.testing.assert_allclose(array, want, atol=6e-8)
    np.testing.assert_allclose(raw, want, atol=6e-8)
    text = output(capsys, *arguments, "json+")
    answer = json.loads(text)
    np.testing.assert_allclose([item["embedding"] for item in answer["data"]], want, atol=6e-8)
    np.testing.assert_allclose(answer["cosineSimilarity"], want @ want.T, atol=0.006)
    cosine = f"{want[0] @ want[1]:6.2f}"
    assert text.endswith(
        f'  ],\n  "cosineSimilarity": [\n    [  1.00, {cosine} ],\n    [{cosine},   1.00 ]\n  ]\n}}\n'
    )
    assert text.startswith(
        '{\n  "object": "list",\n  "data": [\n    {\n      "object": "embedding",\n      "index": 0,\n'
        f'      "embedding": [{want[0, 0]:.7f},'
    )
    assert "cosineSimilarity" not in output(capsys, "-m", bert, "-p", "a", "--embd-output-format", "json+")


def test_for_people(bert: Path, capsys: Capture) -> None:
    (row,) = vectors(bert, ["a longer text"])
    text = output(capsys, "-m", bert, "-p", "a longer text")
    assert text == f"embedding 0: {''.join(f'{x:9.6f} ' for x in row)}\n"
    rows = vectors(bert, ["a longer text", "b"])
    first, second, *rest = output(capsys, "-m", bert, "-p", "a longer text\\nb").splitlines()
    assert first.split()[2:] == [f"{x:.6f}" for x in rows[0, :16]] and second.startswith("embedding 1: ")
    cosine = f"{rows[0] @ rows[1]:6.2f}"
    table = ["a long      b ", f"  1.00 {cosine} a longer t", f"{cosine}   1.00 b"]
    assert rest == ["", "cosine similarity matrix:", "", *table]


def test_other_norms(bert: Path, capsys: Capture) -> None:
    plain = json_of(capsys, "-m", bert, "-p", "a", "--embd-normalize", "-1")[0]
    taxicab = json_of(capsys, "-m", bert, "-p", "a", "--embd-normalize", "1")[0]
    np.testing.assert_allclose(taxicab, plain / np.abs(plain).sum(), atol=1e-6)
    whole = output(capsys, "-m", bert, "-p", "a", "--embd-normalize", "0", "--embd-output-format", "raw")
    assert whole == " ".join(f"{x / np.abs(plain).max() * 32760:.0f}" for x in plain) + "\n"


def test_pooling_and_attention(bert: Path, capsys: Capture) -> None:
    want = vectors(bert, ["ab"], NONE)[0]
    rows = json_of(capsys, "-m", bert, "-p", "ab", "--pooling", "none")
    np.testing.assert_allclose(rows, want, atol=6e-8)
    lines = output(capsys, "-m", bert, "-p", "ab", "--pooling", "none").splitlines()
    assert len(lines) == len(rows)
    ends = ["".join(f"{x:9.6f} " for x in part) for part in (want[1][:3], want[1][-3:])]
    assert lines[1] == f"embedding 1: {ends[0]} ... {ends[1]}"
    for attention, sees_later in (("causal", False), ("non-causal", True)):
        options = "--pooling", "none", "--attention", attention
        first, other = (json_of(capsys, "-m", bert, "-p", text, *options)[0] for text in ("ab", "ac"))
        assert (np.abs(first - other).max() > 1e-6) == sees_later


def test_texts_from_elsewhere(
    bert: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = json_of(capsys, "-m", bert, "-p", "a b\\nc")
    (tmp_path / "texts").write_text("a b\nc\n")
    np.testing.assert_array_equal(json_of(capsys, "-m", bert, "-f", tmp_path / "texts"), want)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a b\nc\n")))
    np.testing.assert_array_equal(json_of(capsys, "-m", bert), want)
    other = json_of(capsys, "-m", bert, "-p", "a b<#sep#>c", "--embd-separator", "<#sep#>")
    np.testing.assert_array_equal(other, want)


def test_ranking(tmp_path: Path, capsys: Capture) -> None:
    path = random_bert.write(tmp_path / "r.gguf", NONE, "one label")
    llm = Llama(path, embedding=True, pooling_type=RANK, precision="exact")
    found = sorted(llm.rank("ask", ["one", "two"])["results"], key=lambda each: each["index"])
    scores = [each["relevance_score"] for each in found]
    arguments = "-m", path, "--pooling", "rank", "-p", "ask\\tone\\nask\\ttwo"
    assert (
        output(capsys, *arguments) == f"rerank score 0: {scores[0]:8.3f}\nrerank score 1: {scores[1]:8.3f}\n"
    )
    np.testing.assert_allclose(json_of(capsys, *arguments)[:, 0], scores, atol=6e-8)
    assert output(capsys, *arguments[:-1], "ask<>one\\nask<>two", "--cls-separator", "<>") == output(
        capsys, *arguments
    )


def test_labels_are_named(tmp_path: Path, capsys: Capture) -> None:
    keys = {"classifier.output_labels": ["no", "yes", "maybe"]}
    path = random_bert.write(tmp_path / "r.gguf", RANK, "a projection", **keys)
    lines = output(capsys, "-m", path, "-p", "a").splitlines()
    assert [line.split("[")[1] for line in lines] == ["no]", "yes]", "maybe]"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", "a", "--pooling", "rank"), "has no classifier"),
        (("-p", ""), "no text to embed: give one with -p, -f or on stdin"),
        (("-p", "x" * 99), f"text 1 has 102 tokens, at most {PLACES} fit; shorten it, or raise -c"),
        (("-p", "a\\n" + "x" * 99, "-c", "200"), f"text 2 has 102 tokens, at most {PLACES} fit"),
        (("-p", "a bc", "-c", "4"), "text 1 has 7 tokens, at most 4 fit"),
        (("-p", "a", "-f", "-"), "not allowed with argument"),
        (("-p", "a", "--embd-normalize", "-2"), "--embd-normalize -2: at least -1"),
        (("-p", "a", "--pooling", "max"), "invalid choice: 'max'"),
        (("-p", "a", "--lora", "x"), "--lora: not supported; merge it into the checkpoint"),
        (("-f", "/nowhere/x"), "No such file"),
    ],
    ids=str,
)
def test_bad_command_lines(bert: Path, capsys: Capture, arguments: tuple[str, ...], message: str) -> None:
    try:
        status = main(["-m", str(bert), *arguments])
    except SystemExit as exit:
        status = int(str(exit.code))
    error = capsys.readouterr().err
    assert status in (1, 2) and message in error and "Traceback" not in error
    assert status == 2 or error.count("\n") == 1


def test_width_is_the_models(bert: Path, capsys: Capture) -> None:
    assert json_of(capsys, "-m", bert, "-p", "a", "-ngl", "99", "-b", "2048").shape == (1, WIDTH)
