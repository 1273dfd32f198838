"""Damaged, hostile and foreign files: refused by the GGUF reader in one clear line, at no cost.

The cases are those of llama.cpp's tests/test-gguf.cpp, of known vulnerabilities of GGUF readers, and more.
"""

import os
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U32,
    U64,
    array,
    entry,
    gguf_bytes,
    small_file,
    string,
    tensor,
    u32,
    write,
)

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType

BOTH_ORDERS = pytest.mark.parametrize("order", ["<", ">"])


def refused(folder: Path, data: bytes) -> str:
    """The message of the FormatError that `data` raises."""
    with pytest.raises(FormatError) as caught:
        GGUFFile.open(write(folder, data))
    message = str(caught.value)
    assert "model.gguf: " in message and "\n" not in message and "; " in message
    return message


HUGE = [1 << 30, 1 << 60, 1 << 61, (1 << 63) - 1, -1, -(1 << 63)]


@pytest.mark.parametrize("count", HUGE)
def test_hostile_header_counts(tmp_path: Path, count: int) -> None:
    assert f"number of tensors is {count}" in refused(tmp_path, gguf_bytes(n_tensors=count))
    assert f"entries is {count}" in refused(tmp_path, gguf_bytes([u32("a", 1)], n_values=count))


@BOTH_ORDERS
@pytest.mark.parametrize("version", [0, 1, 4, 1 << 16, (1 << 32) - 1])
def test_versions(tmp_path: Path, version: int, order: str) -> None:
    assert "GGUF version" in refused(tmp_path, gguf_bytes(version=version, order=order))


def test_wrong_endianness_of_the_body(tmp_path: Path) -> None:
    refused(tmp_path, small_file(">")[:4] + small_file("<")[4:8] + small_file(">")[8:])


