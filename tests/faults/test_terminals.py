"""Names and texts from files are never markup and never move the cursor, in whatever a command prints."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import random_llama
from numpy.typing import NDArray

from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.gguf.writer import write_gguf

HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]x[/]\r\x08\x9bnext|line\u202e"
# What a terminal obeys; line ends, and what rich itself writes (colours, cursor) is told by its form.
FORBIDDEN = ["\x1b[2J", "\x1b]0", "\x07", "\x9b", "\x08"]


def in_a_terminal(arguments: list[str]) -> str:
    """All that a command writes to a terminal."""
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env=environment,
    ) as process:
        os.close(follower)
        parts = []
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            parts.append(part)
        process.wait(60)
    os.close(leader)
    return b"".join(parts).decode("utf-8", "replace")


def source(name: str, array: NDArray[np.float32]) -> TensorSource:
    def read(start: int, stop: int) -> NDArray[np.uint8]:
        return array.reshape(-1, array.shape[-1])[start:stop].view(np.uint8)

    return TensorSource(name, array.shape, GGMLType.F32, read)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that runs, with hostile texts wherever there are texts."""
    arrays = random_llama.arrays()
    metadata: dict[str, Value | Typed] = random_llama.metadata(
        general__name=HOSTILE,
        general__basename=HOSTILE,
        general__size_label=HOSTILE,
        tokenizer__chat_template="{{ raise_exception('" + HOSTILE.replace("\r", "") + "') }}",
    )
    metadata[HOSTILE] = HOSTILE
    sources = [source(name, array) for name, array in arrays.items()]
    write_gguf(tmp_path / "hostile.gguf", metadata, sources)
    write_gguf(tmp_path / "odd.gguf", metadata, [*sources, source(HOSTILE, np.zeros((2, 256), np.float32))])
    return tmp_path / "hostile.gguf"


def test_no_command_obeys_a_file(file: Path) -> None:
    odd, out = str(file.with_name("odd.gguf")), str(file.with_name("out.gguf"))
    (text := file.with_name("text")).write_text("abc " * 500)
    for arguments in (
        ["ggufpy.inspect", odd],
        ["ggufpy.quantize", odd, out, "q4_k_m", "--dry-run"],
        ["ggufpy.quantize", odd, out, "q4_k_m"],
        ["ggufpy.run", "-m", odd, "-p", "x", "-n", "2"],
        ["ggufpy.run", "-m", str(file), "-p", "x", "-n", "2"],
        ["ggufpy.run", "-m", str(file), "-no-cnv", "-p", HOSTILE, "-n", "20", "-s", "1"],
        ["ggufpy.bench", "-m", str(file), "-p", "8", "-n", "2", "-r", "1"],
        ["ggufpy.perplexity", "-m", str(file), "-f", str(text), "-c", "64"],
    ):
        shown = in_a_terminal(arguments)
        assert shown.strip(), arguments
        assert "Traceback" not in shown, shown
        assert not [sign for sign in FORBIDDEN if sign in shown], (arguments, shown)
