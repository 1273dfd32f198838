"""A file as bytes: mapped, or read whole; what happens when it changes meanwhile."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path

from ggufpy._kernels import ffi, lib
from ggufpy.errors import FormatError
from ggufpy.gguf.inputs import file_state

_PIECE = 1 << 24  # bytes read at a time, so that an interrupt is seen


class MappedFile:
    """The bytes of a file, for as long as somebody reads them.

    A mapped file is read when its bytes are used, so it must stay as it is; `check` tells. Where it has
    become shorter, zeros are read. state: of the file when it was opened.
    """

    def __init__(self, path: Path, *, use_mmap: bool = True) -> None:
        """Map the regular, not empty file `path`, or read it; raises OSError."""
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._end = weakref.finalize(self, os.close, self._file)
        self._end.atexit = False
        self.state = file_state(os.fstat(self._file))
        self._watch: int | None = None
        if use_mmap:
            self._buffer: mmap.mmap | None = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
            self._watch = _watch(self._buffer)
        else:
            self._buffer = self._read()

    @property
    def buffer(self) -> mmap.mmap:
        """The bytes; raises ValueError once it is closed."""
        if self._buffer is None:
            raise ValueError(f"{self.path}: was closed; open it again")
        return self._buffer

    def check(self) -> None:
        """Raise FormatError if the file that is mapped was written to or cut since.

        One that was removed or replaced stays as it was mapped.
        """
        if self._watch is None or self._buffer is None:
            return
        if lib.gg_is_cut(self._watch) or file_state(os.fstat(self._file)) != self.state:
            raise self.changed()

    def close(self) -> None:
        """Let go of the bytes; the mapping ends with the last array that somebody has made of them."""
        self._buffer = None
        self._end()

    def changed(self) -> FormatError:
        """The error to raise for what is not as it was when the file was opened."""
        return FormatError(f"{self.path}: was changed while it was open; open it again (or copy it first)")

    def _read(self) -> mmap.mmap:
        size = self.state[2]
        buffer = mmap.mmap(-1, size)
        position = 0
        with memoryview(buffer) as view:
            while position < size and (count := os.readv(self._file, [view[position : position + _PIECE]])):
                position += count
        if position < size or file_state(os.fstat(self._file)) != self.state:
            raise self.changed()
        return buffer


def _watch(buffer: mmap.mmap) -> int:
    """Watch for SIGBUS for as long as `buffer` lives."""
    watch: int = lib.gg_watch(ffi.from_buffer("uint8_t[]", buffer), len(buffer))
    weakref.finalize(buffer, lib.gg_unwatch, watch).atexit = False
    return watch
