"""Importance matrices against what llama.cpp's own linears read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import random_llama
import tiny
import tiny_models
from oracle import needs_oracle
from oracle_squares import SquaresOracle
from tiny_checkpoints import models

from ggufpy.calibrate.chunks import mixed
from ggufpy.calibrate.squares import SquaresOfLinears, unreached
from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.errors import GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.quants.choice.imatrix_file import Squares
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.chunks import chunks_of

CHUNKS = [[(7 * i + 31 * chunk) % tiny_models.VOCAB for i in range(40)] for chunk in range(3)]


@needs_oracle
@pytest.mark.parametrize("name", ["qwen2", "qwen3moe", "gemma2", "qwen3next", "gpt2"])
def test_sums_are_llama_cpps(tmp_path: Path, shipped_checkpoint: Path, name: str) -> None:
    (model,) = (each for each in models() if each.file.stem == name and not each.case)
    tiny.write(tmp_path, shipped_checkpoint, model.config)
    tiny.save(tmp_path, model.weights())
    (path,) = convert_checkpoint(tmp_path, outtype="f32")
    squares = SquaresOfLinears(GGUFFile.open(path), 40, n_threads=1, precision="exact")
    squares.read(CHUNKS)
    entries = squares.entries()
    with SquaresOracle(path, 40) as oracle:
        oracle.read(CHUNKS)
    # A gate of one row is a vector here; it is never quantized.
    oracle.sums = {name: sums for name, sums in oracle.sums.items() if "gate_inp_shexp" not in name}
    assert entries.keys() == oracle.sums.keys()
    for tensor, sums in oracle.sums.items():
        assert entries[tensor].counts.tolist() == oracle.counts[tensor].tolist(), tensor
        np.testing.assert_allclose(entries[tensor].sums, sums, rtol=1e-3, err_msg=tensor)


def test_the_output_is_measured_if_it_shall_be(tmp_path: Path) -> None:
    squares = SquaresOfLinears(
        GGUFFile.open(tiny_models.write(tmp_path / "m.gguf", "llama")), 40, n_threads=1, precision="fast"
    )
    assert squares.entries() == {}
    seen: list[int] = []
    squares.read(CHUNKS, seen.append)
    assert seen == [1, 2, 3]
    extra = squares.entries(output=True).keys() - squares.entries().keys()
    assert extra == {"output.weight"}
    assert squares.entries(output=True)["output.weight"].counts.tolist() == [120]


def test_experts_that_no_token_has_reached() -> None:
    ones = np.ones((3, 2), np.float32)
    entries = {
        "a": Squares(ones[:1], np.ones(1, np.float32)),
        "b": Squares(ones, np.array([2, 0, 0], np.float32)),
    }
    assert unreached(entries) == {"b": (2, 3)}
    assert entries["b"].means().tolist() == [[0.5, 0.5], [1, 1], [1, 1]]


def test_chunks_begin_as_contexts_do(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(GGUFFile.open(tiny_models.write(tmp_path / "m.gguf", "llama")).metadata)
    assert chunks_of(tokenizer, range(10, 21), 5) == [[1, 11, 12, 13, 14], [1, 16, 17, 18, 19]]
    assert chunks_of(tokenizer, range(4), 5) == []
    tokenizer.add_bos = False
    assert chunks_of(tokenizer, range(10, 21), 5)[0][0] == 10


def test_texts_are_mixed_by_weight() -> None:
    first, second = [[1]] * 9, [[2]] * 2
    assert mixed([first, second], [3, 1]) == [[1], [1], [2], [1], [1], [1], [2], [1]][:8]
    assert len(mixed([first, second], [1, 1])) == 4
    with pytest.raises(GgufpyError, match="text 2 has 2 chunks, too few for its share"):
        mixed([first, second], [9, 0.1])


def test_activations_that_are_no_numbers(tmp_path: Path) -> None:
    for value in (np.nan, 1e30):
        arrays = random_llama.arrays()
        arrays["blk.1.ffn_norm.weight"][9] = value
        file = GGUFFile.open(random_llama.write(tmp_path / "model.gguf", arrays))
        squares = SquaresOfLinears(file, 40, n_threads=1, precision="exact")
        squares.read(CHUNKS[:1])
        problem = r"the square of what 'blk\.1\.ffn_gate\.weight' reads has NaN, Inf .* the model is damaged"
        with pytest.raises(GgufpyError, match=problem):
            squares.entries()
