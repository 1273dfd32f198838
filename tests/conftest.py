"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest

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
