"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest
import random_llama

from ggufpy import convert_checkpoint

ROOT = Path(__file__).resolve().parent.parent


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
