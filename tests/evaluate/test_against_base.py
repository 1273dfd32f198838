"""Models held against a base: each statistic by its definition, the command, llama.cpp's figures."""

import json
import math
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fakes import FakeFile
from known_engine import Bytes, Table
from oracle import Oracle, needs_oracle

from ggufpy import quantize_file
from ggufpy.commands import perplexity as command
from ggufpy.errors import GgufpyError
from ggufpy.evaluate.against_base import AgainstBase, against_base
from ggufpy.evaluate.base_logits import BaseLogits, BaseWriter
from ggufpy.evaluate.divergence import divergence
from ggufpy.evaluate.perplexity import perplexity, read_text, text_chunks
from ggufpy.evaluate.statistics import mean, statistics
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import load_tokenizer

CHUNKS = [list(b"abcdefghi"), list(b"the quick"), list(b"brown fox")]


def near(engine: Table, size: float) -> Table:
    """A model that predicts nearly as `engine` does."""
    other = Table(engine.n_ctx)
    noise = np.random.default_rng(1).normal(scale=size, size=(256, 256)).astype(np.float32)
    other._of_token = engine._of_token + noise
    return other


def write_base(path: Path, engine: Any, chunks: list[list[int]]) -> None:
    with path.open("wb") as stream:
        perplexity(engine, chunks, on_logits=BaseWriter(stream, chunks, engine.n_vocab).add)


def test_each_token_is_compared(tmp_path: Path) -> None:
    base, model = Table(9), near(Table(9), 0.3)
    write_base(tmp_path / "base", base, CHUNKS)
    told: list[tuple[int, int]] = []
    with BaseLogits.open(tmp_path / "base") as file:
        found = against_base(
            cast(Engine, model), file, CHUNKS, on_chunk=lambda done, part: told.append((done, len(part.kl)))
        )
    assert told == [(1, 4), (2, 4), (3, 4)]
    places = [(chunk, i) for chunk in CHUNKS for i in range(4, 8)]
    p, q = (np.stack([each.row(i, chunk[i]) for chunk, i in places]) for each in (base, model))
    targets = [chunk[i + 1] for chunk, i in places]
    np.testing.assert_allclose(found.kl, divergence(p, q), rtol=2e-3)
    for losses, rows in ((found.base_losses, p), (found.losses, q)):
        expected = [math.log(np.exp(row).sum()) - row[t] for row, t in zip(rows, targets, strict=True)]
        np.testing.assert_allclose(losses, expected, atol=2e-4)
    np.testing.assert_allclose(found.delta_p, np.exp(-found.losses) - np.exp(-found.base_losses))
    np.testing.assert_array_equal(found.same_top, p.argmax(axis=1) == q.argmax(axis=1))


def test_tokens_that_the_file_cannot_tell_do_not_count(tmp_path: Path) -> None:
    base, model = Table(9), Table(9)
    for table, depth in ((base, -30), (model, -1e6)):
        table._of_position[:] = 0
        table._of_token[:] = depth
        table._of_token[:, :2] = 0
    write_base(tmp_path / "base", base, CHUNKS)
    with BaseLogits.open(tmp_path / "base") as file:
        found = against_base(cast(Engine, model), file, CHUNKS)
    np.testing.assert_allclose(found.kl, 0, atol=1e-4)


def test_a_model_is_no_distance_from_itself(tmp_path: Path) -> None:
    engine = Table(9)
    write_base(tmp_path / "base", engine, CHUNKS)
    with BaseLogits.open(tmp_path / "base") as file:
        found = statistics(against_base(cast(Engine, engine), file, CHUNKS))
    assert abs(found.kl.value) < 1e-5
    assert found.same_top.value == 1
    assert found.correlation == pytest.approx(1)
    assert found.ratio.value == pytest.approx(1, abs=1e-4)


