"""The benchmarks' yardstick: that the probe reads what it says."""

from pathlib import Path

import numpy as np
import pytest
from compare import weight_bytes
from contestants import Probe
from random_model import TYPES, Shape, random_model

from ggufpy.gguf.reader import GGUFFile


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_words", [1, 63, 40000])
def test_the_probe_reads_every_word_at_the_end_of_the_file(
    n_words: int, n_threads: int, tmp_path: Path
) -> None:
    words = np.random.default_rng(0).integers(0, 2**64, 50000, np.uint64, endpoint=False)
    path = tmp_path / "file"
    path.write_bytes(words.tobytes())
    probe = Probe(path, n_words * 8, n_threads)
    assert probe.generate(5) > 0
    assert probe.sum == 5 * int(words[-n_words:].sum(dtype=np.uint64)) % 2**64


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_counts_only_where_it_is_the_output(tied: bool, tmp_path: Path) -> None:
    shape = Shape(1, 256, 4, 2, 64, 512, 4500, tied, 10000.0, 64)
    random_model(tmp_path / "random.gguf", shape, TYPES["q8_0"])
    with GGUFFile.open(tmp_path / "random.gguf") as file:
        matrices = 2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 512 + 4500 * 256
        assert weight_bytes(file) == matrices // 32 * 34 + 3 * 256 * 4
