"""Files of base logits, read and written by code of its own here."""

import io
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.evaluate.base_logits import BaseLogits, BaseWriter, base_size

N_CTX = 9  # positions 4 to 7 of each chunk are predicted from
ROWS = 4


def chunks(n_vocab: int) -> list[list[int]]:
    return [[(7 * i + number) % n_vocab for i in range(N_CTX)] for number in range(2)]


def logits(n_vocab: int) -> NDArray[np.float32]:
    """Of both chunks; some are far below the largest, one row is all the same."""
    rows = np.random.default_rng(1).normal(scale=5, size=(2 * ROWS, n_vocab)).astype(np.float32)
    rows[3, : n_vocab // 2] = -60
    rows[5] = 2.5
    return rows


def written(n_vocab: int) -> bytes:
    stream = io.BytesIO()
    writer = BaseWriter(stream, chunks(n_vocab), n_vocab)
    rows = logits(n_vocab)
    writer.add(rows[:5])
    writer.add(rows[5:])
    return stream.getvalue()


def log_probabilities(row: NDArray[np.float32]) -> list[float]:
    """What a file can tell of a row."""
    values = [max(float(value), float(row.max()) - 16) for value in row]
    log_sum = math.log(sum(math.exp(float(value)) for value in row))
    return [value - log_sum for value in values]


@pytest.mark.parametrize("n_vocab", [40, 41])
def test_a_written_file_is_the_formats(n_vocab: int) -> None:
    data = written(n_vocab)
    assert data[:8] == b"_logits_"
    assert struct.unpack("<3i", data[8:20]) == (N_CTX, n_vocab, 2)
    first, second = chunks(n_vocab)
    assert struct.unpack(f"<{2 * N_CTX}i", data[20 : 20 + 8 * N_CTX]) == (*first, *second)
    width = 2 * ((n_vocab + 1) // 2) + 4  # in uint16
    rest = data[20 + 8 * N_CTX :]
    assert len(rest) == 2 * ROWS * 2 * width
    for i, row in enumerate(logits(n_vocab)):
        stored = rest[2 * width * i : 2 * width * (i + 1)]
        scale, least = struct.unpack("<2f", stored[:8])
        steps = struct.unpack(f"<{n_vocab}H", stored[8 : 8 + 2 * n_vocab])
        assert scale == pytest.approx(min(16, float(np.ptp(row))) / 65535)
        found = [scale * step + least for step in steps]
        np.testing.assert_allclose(found, log_probabilities(row), atol=0.5001 * scale + 1e-5)


@pytest.mark.parametrize("n_vocab", [40, 41])
def test_what_others_wrote_is_read(tmp_path: Path, n_vocab: int) -> None:
    path, random = tmp_path / "base", np.random.default_rng(2)
    rows = [(0.5 + i, -20.0 - i, random.integers(0, 65536, n_vocab).tolist()) for i in range(2 * ROWS)]
    data = b"_logits_" + struct.pack("<3i", N_CTX, n_vocab, 2)
    for chunk in chunks(n_vocab):
        data += struct.pack(f"<{N_CTX}i", *chunk)
    for scale, least, steps in rows:
        data += struct.pack(f"<2f{n_vocab}H", scale, least, *steps) + b"\xff\xff" * (n_vocab % 2)
    path.write_bytes(data)
    with BaseLogits.open(path) as base:
        assert (base.n_ctx, base.n_vocab, base.rows_per_chunk) == (N_CTX, n_vocab, ROWS)
        assert base.tokens.tolist() == chunks(n_vocab)
        found = [base.log_probabilities(1, 1, 3), base.log_probabilities(0, 0, 4)]
    for got, expected in zip(found, (rows[5:7], rows[:4]), strict=True):
        np.testing.assert_allclose(got, [[s * q + m for q in steps] for s, m, steps in expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"_logitz_" + data[8:], "no base logits"),
        (lambda data: data[:15], "no base logits"),
        (lambda data: data[:-1], r"has [\d,]+ bytes, must have [\d,]+"),
        (lambda data: data + b"\0", r"has [\d,]+ bytes, must have [\d,]+"),
        (lambda data: data[:8] + struct.pack("<3i", 2**31 - 1, 2**31 - 1, 2**31 - 1), "must have [0-9,]{20}"),
        (lambda data: data[:8] + struct.pack("<3i", N_CTX, -40, 2) + data[20:], "says 2 chunks of 9 and -40"),
        (lambda data: data[:20] + struct.pack("<i", 40) + data[24:], "tokens beyond its vocabulary of 40"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    path = tmp_path / "base"
    path.write_bytes(change(written(40)))
    with pytest.raises(FormatError, match=message), BaseLogits.open(path):
        pass


def test_scales_that_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "base"
    data = bytearray(written(40))
    data[-50 * 2 :] = b"\xff" * 100
    path.write_bytes(data)
    with (
        BaseLogits.open(path) as base,
        pytest.raises(FormatError, match="chunk 1 has scales that are no num"),
    ):
        base.log_probabilities(1, 0, base.rows_per_chunk)


def test_a_file_that_shrinks_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.write_bytes(written(4000))
    assert path.stat().st_size == base_size(2, N_CTX, 4000)
    with BaseLogits.open(path) as base, path.open("r+b") as stream:
        stream.truncate(40_000)
        with pytest.raises(FormatError, match="became shorter"):
            base.log_probabilities(1, 0, 4)