def test_statistics_are_those_of_their_definitions() -> None:
    random = np.random.default_rng(3)
    n = 500
    base = random.gamma(2, size=n)
    of = AgainstBase(
        losses=base + random.normal(scale=0.1, size=n),
        base_losses=base,
        kl=random.gamma(1, size=n),
        delta_p=random.normal(scale=0.1, size=n),
        same_top=(random.uniform(size=n) < 0.9).astype(float),
    )
    of.kl[77] = 12.5
    found = statistics(of)
    assert found.n_tokens == n
    assert found.perplexity.value == pytest.approx(math.exp(sum(of.losses) / n))
    assert found.base_perplexity.value == pytest.approx(math.exp(sum(base) / n))
    assert found.ratio.value == pytest.approx(found.perplexity.value / found.base_perplexity.value)
    assert found.correlation == pytest.approx(np.corrcoef(of.losses, base)[0, 1])
    # Errors of llama-perplexity: by variances and the covariance of the means.
    cov = np.cov(of.losses, base) / n
    assert found.log_ratio.error == pytest.approx(math.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))
    a, b = found.perplexity.value, found.base_perplexity.value
    variance = a * a * cov[0, 0] + b * b * cov[1, 1] - 2 * a * b * cov[0, 1]
    assert (found.difference.value, found.difference.error) == pytest.approx((a - b, math.sqrt(variance)))
    assert found.kl.value == pytest.approx(of.kl.mean())
    assert found.kl_capped.value == pytest.approx(sum(min(x, 3) for x in of.kl) / n)
    assert (found.worst.number, found.worst.kl) == (77, 12.5)
    ordered = sorted(of.kl)
    assert (found.kl_percentiles[100], found.kl_percentiles[0]) == (12.5, ordered[0])
    assert found.kl_percentiles[50] == pytest.approx((ordered[249] + ordered[250]) / 2)
    at = 0.999 * 499
    expected = ordered[498] + (at - 498) * (ordered[499] - ordered[498])
    assert found.kl_percentiles[99.9] == pytest.approx(expected)
    share = of.same_top.mean()
    assert found.same_top.error == pytest.approx(math.sqrt(share * (1 - share) / (n - 1)))
    squares = of.delta_p**2
    rms = math.sqrt(squares.mean())
    assert found.delta_p_rms.value == pytest.approx(rms)
    assert found.delta_p_rms.error == pytest.approx(squares.std(ddof=1) / math.sqrt(n) / (2 * rms))


def test_one_value_has_no_error() -> None:
    assert (mean(np.array([2.0])).value, mean(np.array([2.0])).error) == (2, 0)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """base.gguf, near.gguf and far.gguf, of bytes."""
    sizes = {"base.gguf": 0.0, "near.gguf": 0.01, "far.gguf": 1.0}
    names: list[str] = []

    def open_file(path: Path) -> FakeFile:
        names.append(path.name)
        return FakeFile({})

    def load(file: object, *, n_ctx: int, **options: Any) -> Table:
        return near(Table(n_ctx), sizes[names[-1]])

    monkeypatch.setattr("ggufpy.commands.evaluating.GGUFFile.open", open_file)
    monkeypatch.setattr("ggufpy.commands.evaluating.Engine.load", load)
    monkeypatch.setattr("ggufpy.commands.evaluating.load_tokenizer", lambda metadata: Bytes())


def run(folder: Path, *options: str) -> int:
    names = [str(folder / option) if option in ("base", "text", "other") else option for option in options]
    return command.main(names)


