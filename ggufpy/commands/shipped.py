"""The model that ggufpy brings along: a checkpoint, converted when it is first used."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import ggufpy
from ggufpy.errors import FormatError, GgufpyError
from ggufpy.gguf.reader import GGUFFile

NAME = "pocket-wiki-7m-chat"


def shipped_model() -> Path:
    """The shipped model as a GGUF file in the user's cache; converts it if there is none of this checkpoint.

    Raises GgufpyError if the installation lacks the checkpoint.
    """
    checkpoint = _checkpoint()
    folder = cache_folder()
    path = folder / f"{NAME}-{_state_of(checkpoint)}.gguf"
    if not _is_whole(path):
        # Imported here only: converting needs numba, and chatting should not wait for that.
        from ggufpy.convert.pipeline import convert_checkpoint

        print(f"converting {NAME}, on its first use, to {path}", file=sys.stderr)
        convert_checkpoint(checkpoint, path)
        for older in folder.glob(f"{NAME}-*.gguf"):
            if older != path:
                older.unlink(missing_ok=True)
    return path


def _is_whole(path: Path) -> bool:
    """Whether the file is there and was not cut."""
    try:
        GGUFFile.open(path).close()
    except (OSError, FormatError):
        return False
    return True


def cache_folder() -> Path:
    """A folder that this user can write in: in XDG_CACHE_HOME or ~/.cache, else among the temporary files."""
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not root.is_absolute():
        root = Path(os.path.expanduser("~/.cache"))
    own_temporary = Path(tempfile.gettempdir()) / f"ggufpy-{os.getuid()}"
    for folder in (root / "ggufpy", own_temporary):
        if _is_ours(folder):
            return folder
    return Path(tempfile.mkdtemp(prefix="ggufpy-"))


def _is_ours(folder: Path) -> bool:
    """Whether the folder is there, or can be made, and nobody else put it in our way."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False


def _checkpoint() -> Path:
    package = Path(ggufpy.__file__).parent
    for folder in (package / "models" / NAME, package.parent / "models" / NAME):
        if (folder / "config.json").is_file():
            return folder
    raise GgufpyError(f"the shipped model {NAME} is not installed with ggufpy; name a file with -m")


def _state_of(checkpoint: Path) -> str:
    """Names what converting would give: changes with the checkpoint's files and the converter's."""
    package = Path(ggufpy.__file__).parent
    files = [
        *checkpoint.iterdir(),
        *(package / "convert").rglob("*.py"),
        *(package / "architectures").glob("*.py"),
    ]
    digest = hashlib.sha256()
    for file in sorted(files):
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]
