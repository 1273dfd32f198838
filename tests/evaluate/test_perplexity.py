"""Perplexity: the counting, with an engine whose logits are known, and the command."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fakes import FakeFile
from known_engine import BOS, Bytes, Table
from oracle import Oracle, needs_oracle
from random_model import TYPES, random_model
from shapes import llama

from ggufpy.commands import perplexity as command
from ggufpy.commands.perplexity_output import PerplexityResult, show
from ggufpy.errors import GgufpyError
from ggufpy.evaluate.perplexity import Perplexity, perplexity, read_text, text_chunks
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import Tokenizer, load_tokenizer


def measure(engine: Table, tokenizer: Bytes, text: str) -> Perplexity:
    chunks = text_chunks(cast(Tokenizer, tokenizer), text, engine.n_ctx)
    return perplexity(cast(Engine, engine), chunks)


def expected(engine: Table, chunks: list[list[int]]) -> tuple[float, float, int]:
    """The definition, position by position: perplexity, its standard error, tokens counted."""
    losses = []
    for chunk in chunks:
        for i in range(len(chunk) // 2, len(chunk) - 1):
            row = engine.row(i, chunk[i]).astype(np.float64)
            losses.append(np.log(np.exp(row).sum()) - row[chunk[i + 1]])
    value = np.exp(np.mean(losses))
    return value, value * np.std(losses) / np.sqrt(len(losses) - 1), len(losses)


@pytest.mark.parametrize("n_ctx", [4, 9, 32, 200])
def test_the_second_half_of_each_chunk_counts(n_ctx: int) -> None:
    engine = Table(n_ctx)
    text = "".join(chr(32 + i * i % 90) for i in range(3 * n_ctx + n_ctx // 2))
    tokens = list(text.encode())
    result = measure(engine, Bytes(), text)
    value, error, count = expected(engine, [tokens[i * n_ctx : (i + 1) * n_ctx] for i in range(3)])
    assert result.value == pytest.approx(value, rel=1e-12)
    assert result.error == pytest.approx(error, rel=1e-9)
    assert (result.n_tokens, result.n_chunks) == (count, 3)


def test_bos_takes_the_place_of_each_first_token() -> None:
    engine = Table(4)
    tokens = [BOS, *b"abcdefghijk"]
    result = measure(engine, Bytes(add_bos=True), "abcdefghijk")
    value, _, _ = expected(engine, [[BOS, *tokens[1:4]], [BOS, *tokens[5:8]], [BOS, *tokens[9:12]]])
    assert result.value == pytest.approx(value, rel=1e-12)


def test_each_chunk_is_told_of() -> None:
    told: list[tuple[int, float]] = []
    engine = Table(8)
    chunks = [list(b"abcdefgh"), list(b"ijklmnop")]
    result = perplexity(cast(Engine, engine), chunks, on_chunk=lambda *news: told.append(news))
    assert told == [(1, pytest.approx(expected(engine, chunks[:1])[0])), (2, result.value)]


def test_a_perplexity_beyond_all_floats_is_inf(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Table(8)
    engine._of_token *= 1e6
    told: list[float] = []
    chunks = [list(b"abcdefgh"), list(b"ijklmnop")]
    result = perplexity(cast(Engine, engine), chunks, on_chunk=lambda done, so_far: told.append(so_far))
    assert (result.value, result.error, told) == (np.inf, np.inf, [np.inf, np.inf])
    show([PerplexityResult(Path("m"), result, 8)], "json")
    show([PerplexityResult(Path("m"), result, 8)], "text")
    record, line = capsys.readouterr().out.splitlines()
    assert json.loads(record)["perplexity"] is None
    assert line.startswith("PPL = inf +/- inf ")


@pytest.mark.parametrize(
    ("n_ctx", "text", "message"),
    [
        (8, "x" * 15, "the text has 15 tokens, a context of 8 needs at least 16"),
        (8, "", "the text has 0 tokens"),
        (2, "x" * 15, "a context of 2 has nothing to count"),
    ],
)
def test_too_little_to_count_is_refused(n_ctx: int, text: str, message: str) -> None:
    with pytest.raises(GgufpyError, match=message):
        measure(Table(n_ctx), Bytes(), text)


def test_a_text_keeps_its_bytes_but_for_the_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("é\r\n\n\n".encode() + "é".encode()[:1])
    assert read_text(path) == "é\r\n\n\n\ufffd"
    path.write_bytes(b"a\r\n\n")
    assert read_text(path) == "a\r\n"


@pytest.mark.parametrize(
    "options",
    [
        *(["-c", "3"], ["-t", "-1"], ["--chunks", "0"], ["--precision", "best"], ["--kl-divergence"]),
        ["-m", "other.gguf", "--kl-divergence-base", "base"],
    ],
)
def test_senseless_options_are_usage_errors(options: list[str]) -> None:
    with pytest.raises(SystemExit) as status:
        command.main(["-m", "model.gguf", "-f", "text", *options])
    assert status.value.code == 2


def test_files_that_are_not_there_or_not_models_give_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("some text")
    for model, data in (("missing.gguf", "missing"), (str(text), str(text))):
        assert command.main(["-m", model, "-f", data]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1


def test_the_command_prints_a_line_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text"
    text.write_text("x" * 40)
    loaded: dict[str, Any] = {}

    def load(file: object, **options: Any) -> Table:
        loaded.update(options)
        return Table(options["n_ctx"])

    monkeypatch.setattr("ggufpy.commands.evaluating.GGUFFile.open", lambda path: FakeFile({}))
    monkeypatch.setattr("ggufpy.commands.evaluating.Engine.load", load)
    monkeypatch.setattr("ggufpy.commands.evaluating.load_tokenizer", lambda metadata: Bytes())
    arguments = ["-m", "model.gguf", "-f", str(text), "-c", "16", "-t", "2", "--precision", "exact"]
    arguments += ["-ctk", "q8_0"]
    assert command.main(arguments) == 0
    assert capsys.readouterr().out.startswith("PPL = ")
    assert loaded == {
        "n_ctx": 16,
        "n_seq": 1,
        "n_threads": 2,
        "precision": "exact",
        "type_k": "q8_0",
        "type_v": None,
    }
    assert command.main([*arguments, "--chunks", "1"]) == 0
    assert "(7 tokens in 1 chunks of 16" in capsys.readouterr().out
    assert command.main([*arguments, "-o", "json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result.keys() == {"model", "perplexity", "stderr", "n_tokens", "n_chunks", "seconds"}
    assert (result["n_tokens"], result["n_chunks"]) == (14, 2)
    assert "PPL" in captured.err
    assert command.main(["-m", "other.gguf", *arguments]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["model", "PPL", "tokens", "s"]
    assert [row.split("|")[1] for row in rows] == [" other.gguf ", " model.gguf "]
    assert command.main(["-m", "other.gguf", *arguments, "-o", "json"]) == 0
    assert [each["model"] for each in json.loads(capsys.readouterr().out)] == ["other.gguf", "model.gguf"]


@pytest.fixture(scope="module")
def random_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("random") / "random.gguf"
    random_model(path, llama(2, 256, (4, 2, 64), 512, 4500, context=64), TYPES["f32"])
    return path


@needs_oracle
def test_the_figure_is_that_of_llama_cpps_logits(random_file: Path, shipped_checkpoint: Path) -> None:
    text = read_text(shipped_checkpoint / "README.md")
    with GGUFFile.open(random_file) as file, Oracle(random_file, n_ctx=64, kv_f32=True) as oracle:
        engine = Engine.load(file, n_ctx=64, precision="exact")
        result = perplexity(engine, text_chunks(load_tokenizer(file.metadata), text, 64))
        tokens = oracle.tokenize(text)
        chunks = [tokens[i : i + 64] for i in range(0, len(tokens) - 63, 64)]
        rows = np.concatenate([oracle.logits(chunk)[32:-1] for chunk in chunks]).astype(np.float64)
    targets = np.concatenate([chunk[33:] for chunk in chunks])
    losses = np.logaddexp.reduce(rows, axis=1) - rows[np.arange(len(rows)), targets]
    assert (result.n_chunks, result.n_tokens) == (len(chunks), 31 * len(chunks))
    assert result.value == pytest.approx(np.exp(losses.mean()), rel=1e-5)


@pytest.mark.parametrize(("name", "figure"), [("q4_0", 72.1612), ("q4_k_m", 72.0903)])
def test_llama_perplexitys_own_figures(name: str, figure: float, shared: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes((shared / "eval" / "wiki.test.raw").read_bytes()[:200_000])
    with GGUFFile.open(shared / "conformance" / "eval" / f"pocket-wiki-7m-chat-{name}.gguf") as file:
        chunks = text_chunks(load_tokenizer(file.metadata), read_text(text), 512)
        result = perplexity(Engine.load(file, n_ctx=512), chunks)
    assert (result.n_chunks, result.n_tokens) == (129, 129 * 255)
    assert result.value == pytest.approx(figure, rel=1e-3)