@pytest.mark.usefixtures("models")
def test_the_command_writes_a_base_and_compares_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.gguf").touch()
    (tmp_path / "text").write_text("the quick brown fox jumps over the lazy dog " * 8)
    (tmp_path / "other").write_text("another text " * 30)
    base = ("--kl-divergence-base", "base")
    assert run(tmp_path, "-m", "base.gguf", "-f", "text", "-c", "64", *base) == 0
    capsys.readouterr()
    compare = ("-f", "text", *base, "--kl-divergence")
    assert run(tmp_path, "-m", "near.gguf", *compare) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "====== Perplexity statistics ======"
    figures = {name.strip(): rest.strip() for name, _, rest in (line.partition(": ") for line in lines)}
    assert float(figures["Mean    KLD"].split(" ± ")[0]) == pytest.approx(5e-5, rel=0.3)
    position = figures["Maximum KLD at"].split(": ")[0].partition(", position ")[2]
    assert int(position) >= 33
    assert run(tmp_path, "-m", "near.gguf", *compare, "--chunks", "2", "-o", "json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["n_chunks"], record["n_tokens"]) == (2, 62)
    assert run(tmp_path, "-m", "near.gguf", "-m", "far.gguf", *base, "--kl-divergence") == 0
    _, _, first, second = (line.split("|") for line in capsys.readouterr().out.splitlines())
    assert float(first[4].split("±")[0]) < 1e-3 < float(second[4].split("±")[0])
    for options, message in (
        (("-f", "other", *base, "--kl-divergence"), "other is not the text of"),
        ((*base, "--kl-divergence", "-c", "32"), "-c 32: "),
    ):
        assert run(tmp_path, "-m", "near.gguf", *options) == 1
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("models")
def test_the_text_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.gguf").touch()
    (tmp_path / "text").write_text("x" * 200)
    assert run(tmp_path, "-m", "base.gguf", "-f", "text", "-c", "64", "--kl-divergence-base", "text") == 1
    assert "write to another name" in capsys.readouterr().err
    assert (tmp_path / "text").read_text() == "x" * 200


def test_a_base_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    engine = Table(9)
    write_base(tmp_path / "base", engine, CHUNKS)
    engine.n_vocab = 300
    with (
        BaseLogits.open(tmp_path / "base") as file,
        pytest.raises(GgufpyError, match="is about 256 tokens, the model predicts 300"),
    ):
        against_base(cast(Engine, engine), file, CHUNKS)


@needs_oracle
@pytest.mark.parametrize("type", ["q4_0", "q5_0"])
def test_the_divergence_is_that_of_llama_cpps_logits(
    f16: Path, shipped_checkpoint: Path, tmp_path: Path, type: str
) -> None:
    text, n_ctx = read_text(shipped_checkpoint / "README.md"), 128
    quantized = quantize_file(f16, tmp_path / "q.gguf", type)[0]
    rows = []
    for path in (f16, quantized):
        with Oracle(path, n_ctx=n_ctx) as oracle:
            tokens = oracle.tokenize(text)
            chunks = [tokens[i : i + n_ctx] for i in range(0, 4 * n_ctx, n_ctx)]
            rows.append(np.concatenate([oracle.logits(chunk)[n_ctx // 2 : -1] for chunk in chunks]))
    with GGUFFile.open(f16) as file:
        write_base(tmp_path / "base", Engine.load(file, n_ctx=n_ctx), chunks)
    with GGUFFile.open(quantized) as file, BaseLogits.open(tmp_path / "base") as base:
        found = statistics(against_base(Engine.load(file, n_ctx=n_ctx), base, base.tokens.tolist()))
    assert found.kl.value == pytest.approx(divergence(*rows).mean(), rel=0.02)


@pytest.mark.skipif(not os.environ.get("GGUFPY_REAL"), reason="a minute: make real has it")
def test_llama_perplexitys_own_figures(f16: Path, shared: Path, tmp_path: Path) -> None:
    text = (shared / "eval" / "wiki.test.raw").read_bytes()[:200_000].decode().removesuffix("\n")
    with GGUFFile.open(f16) as file:
        chunks = text_chunks(load_tokenizer(file.metadata), text, 512)
        write_base(tmp_path / "base", Engine.load(file, n_ctx=512), chunks)
    path = shared / "conformance" / "eval" / "pocket-wiki-7m-chat-q4_0.gguf"
    with GGUFFile.open(path) as file, BaseLogits.open(tmp_path / "base") as base:
        found = statistics(against_base(Engine.load(file, n_ctx=512), base, base.tokens.tolist()))
    assert found.kl.value == pytest.approx(0.016578, rel=0.01)
    assert found.kl_percentiles[99] == pytest.approx(0.090296, rel=0.02)
    assert found.same_top.value == pytest.approx(0.90339, abs=0.002)
