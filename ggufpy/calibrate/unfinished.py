"""What of a long calibration is done, kept beside its output until that is whole.

Whoever is stopped and starts the same command again goes on from there. Each step leaves a small JSON file
when all else that it has made is on the disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ggufpy.errors import GgufpyError

_IDENTITY = "of.json"
_LOCK = "lock"


def identity_of(source: Path, chunks: Sequence[Sequence[int]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same for a calibration to go on: the file, the tokens, and `facts`."""
    state = source.stat()
    tokens = np.concatenate([np.array(chunk, np.int64) for chunk in chunks])
    return {
        "source": [str(source.resolve()), state.st_size, state.st_mtime_ns],
        "tokens": hashlib.sha256(tokens.tobytes()).hexdigest(),
        **facts,
    }


@contextmanager
def unfinished(out: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """A folder beside `out` for what is done; it is gone when the block ends well, or by a GgufpyError.

    What is in it is of the same identity. Raises GgufpyError if another process is at it, OSError.
    """
    folder = out.with_name(f".{out.name}.calibration")
    folder.mkdir(exist_ok=True)
    with (folder / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GgufpyError(f"{out}: another process is calibrating it; wait, or name another") from None
        if done(folder / _IDENTITY) != json.loads(json.dumps(identity)):
            for path in folder.iterdir():
                if path.name != _LOCK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finish(folder / _IDENTITY, identity)
        try:
            yield folder
        except GgufpyError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def done(path: Path) -> Any:
    """What a step has left, None if it is not done."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return None


def finish(path: Path, result: Any) -> None:
    """A step is done, and all that it made is written: leave its result."""
    unready = path.with_name(f"{path.name}.unready")
    unready.write_text(json.dumps(result))
    os.replace(unready, path)


def save(path: Path, array: np.ndarray[Any, Any]) -> None:
    """An array as a file that is whole or not there."""
    unready = path.with_name(f"unready-{path.name}")
    np.save(unready, array)
    os.replace(unready, path)
