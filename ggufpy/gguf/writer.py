"""Writing GGUF files: sizes first, then tensor by tensor, so that memory holds a few MiB of rows.

Version 3, little-endian. Files appear under their names only when they are whole.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError, ShapeError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.inputs import Inputs
from ggufpy.gguf.layout import (
    ALIGNMENT,
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_DIMENSIONS,
    MAX_KEY_BYTES,
    MAX_NAME_BYTES,
    padded,
)
from ggufpy.gguf.outputs import check_targets, whole_files
from ggufpy.gguf.splits import SPLIT_COUNT, SPLIT_ID, SPLIT_NO, SPLIT_TENSORS, SPLIT_TYPES, shard_path
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.values import Typed, Value, ValueType, encode_string, encode_value, typed

VERSION = 3
MAX_SHARDS = 65535
_SLAB_BYTES = 4 << 20
_ID_BYTES = 16  # of a writing's id, which is written in hexadecimal

Progress = Callable[[TensorSource, int], None]


@dataclass(frozen=True, slots=True)
class _File:
    """A file to be written: its header with the padding behind it, and its tensors."""

    path: Path
    header: bytes
    tensors: Sequence[TensorSource]
    alignment: int

    @property
    def n_bytes(self) -> int:
        return len(self.header) + sum(padded(tensor.n_bytes, self.alignment) for tensor in self.tensors)


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value | Typed],
    tensors: Sequence[TensorSource],
    *,
    split_max_size: int | None = None,
    shards: Sequence[int] | None = None,
    inputs: Inputs | None = None,
    on_progress: Progress | None = None,
) -> list[Path]:
    """Write a model to `path`, or to shards of at most `split_max_size` bytes beside it; returns the files.

    A shard with a single tensor may be larger; a model that fits in one shard becomes a plain file. shards:
    in place of a size, how many tensors each file gets. split.* keys in `metadata` are left out, as they
    belong to the files that it came from. inputs: files that must not be written to, and must stay as they
    are till the end. on_progress is told of each slab of a tensor: the tensor, and the bytes written.
    Raises FormatError for metadata or names that GGUF cannot hold, and for inputs that change or would be
    written to, ShapeError for a tensor that does not have the rows that it says, OSError if there is no room.
    Whatever the reason, nothing is left behind then.
    """
    files = _checked_plan(path, metadata, tensors, split_max_size, shards)
    paths, inputs = [file.path for file in files], inputs or Inputs()
    inputs.check_outputs(paths)
    check_targets({file.path: file.n_bytes for file in files})
    with whole_files(paths) as streams:
        for stream, file in zip(streams, files, strict=True):
            _write_file(stream, file, on_progress)
        inputs.check()
    return paths


def file_sizes(
    path: Path,
    metadata: Mapping[str, Value | Typed],
    tensors: Sequence[TensorSource],
    *,
    split_max_size: int | None = None,
    shards: Sequence[int] | None = None,
) -> dict[Path, int]:
    """The files that `write_gguf` would write, and their bytes; raises what it raises for these arguments."""
    files = _checked_plan(path, metadata, tensors, split_max_size, shards)
    return {file.path: file.n_bytes for file in files}


def _checked_plan(
    path: Path,
    metadata: Mapping[str, Value | Typed],
    tensors: Sequence[TensorSource],
    split_max_size: int | None,
    shards: Sequence[int] | None,
) -> list[_File]:
    for key in metadata:
        _check_name(f"metadata key {quoted(key)}", key, MAX_KEY_BYTES)
    entries = {key: typed(key, value) for key, value in metadata.items() if key not in SPLIT_TYPES}
    _check_tensors(tensors)
    return _plan(path, entries, tensors, split_max_size, shards)


def _check_tensors(tensors: Sequence[TensorSource]) -> None:
    names = set()
    for tensor in tensors:
        what = f"tensor {quoted(tensor.name)}"
        _check_name(what, tensor.name, MAX_NAME_BYTES)
        if tensor.name in names:
            raise FormatError(f"{what} is there twice; a GGUF file takes a name once")
        names.add(tensor.name)
        if not 1 <= len(tensor.shape) <= MAX_DIMENSIONS:
            raise ShapeError(f"{what} has shape {tensor.shape}; GGUF takes 1 to {MAX_DIMENSIONS} dimensions")
        try:
            _ = tensor.row_bytes
        except ShapeError as exc:
            raise ShapeError(f"{what}: {exc}; choose another type for it") from exc


def _check_name(what: str, name: str, limit: int) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError as exc:
        raise FormatError(f"{what}: its name is not Unicode text ({exc}); choose another") from exc
    if not 0 < size <= limit:
        raise FormatError(f"{what}: its name has {size} bytes; choose one of 1 to {limit}")


def _plan(
    path: Path,
    metadata: Mapping[str, Typed],
    tensors: Sequence[TensorSource],
    split_max_size: int | None,
    shards: Sequence[int] | None,
) -> list[_File]:
    """Decide which tensors go to which file, and make the headers."""
    alignment = _alignment(metadata)
    encoded = {key: encode_string(key) + encode_value(key, value) for key, value in metadata.items()}
    groups: Sequence[Sequence[TensorSource]] = [tensors]
    if split_max_size is not None:
        groups = _groups(encoded, tensors, alignment, split_max_size)
    if shards is not None:
        groups = [tensors[end - n : end] for n, end in zip(shards, accumulate(shards), strict=True)]
    if len(groups) == 1:
        return [_File(path, _header(encoded, tensors, alignment), tensors, alignment)]
    if len(groups) > MAX_SHARDS:
        raise FormatError(f"{path}: takes {len(groups)} shards, the limit is {MAX_SHARDS}; allow larger ones")
    files = []
    id = secrets.token_hex(_ID_BYTES)
    for index, group in enumerate(groups):
        header = _header(_shard_metadata(encoded, index, len(groups), len(tensors), id), group, alignment)
        files.append(_File(shard_path(path, index, len(groups)), header, group, alignment))
    return files


def _shard_metadata(
    encoded: Mapping[str, bytes], index: int, count: int, n_tensors: int, id: str
) -> dict[str, bytes]:
    """What stands in shard `index`: everything in the first, in the others what it takes to read them."""
    shard = {key: data for key, data in encoded.items() if index == 0 or key == ALIGNMENT}
    values: dict[str, Value] = {SPLIT_NO: index, SPLIT_COUNT: count, SPLIT_TENSORS: n_tensors, SPLIT_ID: id}
    for key, value in values.items():
        shard[key] = encode_string(key) + encode_value(key, Typed(value, SPLIT_TYPES[key]))
    return shard


def _alignment(metadata: Mapping[str, Typed]) -> int:
    given = metadata.get(ALIGNMENT, Typed(DEFAULT_ALIGNMENT, ValueType.U32))
    if not isinstance(given.value, int) or given.type is not ValueType.U32 or given.value.bit_count() != 1:
        problem = f"{given.value!r:.40} ({given.type.label}) is not a power of two (u32)"
        raise FormatError(f"metadata key '{ALIGNMENT}': {problem}; the default is {DEFAULT_ALIGNMENT}")
    return given.value


def _groups(
    encoded: Mapping[str, bytes], tensors: Sequence[TensorSource], alignment: int, limit: int
) -> list[list[TensorSource]]:
    """Fill shards in order, each with as many tensors as fit beside its header."""
    groups: list[list[TensorSource]] = [[]]
    id = "0" * 2 * _ID_BYTES
    # Headers without tensors, and the most that aligning their end can add.
    first, other = (
        len(_header(_shard_metadata(encoded, index, 0, 0, id), [], alignment)) + alignment - 1
        for index in (0, 1)
    )
    used = first
    for tensor in tensors:
        size = len(_tensor_entry(tensor, 0)) + padded(tensor.n_bytes, alignment)
        if groups[-1] and used + size > limit:
            groups.append([])
            used = other
        groups[-1].append(tensor)
        used += size
    return groups


def _header(encoded: Mapping[str, bytes], tensors: Sequence[TensorSource], alignment: int) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(encoded)), *encoded.values()]
    offset = 0
    for tensor in tensors:
        parts.append(_tensor_entry(tensor, offset))
        offset += padded(tensor.n_bytes, alignment)
    header = b"".join(parts)
    return header.ljust(padded(len(header), alignment), b"\0") if tensors else header


def _tensor_entry(tensor: TensorSource, offset: int) -> bytes:
    shape = tensor.shape[::-1]
    numbers = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, tensor.type, offset)
    return encode_string(tensor.name) + numbers


def _write_file(stream: BinaryIO, file: _File, on_progress: Progress | None) -> None:
    stream.write(file.header)
    for tensor in file.tensors:
        for slab in _slabs(tensor):
            stream.write(np.ascontiguousarray(slab).data)
            if on_progress is not None:
                on_progress(tensor, slab.nbytes)
        stream.write(bytes(padded(tensor.n_bytes, file.alignment) - tensor.n_bytes))


def _slabs(tensor: TensorSource) -> Iterator[NDArray[np.uint8]]:
    """The rows of a tensor, a few MiB at a time; raises ShapeError if they are not what the header says."""
    if tensor.n_bytes == 0:
        return
    step = max(1, _SLAB_BYTES // tensor.row_bytes)
    for start in range(0, tensor.rows, step):
        stop = min(start + step, tensor.rows)
        slab = tensor.read(start, stop)
        if slab.shape != (stop - start, tensor.row_bytes) or slab.dtype != np.uint8:
            problem = f"rows {start} to {stop} came as {slab.dtype} {slab.shape}"
            expected = f"uint8 {(stop - start, tensor.row_bytes)}"
            raise ShapeError(f"tensor {quoted(tensor.name)}: {problem}, not {expected}; its source is wrong")
        yield slab
