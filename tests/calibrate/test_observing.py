"""What is counted piece by piece is what NumPy says of the whole, and what an importance matrix has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import random_bert
import random_llama
import tiny_models

from ggufpy.calibrate.observing import activations_of, weights_of
from ggufpy.calibrate.squares import SquaresOfLinears
from ggufpy.calibrate.tally import PERCENTILES, Tally
from ggufpy.errors import FormatError, GgufpyError
from ggufpy.gguf.reader import GGUFFile

CHUNKS = [[(7 * i + 31 * chunk) % tiny_models.VOCAB for i in range(40)] for chunk in range(3)]


def quiet(done: int, total: int) -> None:
    assert done <= total


def test_a_tally_is_what_the_whole_says() -> None:
    x = np.random.default_rng(3).standard_normal((3000, 64)).astype(np.float32)
    x[:, 7] *= 30
    tally = Tally(64)
    for part in np.array_split(x, 7):
        tally.add(part)
    of = tally.spread()
    assert of is not None
    assert (of.count, of.least, of.most) == (x.size, float(x.min()), float(x.max()))
    np.testing.assert_allclose([of.mean, of.deviation], [x.mean(), x.std()], rtol=1e-3)
    np.testing.assert_allclose(of.percentiles, np.percentile(x, PERCENTILES), rtol=1 / 64)
    np.testing.assert_allclose(of.columns, np.sqrt((x**2).mean(axis=0)), rtol=1e-5)
    assert of.crest == pytest.approx(float(np.abs(x).max() / np.sqrt((x**2).mean())))
    ((column, ratio),) = of.outliers()
    assert column == 7 and ratio == pytest.approx(30, rel=0.1)
    assert of.histogram.sum() == x.size
    edges = np.linspace(of.least, of.most, len(of.histogram) + 1)
    assert np.abs(of.histogram - np.histogram(x, edges)[0]).sum() < 0.05 * x.size


def test_numbers_without_any_spread() -> None:
    assert Tally(4).spread() is None
    tally = Tally(4)
    tally.add(np.zeros((3, 4), np.float32))
    of = tally.spread()
    assert of is not None and (of.crest, of.outliers(), of.percentiles) == (0.0, [], (0.0, 0.0, 0.0))
    with pytest.raises(FormatError, match="NaN or Inf"):
        tally.add(np.array([[0, np.nan, 0, 0]], np.float32))


@pytest.mark.parametrize("name", ["llama", "qwen3moe", "mamba2", "gemma3n", "deepseek2"])
def test_what_linears_read(tmp_path: Path, name: str) -> None:
    """Also where layers hang together, and of experts."""
    file = GGUFFile.open(tiny_models.write(tmp_path / "model.gguf", name))
    found = {name: each.spread for each in activations_of(file, CHUNKS, 2, quiet) for name in each.tensors}
    squares = SquaresOfLinears(file, len(CHUNKS[0]), n_threads=2, precision="exact")
    squares.read(CHUNKS)
    entries = squares.entries()
    assert found.keys() == entries.keys() and len(found) >= 4
    for tensor, entry in entries.items():
        if len(entry.counts) == 1:
            want = np.sqrt(entry.means()[0])
            np.testing.assert_allclose(found[tensor].columns, want, rtol=1e-3, atol=1e-5 * want.max())


def test_weights(tmp_path: Path) -> None:
    arrays = random_llama.arrays()
    file = GGUFFile.open(random_llama.write(tmp_path / "model.gguf", arrays))
    found = {each.tensors[0]: each.spread for each in weights_of(file, quiet)}
    assert found.keys() == {name for name in arrays if "norm" not in name}
    name = "blk.1.ffn_down.weight"
    assert found[name].rms == pytest.approx(float(np.sqrt((arrays[name] ** 2).mean())), rel=1e-4)


def test_what_is_no_number(tmp_path: Path) -> None:
    arrays = random_llama.arrays()
    arrays["blk.1.attn_q.weight"][3, 5] = np.nan
    arrays["blk.1.ffn_norm.weight"][9] = np.inf
    file = GGUFFile.open(random_llama.write(tmp_path / "model.gguf", arrays))
    with pytest.raises(FormatError, match=r"tensor 'blk\.1\.attn_q\.weight' has NaN or Inf"):
        weights_of(file, quiet)
    with pytest.raises(GgufpyError, match=r"inputs of blk\.1\.attn_output\.weight that are not numbers"):
        activations_of(file, CHUNKS, 1, quiet)


def test_models_that_embed(tmp_path: Path) -> None:
    file = GGUFFile.open(random_bert.write(tmp_path / "bert.gguf", 1))
    found = [each.tensors for each in activations_of(file, CHUNKS, 1, quiet)]
    assert found[1:3] == [("blk.0.attn_output.weight",), ("blk.0.ffn_up.weight",)]