def test_files_of_other_kinds(tmp_path: Path) -> None:
    assert "is empty" in refused(tmp_path, b"")
    assert "begins with b'# He'" in refused(tmp_path, b"# Hello\n\nThis is a text, renamed.\n")
    assert "is a Git LFS pointer" in refused(
        tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0"
    )
    assert "is a web page" in refused(tmp_path, b"\n<!DOCTYPE html><html><head>")
    assert "begins with b'PK" in refused(tmp_path, b"PK\3\4 and so on")
    assert "begins with b'FUGG'" in refused(tmp_path, b"FUGG" + small_file(">")[4:])


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is a folder, not a GGUF file; name"):
        GGUFFile.open(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^.*missing\.gguf: no such file; check the path$"):
        GGUFFile.open(tmp_path / "missing.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(FormatError, match="is not a regular file; "):
        GGUFFile.open(tmp_path / "pipe.gguf")


def key_of(length: int) -> bytes:
    return string("abc", length=length) + struct.pack("<II", U32, 1)


BAD_METADATA = {
    "key length 2^64-1": (key_of(2**64 - 1), "metadata key 0 takes 18446744073709551615 bytes"),
    "key length 2^63": (key_of(2**63), "metadata key 0 takes"),
    "key length past the end": (key_of(1000), "metadata key 0 takes 1000 bytes, the file has"),
    "empty key": (u32("", 1), "metadata key 0 is empty"),
    "key not UTF-8": (entry(b"\xff", U32, bytes(4)), "metadata key 0 is not UTF-8"),
    "long key": (u32("k" * 65536, 1), "has 65536 bytes, the limit is 65535"),
    "key twice": (u32("same", 1) + u32("same", 2), "'same' appears twice"),
    "type 13": (entry("k", 13, bytes(64)), "metadata 'k' has type 13"),
    "type 2^32-1": (entry("k", 2**32 - 1, bytes(64)), "has type 4294967295"),
    "bool of 2": (entry("k", BOOL, b"\2"), "is a bool of value 2"),
    "bools of 2": (entry("k", ARRAY, array(BOOL, 3, b"\1\0\2")), "has bools of a value other"),
    "string 2^64-1": (
        entry("k", STRING, string("abc", length=2**64 - 1)),
        "takes 18446744073709551615 bytes",
    ),
    "string 1 GiB": (entry("k", STRING, string("abc", length=2**30)), "takes 1073741824 bytes, the file has"),
    "array 2^64-1": (
        entry("k", ARRAY, array(U8, 2**64 - 1)),
        "length of metadata 'k' is 1844674407",
    ),
    "array 2^63": (entry("k", ARRAY, array(U32, 2**63)), "length of metadata 'k' is"),
    "array of 2^61 * 8": (entry("k", ARRAY, array(U64, 2**61 + 1, bytes(8))), "length of metadata 'k' is"),
    "array of 2^62 * 4": (entry("k", ARRAY, array(F32, 2**62 + 1, bytes(4))), "length of metadata 'k' is"),
    "array past the end": (entry("k", ARRAY, array(U32, 3, bytes(8))), "length of metadata 'k' is 3"),
    "strings 2^60": (entry("k", ARRAY, array(STRING, 2**60, string("a"))), "length of metadata 'k' is"),
    "strings past the end": (entry("k", ARRAY, array(STRING, 2, string("abcdefgh"))), "metadata 'k' takes"),
    "string of 2^64-1 in array": (
        entry("k", ARRAY, array(STRING, 2, string("a", length=2**64 - 1) + string("b"))),
        "a string of metadata 'k' takes 18446744073709551615 bytes, the limit is",
    ),
    "string of 1000 in array": (
        entry("k", ARRAY, array(STRING, 1, string("a", length=1000))),
        "a string of metadata 'k' takes 1000 bytes, the file has",
    ),
    "arrays in an array": (entry("k", ARRAY, array(ARRAY, 1, array(U8, 1, b"\1"))), "an array of arrays"),
    "array of type 13": (entry("k", ARRAY, array(13, 1, bytes(64))), "has type 13"),
    "alignment u64": (entry("general.alignment", U64, struct.pack("<Q", 32)), "is 32 (u64), not a power"),
    "alignment i32": (entry("general.alignment", I32, struct.pack("<i", 32)), "is 32 (i32), not a power"),
    "alignment string": (entry("general.alignment", STRING, string("32")), "is '32' (string), not a power"),
    "alignment array": (
        entry("general.alignment", ARRAY, array(U32, 1, struct.pack("<I", 32))),
        "is [32] (u32), not a power",
    ),
    "alignment 0": (u32("general.alignment", 0), "is 0 (u32), not a power"),
    "alignment 13": (u32("general.alignment", 13), "is 13 (u32), not a power"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_bad_metadata(tmp_path: Path, case: str) -> None:
    data, problem = BAD_METADATA[case]
    n_values = 2 if case == "key twice" else 1
    assert problem in refused(tmp_path, gguf_bytes([data], n_values=n_values))


BIG = 1 << 62
BAD_TENSORS = {
    "name of 64 bytes": ([tensor("n" * 64, [1])], "its name has 64 bytes, the limit is 63"),
    "name of 64 bytes in 22 characters": ([tensor("€" * 21 + "n", [1])], "its name has 64 bytes"),
    "name of 2^64-1 bytes": ([string("n", length=2**64 - 1) + bytes(64)], "name of tensor 0 takes"),
    "name not UTF-8": ([tensor(b"\xc3", [1])], "name of tensor 0 is not UTF-8"),
    "name twice": ([tensor("n", [8]), tensor("n", [8], offset=32)], "tensor 'n' appears twice"),
    "5 dimensions": ([tensor("n", [1] * 5)], "has 5 dimensions, the limit is 4"),
    "2^32-1 dimensions": ([tensor("n", [1], n_dims=2**32 - 1)], "has 4294967295 dimensions"),
    "negative": ([tensor("n", [-1])], "the impossible shape (-1,)"),
    "negative twice": ([tensor("n", [-4, -4])], "the impossible shape (-4, -4)"),
    "product wraps": ([tensor("n", [1 << 32, 1 << 32], 24)], "the impossible shape"),
    "product wraps to small": ([tensor("n", [BIG, 4, 2, 1], 24)], "the impossible shape"),
    "product with a zero": ([tensor("n", [0, BIG, BIG])], "the impossible shape"),
    "product is 2^63": ([tensor("n", [BIG, 2], 24)], "the impossible shape"),
    "bytes wrap": ([tensor("n", [BIG], 0)], "the impossible shape"),
    "bytes wrap beside a zero": ([tensor("n", [BIG, 0], 0)], "the impossible shape"),
    "more bytes than there are": ([tensor("n", [1 << 60], 0)], "tensor data ends at byte"),
    "padding wraps": ([tensor("n", [2**63 - 1], 24), tensor("m", [1], 24, 2**63)], "tensor data ends at"),
    "sizes wrap together": (
        [tensor(str(i), [1 << 60], 0, i << 62) for i in range(4)] + [tensor("n", [8], 0)],
        "its place is 18446744073709551616",
    ),
    "half a block": ([tensor("n", [16], GGMLType.Q4_0)], "does not divide into q4_0 blocks"),
    "rows of half a block": ([tensor("n", [16, 2], GGMLType.Q8_0)], "does not divide into q8_0 blocks"),
    "misplaced": ([tensor("n", [8], offset=4)], "has offset 4, its place is 0"),
    "misplaced by a block": ([tensor("n", [8], offset=32)], "has offset 32, its place is 0"),
    "a gap": ([tensor("n", [8]), tensor("m", [8], offset=64)], "has offset 64, its place is 32"),
    "not padded": ([tensor("n", [6]), tensor("m", [8], offset=24)], "has offset 24, its place is 32"),
    "overlapping": ([tensor("n", [8]), tensor("m", [8], offset=0)], "has offset 0, its place is 32"),
    "out of order": ([tensor("n", [8], offset=32), tensor("m", [8])], "has offset 32, its place is 0"),
    "offset 2^64-32": ([tensor("n", [8], offset=2**64 - 32)], "its place is 0"),
    "other alignment": ([tensor("n", [8]), tensor("m", [16], offset=64)], "its place is 32"),
    "past the end": ([tensor("n", [17])], "the file has"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors(tmp_path: Path, case: str) -> None:
    tensors, problem = BAD_TENSORS[case]
    assert problem in refused(tmp_path, gguf_bytes([], tensors, bytes(64)))


@pytest.mark.parametrize("type", [4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, 2**32 - 1])
def test_removed_and_unknown_types(tmp_path: Path, type: int) -> None:
    assert f"has type {type}" in refused(tmp_path, gguf_bytes([], [tensor("n", [256], type)], bytes(1024)))


def test_tensors_behind_a_huge_alignment(tmp_path: Path) -> None:
    data = gguf_bytes([u32("general.alignment", 1 << 31)], [tensor("n", [1])], bytes(64))
    assert "tensor data ends at byte 2147483652" in refused(tmp_path, data)


def test_one_byte_of_data_missing(tmp_path: Path) -> None:
    assert "cut off?" in refused(tmp_path, small_file()[:-1])


@BOTH_ORDERS
def test_truncation_at_every_byte(tmp_path: Path, order: str) -> None:
    data = small_file(order)
    path = write(tmp_path, data)
    GGUFFile.open(path).close()
    for size in reversed(range(len(data))):
        os.truncate(path, size)
        with pytest.raises(FormatError):
            GGUFFile.open(path)


@BOTH_ORDERS
def test_damaged_bytes_never_escape(tmp_path: Path, order: str) -> None:
    """Whatever byte or word is wrong: the file opens and all of it can be read, or it is a FormatError."""
    rng = random.Random(1)
    original = small_file(order)
    path = tmp_path / "model.gguf"
    opened = 0
    for _ in range(1000):
        data = bytearray(original)
        at = rng.randrange(4, len(data))
        width = rng.choice([1, 1, 4, 8])
        data[at : at + width] = rng.choice([rng.randbytes(width), b"\xff" * width, bytes(width)])
        path.write_bytes(data)
        try:
            with GGUFFile.open(path) as file:
                dict(file.metadata)
                [t.source().read(0, 1) for t in file.tensors.values() if t.source().rows]
                opened += 1
        except (FormatError, UnsupportedModelError) as error:
            assert "\n" not in str(error)
    assert 0 < opened < 1000


def test_hostile_counts_allocate_nothing(tmp_path: Path) -> None:
    hostile = [gguf_bytes(n_tensors=1 << 61), gguf_bytes([u32("a", 1)], n_values=1 << 60)]
    hostile += [
        gguf_bytes([BAD_METADATA[case][0]]) for case in BAD_METADATA if "2^" in case or "wraps" in case
    ]
    tracemalloc.start()
    for data in hostile:
        refused(tmp_path, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("type", "whose"),
    [
        (4, "q4_2"),
        (31, "q4_0_4_4"),
        (36, "bitnet.cpp's i2_s"),
        (140, "iq5_k of ik_llama.cpp's"),
        (142, "PrismML's pq2_0"),
        (210, "one of ik_llama.cpp's"),
        (400, "newer"),
    ],
)
def test_types_of_others(type: int, whose: str, tmp_path: Path) -> None:
    assert whose in refused(tmp_path, gguf_bytes([], [tensor("n", [256], type)], bytes(1024)))


@pytest.mark.parametrize(
    ("tensors", "whose"),
    [
        ([tensor("n", [96], 42)], "type 42 may be PrismML's q2_0"),
        ([tensor("n", [2048], 42), tensor("m", [8], 0, 544)], "type 42 may be PrismML's q2_0"),
        ([tensor("n", [256], 39), tensor("m", [8], 0, 96)], "type 39 may be bitnet.cpp's tl2"),
        ([tensor("n", [256], 39), tensor("m", [8], 0, 160)], ""),
    ],
)
def test_numbers_that_forks_use_otherwise(tensors: list[bytes], whose: str, tmp_path: Path) -> None:
    data = gguf_bytes([], tensors, bytes(4096))
    if whose:
        assert f"{whose}" in (message := refused(tmp_path, data)) and "quantize the original" in message
    else:
        GGUFFile.open(write(tmp_path, data)).close()
