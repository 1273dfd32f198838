"""The files that an output is made from: they stay as they are until it is whole, and it is none of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ggufpy.errors import FormatError

# What tells that a file is the same, and as it was: device, inode, bytes, nanoseconds.
FileState = tuple[int, int, int, int]


def file_state(status: os.stat_result) -> FileState:
    """The state of a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Inputs:
    """Files, and the state that each had before it was read."""

    def __init__(self) -> None:
        self._states: dict[Path, FileState] = {}

    def note(self, path: Path, state: FileState | None = None) -> None:
        """Add a file that is about to be read, or was in that state; raises OSError if it is not there."""
        self._states.setdefault(path.absolute(), state or file_state(os.stat(path)))

    def note_folder(self, folder: Path, endings: Iterable[str]) -> None:
        """Add all files in a folder whose names end so."""
        for path in sorted(folder.iterdir()):
            if path.suffix in endings and path.is_file():
                self.note(path)

    def check(self) -> None:
        """Raise FormatError if a file is another one now, or not as it was."""
        for path, state in self._states.items():
            try:
                same = file_state(os.stat(path)) == state
            except OSError:
                same = False
            if not same:
                raise FormatError(
                    f"{path}: was changed while it was read; begin again when it stays as it is"
                )

    def check_outputs(self, paths: Iterable[Path]) -> None:
        """Raise FormatError for an output that is one of the files, by whatever name."""
        inputs = {state[:2]: path for path, state in self._states.items()}
        for path in paths:
            try:
                status = os.stat(path)
            except OSError:
                continue  # there is none yet
            if (status.st_dev, status.st_ino) in inputs:
                raise FormatError(
                    f"{path}: is {inputs[status.st_dev, status.st_ino]}, which is read; write to another name"
                )
