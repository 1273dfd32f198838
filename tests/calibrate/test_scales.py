"""Scales that make networks easier to round: found again where they are known to be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import random_llama
import tiny_models
from engines import load, nmse, prompt_logits
from test_folding import TOKENS, any_scales, folds

from ggufpy import quantize_file
from ggufpy.calibrate.folded_file import folded
from ggufpy.calibrate.methods import alpha_of, methods_of
from ggufpy.calibrate.preparing import prepared
from ggufpy.calibrate.smoothquant import int8
from ggufpy.calibrate.squares import SquaresOfLinears
from ggufpy.errors import FormatError, GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.imatrix_file import ImatrixFile

CHUNKS = [[(7 * i + 31 * chunk) % tiny_models.VOCAB for i in range(40)] for chunk in range(3)]


@contextmanager
def unseen(what: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


@contextmanager
def silent(what: str) -> Iterator[Callable[[int, int], None]]:
    seen: list[tuple[int, int]] = []
    yield lambda done, total: seen.append((done, total))
    assert seen == [(1, 2), (2, 2)], what


def blocks(path: Path) -> dict[str, GGMLType]:
    """The matrices of layers, which shall be q4_0."""
    tensors = GGUFFile.open(path).tensors
    return {
        name: GGMLType.Q4_0
        for name, info in tensors.items()
        if name.startswith("blk.") and len(info.shape) > 1 and info.shape[-1] % 32 == 0
    }


def error(path: Path, want: Path, folder: Path, precision: str = "exact") -> float:
    """Of the logits of a file at q4_0 with its own importance matrix, against those of another."""
    with GGUFFile.open(path) as file:
        sums = SquaresOfLinears(file, 40, n_threads=1, precision="exact")
        sums.read(CHUNKS)
        matrix = ImportanceMatrix.of("x", ImatrixFile(sums.entries(), ["x"], 3, 40))
    (path,) = quantize_file(
        path,
        folder / "q.gguf",
        "q4_0",
        imatrix=matrix,
        pure=True,
        allow_requantize=True,
        token_embedding_type="f32",
        output_tensor_type="f32",
    )
    return nmse(prompt_logits(load(path, precision), TOKENS), prompt_logits(load(want), TOKENS))


@pytest.mark.parametrize("name", ["llama", "qwen3moe", "deepseek2"])
@pytest.mark.parametrize("method", ["awq", "smoothquant"])
def test_bad_scales_are_mended(tmp_path: Path, name: str, method: str) -> None:
    good = tiny_models.write(tmp_path / "good.gguf", name)
    bad = folded(good, any_scales(folds(good)), tmp_path / "bad.gguf")
    path = prepared(bad, [method], blocks(bad), CHUNKS, tmp_path, n_threads=1, counted=silent)
    assert nmse(prompt_logits(load(path), TOKENS), prompt_logits(load(good), TOKENS)) < 1e-8
    assert error(path, good, tmp_path) < 0.7 * error(bad, good, tmp_path)


def test_scales_for_activations_of_8_bits(tmp_path: Path) -> None:
    """Outliers behind norms cost activations of 8 bits much, and weights of 8 bits little."""
    good = tiny_models.write(tmp_path / "good.gguf", "llama")
    after_norms = {fold: scales**2 for fold, scales in any_scales(folds(good)).items() if fold.after_norm}
    bad = folded(good, after_norms, tmp_path / "bad.gguf")
    types = dict.fromkeys(blocks(bad), GGMLType.Q8_0)
    path = prepared(bad, ["smoothquant=0.5"], types, CHUNKS, tmp_path, n_threads=1, counted=silent)
    errors = []
    for each in (path, bad):
        (q8,) = quantize_file(each, tmp_path / "q8.gguf", "q8_0", pure=True, allow_requantize=True)
        errors.append(nmse(prompt_logits(load(q8, "int8"), TOKENS), prompt_logits(load(good), TOKENS)))
    assert errors[0] < 0.5 * errors[1]


def test_integers_of_blocks() -> None:
    x = np.zeros((2, 64), np.float32)
    x[0, :3], x[1, 40] = (127, 0.6, -1.4), -1
    want = np.zeros_like(x)
    want[0, :3], want[1, 40] = (127, 1, -1), -1
    np.testing.assert_allclose(int8(x), want, rtol=1e-6)


def test_nothing_to_round(tmp_path: Path) -> None:
    path = tiny_models.write(tmp_path / "model.gguf", "llama")
    assert prepared(path, ["awq", "smoothquant"], {}, CHUNKS, tmp_path, n_threads=1, counted=silent) == path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gptq", "'gptq' does not fold; those that do are rotate, awq, smoothquant"),
        ("awq=0.5", "'awq=0.5' does not fold"),
        ("rotate=2", "'rotate=2' does not fold"),
        ("smoothquant=2", "'smoothquant=2': give a number from 0 to 1, or auto"),
        ("smoothquant=nan", "give a number"),
        ("smoothquant=much", "give a number"),
    ],
)
def test_methods_that_are_none(tmp_path: Path, name: str, problem: str) -> None:
    path = tiny_models.write(tmp_path / "model.gguf", "llama")
    with pytest.raises(FormatError, match=problem):
        prepared(path, [name], {}, CHUNKS, tmp_path, n_threads=1, counted=silent)


def test_alphas_are_checked_before_anything_is_read() -> None:
    assert methods_of("smoothquant=1,rotate") == ("rotate", "smoothquant=1")
    assert alpha_of("smoothquant=0.25") == 0.25 and alpha_of("smoothquant=auto") is None
    with pytest.raises(FormatError, match="'smoothquant=-1': give a number from 0 to 1, or auto"):
        methods_of("smoothquant=-1")


def test_numbers_that_are_none(tmp_path: Path) -> None:
    arrays = random_llama.arrays()
    arrays["blk.1.attn_norm.weight"][3] = np.inf
    path = random_llama.write(tmp_path / "model.gguf", arrays)
    with pytest.raises(GgufpyError, match=r"inputs of blk\.1\.attn_v\.weight that are not numbers"):
        prepared(path, ["awq"], blocks(path), [[1, *range(3, 30)]], tmp_path, n_threads=1, counted=unseen)
