"""Reading GGUF files: strict, memory-mapped, versions 2 and 3, both byte orders, split files.

Source: llama.cpp ggml/src/gguf.cpp and src/llama-model-loader.cpp. Where a file could be read in two ways it
is refused; the padding behind the last tensor may be missing, as some writers leave it out.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError, ShapeError
from ggufpy.gguf.byteswap import little_endian
from ggufpy.gguf.cursor import Cursor, quoted
from ggufpy.gguf.layout import ALIGNMENT, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMENSIONS, MAX_NAME_BYTES, padded
from ggufpy.gguf.mapping import MappedFile
from ggufpy.gguf.metadata import Metadata, read_metadata
from ggufpy.gguf.splits import SPLIT_COUNT, SPLIT_ID, SPLIT_NO, SPLIT_TENSORS, SPLIT_TYPES, shard_paths
from ggufpy.gguf.stored import stored_tensor
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType, foreign_type, other_use
from ggufpy.gguf.values import Value, ValueType

VERSIONS = (2, 3)
_LARGEST = 2**63 - 1

# Shape, type and bytes of a tensor.
_Entry = tuple[tuple[int, ...], GGMLType, int]

# The least that a tensor's entry can take: length of the name, number of dimensions, type, offset.
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8
# The least that a metadata entry can take: a key of one byte with its length, a type, a value of one byte.
_LEAST_METADATA_BYTES = 8 + 1 + 4 + 1


@dataclass(frozen=True, slots=True, eq=False)
class TensorInfo:
    """A tensor in a GGUF file.

    shape is in NumPy order (GGUF's own, reversed; without dimensions it is (1,)). offset counts from the
    start of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    mapping: MappedFile
    offset: int
    n_bytes: int
    byte_order: str

    @property
    def file(self) -> Path:
        """The file that it is in."""
        return self.mapping.path

    @property
    def data(self) -> NDArray[np.uint8]:
        """A flat read-only view of the file's bytes, in its byte order.

        The bytes stay where they are for as long as the view lives. Raises ValueError once it is closed.
        """
        whole = np.frombuffer(self.mapping.buffer, np.uint8)
        whole.flags.writeable = False
        return whole[self.offset : self.offset + self.n_bytes]

    def source(self) -> TensorSource:
        """The rows as little-endian bytes, read when they are asked for.

        Raises UnsupportedModelError for types that ggufpy cannot swap, in big-endian files.
        """
        stored = stored_tensor(self.name, self.shape, self.type, self.file, self.offset)
        if self.byte_order == "<":
            return stored
        swap = little_endian(self.type, self.name)
        return replace(stored, read=lambda start, stop: swap(stored.read(start, stop)))


@dataclass(slots=True, eq=False)
class GGUFFile:
    """An open GGUF file, with all its shards if it is split; a context manager.

    version, byte_order ("<" or ">") and metadata are those of the first shard, tensors those of all shards.
    """

    path: Path
    version: int
    byte_order: str
    metadata: Metadata
    tensors: Mapping[str, TensorInfo]
    mappings: tuple[MappedFile, ...]

    @classmethod
    def open(cls, path: Path | str, *, use_mmap: bool = True) -> GGUFFile:
        """Open and check `path`, the file or the first of its shards.

        use_mmap: read what is needed when it is needed, from a file that must stay as it is meanwhile; else
        all is read into memory now.
        Raises FormatError for whatever breaks a rule of the format, OSError for a file that cannot be read.
        """
        first = _open_one(Path(path), use_mmap)
        if first.metadata.get(SPLIT_COUNT, 0) not in (0, 1):
            _gather_shards(first, use_mmap)
        first.check()
        return first

    @property
    def value_types(self) -> Mapping[str, ValueType]:
        """Type of each metadata value; of an array, the type of its elements."""
        return self.metadata.types

    def check(self) -> None:
        """Raise FormatError if a file was written to or cut since it was opened."""
        for mapping in self.mappings:
            mapping.check()

    def close(self) -> None:
        """Let go of the tensors and of arrays not decoded yet, and of the file, unless a view of it lives."""
        self.tensors = {}
        self.metadata.close()
        for mapping in self.mappings:
            mapping.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self.path}: an open file cannot be copied or pickled; open it again")

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_one(path: Path, use_mmap: bool) -> GGUFFile:
    """Open one file, whether it is a whole model or a shard."""
    cursor = _start(path, use_mmap)
    version = _read_version(cursor)
    n_tensors = cursor.count("q", "number of tensors", _LEAST_TENSOR_BYTES)
    n_values = cursor.count("q", "number of metadata entries", _LEAST_METADATA_BYTES)
    metadata = read_metadata(cursor, n_values)
    alignment = _alignment(cursor, metadata)
    tensors = _read_tensors(cursor, n_tensors, alignment)
    return GGUFFile(path, version, cursor.order, metadata, tensors, (cursor.mapping,))


