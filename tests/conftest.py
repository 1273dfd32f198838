"""Fixtures that all tests share."""

import io
import os
from pathlib import Path

import pytest
import random_llama

from ggufpy import convert_checkpoint

ROOT = Path(__file__).resolve().parent.parent


# What `make quick` runs: no encoder is compiled, no oracle asked; one representative of each kind.
QUICK = (
    "api",
    "chat",
    "checkpoint",
    "convert/test_models.py",
    "generate",
    "gguf/test_sources.py",
    "graph",
    "runtime/test_checkprogram.py",
    "runtime/test_ops.py",
    "runtime/test_outputs.py",
    "runtime/test_plan.py",
    "runtime/test_result.py",
    "runtime/test_state.py",
    "test_floors.py",
    "tokenizers/test_bpe.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is quick."""
    for item in items:
        path = item.path.relative_to(ROOT / "tests").as_posix() if item.path.is_relative_to(ROOT) else ""
        if path.startswith(QUICK):
            item.add_marker("quick")


@pytest.fixture(autouse=True)
def empty_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `ggufpy run` reads beside its arguments: nothing, as in cron."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


@pytest.fixture(scope="session")
def shipped_checkpoint() -> Path:
    """The small chat model of the repository, as a Hugging Face checkpoint."""
    return ROOT / "models" / "pocket-wiki-7m-chat"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with llama.cpp's files and figures, where it stands beside the repository."""
    folder = Path(os.environ.get("GGUFPY_SHARED", ROOT.parent / "shared"))
    if not (folder / "conformance").is_dir():
        pytest.skip("no conformance files beside the repository (set GGUFPY_SHARED)")
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A random model of two layers in f32."""
    return random_llama.write(tmp_path / "small.gguf", random_llama.arrays())


@pytest.fixture(scope="session")
def f16(shipped_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as llama.cpp's files were made from it."""
    return convert_checkpoint(shipped_checkpoint, tmp_path_factory.mktemp("f16") / "m.gguf", outtype="f16")[0]
