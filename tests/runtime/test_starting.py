"""Starting a model: what is imported, and how the weights lie in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import random_llama
from random_llama import VOCAB

from ggufpy.api.llama import Llama
from ggufpy.commands import run
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and drops a capability")

# Root may lock whatever it likes, unless it gives that right (CAP_IPC_LOCK, 14) away.
WITHOUT_LOCKED_MEMORY = """
import ctypes, resource, sys
libc = ctypes.CDLL(None, use_errno=True)
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
for i in range(3):
    sets[i] &= ~(1 << 14)
assert libc.capset(header, sets) == 0
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
from ggufpy.commands.run import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_llama.write(
        tmp_path_factory.mktemp("model") / "model.gguf",
        random_llama.arrays(),
        tokenizer__ggml__tokens=["<unk>", "<s>", "</s>", *(chr(ord(" ") + i) for i in range(VOCAB - 3))],
        tokenizer__ggml__token_type=[2, 3, 3, *[1] * (VOCAB - 3)],
    )


def test_answering_imports_nothing_that_it_does_not_need(path: Path) -> None:
    code = (
        "import sys; from ggufpy.commands.run import main; status = main(sys.argv[1:]); "
        "unwanted = ('prompt_toolkit', 'rich', 'numba', 'jinja2', 'ggufpy.convert'); "
        "print(status, [name for name in unwanted if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "-m", str(path), "-no-cnv", "-p", "a", "-n", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "0 []"


def locked_kib() -> int:
    found = re.search(r"VmLck:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


@linux
def test_locked_weights(path: Path) -> None:
    before = locked_kib()
    with Llama(path, use_mlock=True):
        weights = sum(array.nbytes for array in random_llama.arrays().values())
        assert locked_kib() - before >= weights // 1024


@linux
def test_a_limit_on_locked_memory_is_one_line(path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LOCKED_MEMORY, "-m", str(path), "-no-cnv", "-p", "a", "--mlock"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert f"error: {path}: cannot lock " in result.stderr
    assert "allow it with 'ulimit -l unlimited' (now: 4 KiB)" in result.stderr


def test_memory_options(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-m", str(path), "-no-cnv", "-p", "a", "-n", "3", "--temp", "0"]
    texts = []
    for options in ([], ["--mlock"], ["--no-huge-pages"]):
        assert run.main([*command, *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2]


@linux
@pytest.mark.parametrize("huge", [True, False])
def test_huge_pages_are_asked_for(path: Path, tmp_path: Path, huge: bool) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(path.read_bytes())
    with GGUFFile.open(copy) as file:
        Engine.load(file, n_ctx=32, n_threads=1, huge_pages=huge)
        mappings = Path("/proc/self/smaps").read_text().split("VmFlags:")
        weights = [flags.split("\n")[0] for before, flags in pairwise(mappings) if str(copy) in before]
    assert any(" hg" in flags for flags in weights) is huge
