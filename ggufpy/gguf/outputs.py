"""Files appear under their names when they are whole, and on the disk: all of an output, or none of it.

What is not whole has a name of its own in the same folder, ".ggufpy-", random letters and ".tmp", and is
locked by who writes it. So names of 255 bytes are taken, writers of the same name do not meet, and what a
kill leaves is known by its lock, which ended with its writer: the next writing in that folder removes it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PREFIX, _SUFFIX = ".ggufpy-", ".tmp"


def check_targets(sizes: Mapping[Path, int]) -> None:
    """Refuse files of one folder, and of so many bytes, that could not be written: raises OSError."""
    first, *_ = sizes
    folder = first.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; create it first")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder}: no files may be made in it; choose another folder")
    for path in sizes:
        if path.exists() and not path.is_file():
            raise FileExistsError(f"{path}: is there and not a regular file; choose another name")
    needed, free = sum(sizes.values()), shutil.disk_usage(folder).free
    if needed > free:
        problem = f"takes {needed:,} bytes, the disk has {free:,} free"
        raise OSError(f"{first}: {problem}; make room or choose another place")


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """Streams to write to; at the end of the block they become `paths`, in place of what is there.

    Of a link the target is replaced. The permissions of a replaced file stay. Raises OSError; whatever is
    raised in the block or here, nothing new is left then, and what was there is.
    """
    targets = [Path(os.path.realpath(path)) for path in paths]
    for folder in {target.parent for target in targets}:
        _remove_dead(folder)
    with ExitStack() as stack:
        files = [stack.enter_context(_Unfinished(target.parent)) for target in targets]
        yield [file.stream for file in files]
        for file, target in zip(files, targets, strict=True):
            file.finish(target)
        _rename_all(files, targets)


class _Unfinished:
    """A file with a name of its own, locked; it is removed at the end of its block, if it still has that."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> _Unfinished:
        while True:
            self.path = self._folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
            self.stream = open(self.path, "xb")
            with suppress(OSError):  # where there are no locks, nobody removes anything
                fcntl.flock(self.stream, fcntl.LOCK_EX)
            if os.fstat(self.stream.fileno()).st_nlink:  # else somebody took it for dead before it was locked
                return self
            self.stream.close()

    def __exit__(self, *exception: object) -> None:
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # what could not be written was said before
            self.stream.close()

    def finish(self, target: Path) -> None:
        """Bring the data to the disk, and give the file the permissions of what it replaces."""
        self.stream.flush()
        with suppress(FileNotFoundError):
            before = target.stat()
            with suppress(PermissionError):  # only an administrator may give files away
                os.fchown(self.stream.fileno(), before.st_uid, before.st_gid)
            os.fchmod(self.stream.fileno(), before.st_mode & 0o7777)
        os.fsync(self.stream.fileno())


def _rename_all(files: Sequence[_Unfinished], targets: Sequence[Path]) -> None:
    """All files get their names, or none does; of writers that do this, one after the other."""
    with ExitStack() as undo:
        folders = [
            undo.enter_context(_locked(folder)) for folder in sorted({target.parent for target in targets})
        ]
        for file, target in zip(files, targets, strict=True):
            undo.enter_context(_put_back_on_error(target))
            file.path.replace(target)
        for folder in folders:
            os.fsync(folder)


@contextmanager
def _put_back_on_error(target: Path) -> Iterator[None]:
    """What `target` was has a second name meanwhile; file systems without such cannot put it back."""
    spare = target.parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
    is_new = not target.exists()
    with ExitStack() as stack:
        with suppress(OSError):
            os.link(target, spare)
            stack.callback(spare.unlink, missing_ok=True)
            fcntl.flock(stack.enter_context(spare.open("rb")), fcntl.LOCK_SH)  # it is not dead
        try:
            yield
        except BaseException:
            if is_new:
                target.unlink(missing_ok=True)
            elif spare.exists():
                spare.replace(target)
            raise


def _remove_dead(folder: Path) -> None:
    """Remove what killed writers have left in a folder."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError), open(path, "rb", opener=_without_waiting) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The descriptor of a folder, which nobody else has locked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # where there are no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
