"""How the weights of an open file lie in memory."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from ggufpy._kernels import ffi, lib
from ggufpy.errors import GgufpyError

if TYPE_CHECKING:
    from ggufpy.gguf.reader import GGUFFile


def lock_weights(file: GGUFFile) -> None:
    """Read in all weights, and keep the system from paging them out until the file is unmapped.

    Raises GgufpyError if the system allows less locked memory.
    """
    for info in file.tensors.values():
        if error := lib.gg_lock_memory(ffi.from_buffer("uint8_t[]", info.data), info.n_bytes):
            kib = sum(info.n_bytes for info in file.tensors.values()) // 1024 + 1
            remedy = f"allow it with 'ulimit -l unlimited' (now: {_lock_limit()}), or do without mlock"
            raise GgufpyError(
                f"{file.path}: cannot lock {kib} KiB of weights in memory ({os.strerror(error)}); {remedy}"
            )


def _lock_limit() -> str:
    """What this process may lock, as `ulimit -l` says it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit // 1024} KiB"


def advise_huge_pages(file: GGUFFile) -> None:
    """Ask for huge pages for those weights that the system has yet to read from the disk."""
    for info in file.tensors.values():
        lib.gg_advise_huge_pages(ffi.from_buffer("uint8_t[]", info.data), info.n_bytes)