def _start(path: Path, use_mmap: bool) -> Cursor:
    """Map or read the file and check its magic."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    if stat.S_ISDIR(status.st_mode):
        raise FormatError(f"{path}: is a folder, not a GGUF file; name a .gguf file in it")
    if not stat.S_ISREG(status.st_mode):
        raise FormatError(f"{path}: is not a regular file; GGUF files are mapped, so copy it to one first")
    if status.st_size == 0:
        raise FormatError(f"{path}: is empty; get the file again")
    mapping = MappedFile(path, use_mmap=use_mmap)
    head = mapping.buffer[:64]
    if head[:4] != MAGIC:
        raise FormatError(f"{path}: {_what_else(head)}")
    return Cursor(mapping, "<", len(MAGIC))


def _what_else(head: bytes) -> str:
    """What a file is that begins so, and what helps."""
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself; run 'git lfs pull', or download it"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not the file that it shows; download that"
    return f"is not GGUF: begins with {head[:4]!r}, not {MAGIC!r}; another file?"


def _read_version(cursor: Cursor) -> int:
    """Read the version; in a big-endian file its low 16 bits are zero, which turns the cursor around."""
    version: int = cursor.number("I", "version")
    if version & 0xFFFF == 0:
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
        cursor.order = ">"
    if version not in VERSIONS:
        problem = f"is GGUF version {version}, ggufpy reads {' and '.join(map(str, VERSIONS))}"
        raise FormatError(f"{cursor.path}: {problem}; convert the model again")
    return version


def _alignment(cursor: Cursor, metadata: Metadata) -> int:
    if ALIGNMENT not in metadata:
        return DEFAULT_ALIGNMENT
    value, type = metadata[ALIGNMENT], metadata.types[ALIGNMENT]
    if not isinstance(value, int) or type is not ValueType.U32 or value.bit_count() != 1:
        problem = f"{ALIGNMENT} is {value!r:.40} ({type.label}), not a power of two (u32)"
        raise FormatError(f"{cursor.path}: {problem}; convert the model again")
    return value


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    """Read the tensor table and check that the data follows it, in its order and without gaps."""
    entries: dict[str, _Entry] = {}
    end = expected = 0
    before = GGMLType.F32
    for number in range(count):
        name, shape, type, n_bytes = _read_entry(cursor, number)
        if name in entries:
            raise cursor.error(f"tensor {quoted(name)} appears twice")
        offset: int = cursor.number("Q", f"offset of tensor {quoted(name)}")
        if offset != expected:
            problem = f"tensor {quoted(name)} has offset {offset}, its place is {expected}"
            raise _misfit(cursor, problem, before)
        before = type
        entries[name] = (shape, type, n_bytes)
        end = offset + n_bytes
        expected = padded(end, alignment)
    base = padded(cursor.position, alignment)
    if end and base + end > len(cursor.buffer):
        problem = f"tensor data ends at byte {base + end}, the file has {len(cursor.buffer)}"
        raise FormatError(f"{cursor.path}: {problem}; cut off? get it again")
    return _map_tensors(cursor, entries, base, alignment)


def _read_entry(cursor: Cursor, number: int) -> tuple[str, tuple[int, ...], GGMLType, int]:
    """Name, shape, type and size in bytes of a tensor."""
    name = cursor.name(f"name of tensor {number}")
    what = f"tensor {quoted(name)}"
    if len(name.encode()) > MAX_NAME_BYTES:
        raise cursor.error(f"{what}: its name has {len(name.encode())} bytes, the limit is {MAX_NAME_BYTES}")
    n_dims: int = cursor.number("I", f"number of dimensions of {what}")
    if n_dims > MAX_DIMENSIONS:
        raise cursor.error(f"{what} has {n_dims} dimensions, the limit is {MAX_DIMENSIONS}")
    shape = tuple(cursor.number("q", f"shape of {what}") for _ in range(n_dims))[::-1] or (1,)
    id: int = cursor.number("I", f"type of {what}")
    try:
        type = GGMLType(id)
        # Empty tensors too: a length of zero hides no overflow of the others.
        elements = math.prod(max(1, n) for n in shape)
        if min(shape) < 0 or max(elements, elements * type.block_bytes // type.block_size) > _LARGEST:
            raise cursor.error(f"{what} has the impossible shape {shape}")
        return name, shape, type, math.prod(shape[:-1]) * type.row_bytes(shape[-1])
    except ValueError:
        problem, remedy = foreign_type(id)
        raise cursor.error(f"{what} has type {id}, {problem}", remedy) from None
    except ShapeError as exc:
        raise _misfit(cursor, f"{what}: {exc}", type) from exc


def _misfit(cursor: Cursor, problem: str, type: GGMLType) -> FormatError:
    """The error about a tensor of this type that does not have the size of one."""
    other = other_use(type)
    return cursor.error(f"{problem}; {other[0]}", other[1]) if other else cursor.error(problem)


def _map_tensors(
    cursor: Cursor, entries: dict[str, _Entry], base: int, alignment: int
) -> dict[str, TensorInfo]:
    tensors = {}
    offset = base
    for name, (shape, type, n_bytes) in entries.items():
        tensors[name] = TensorInfo(name, shape, type, cursor.mapping, offset, n_bytes, cursor.order)
        offset = padded(offset + n_bytes, alignment)
    return tensors


def _gather_shards(first: GGUFFile, use_mmap: bool) -> None:
    """Add the other shards; raises FormatError if one is missing, foreign or repeats a tensor."""
    count, total = _split_value(first, SPLIT_COUNT), _split_value(first, SPLIT_TENSORS)
    index = _split_value(first, SPLIT_NO)
    if index != 0:
        problem = f"is shard {index + 1} of {count}, the metadata is in the first"
        raise FormatError(f"{first.path}: {problem}; open that one")
    tensors: dict[str, TensorInfo] = {}
    for index, path in enumerate(shard_paths(first.path, count)):
        shard = _open_shard(path, index, count, first.metadata.get(SPLIT_ID), use_mmap) if index else first
        for name, tensor in shard.tensors.items():
            if name in tensors:
                problem = f"tensor {quoted(name)} is in {tensors[name].file.name} too"
                raise FormatError(f"{path}: {problem}; get the files again")
            tensors[name] = tensor
        if index:
            first.mappings += shard.mappings
    if len(tensors) != total:
        problem = f"the {count} shards have {len(tensors)} tensors together, not {total}"
        raise FormatError(f"{first.path}: {problem}; get the files again")
    first.tensors = tensors


def _open_shard(path: Path, index: int, count: int, id: object, use_mmap: bool) -> GGUFFile:
    try:
        shard = _open_one(path, use_mmap)
    except FileNotFoundError:
        problem = f"shard {index + 1} of {count} is missing"
        raise FormatError(f"{path}: {problem}; all shards belong in one folder") from None
    if shard.metadata.get(SPLIT_ID) != id:
        raise FormatError(f"{path}: belongs to another writing than its first shard; get or write all again")
    is_index, is_count = _split_value(shard, SPLIT_NO), _split_value(shard, SPLIT_COUNT)
    if (is_index, is_count) != (index, count):
        problem = f"says that it is shard {is_index + 1} of {is_count}, its name says {index + 1} of {count}"
        raise FormatError(f"{path}: {problem}; get the files again")
    return shard


def _split_value(file: GGUFFile, key: str) -> int:
    value: Value | None = file.metadata.get(key)
    type = file.value_types.get(key)
    if not isinstance(value, int) or type is not SPLIT_TYPES[key]:
        found = "missing" if type is None else f"{value!r:.40} ({type.label})"
        problem = f"{key} is {found}, not a {SPLIT_TYPES[key].label}"
        raise FormatError(f"{file.path}: {problem}; get the files again")
    return value
