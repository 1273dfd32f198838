"""Any JSON value in any place of any file of a checkpoint: a file that is right, or one line of ours."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import mutations
import pytest
from tiny_checkpoints import models

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.errors import GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.tokenizers import load_tokenizer

MODELS = [model for model in models() if not model.case]
TRIES = 8  # of each model


def opened(path: Path) -> None:
    """What opening a file checks of it, but for the weights."""
    with GGUFFile.open(path) as file:
        load_tokenizer(file.metadata)


@pytest.mark.parametrize("number", range(len(MODELS)), ids=lambda n: MODELS[n].name)
def test_senseless_json(tmp_path: Path, number: int) -> None:
    choose = random.Random(number)
    tokenizer = list(mutations.TOKENIZERS)[number % 3]
    files = mutations.write(tmp_path, MODELS[number], tokenizer)
    out = tmp_path / "out.gguf"
    convert_checkpoint(tmp_path, out)
    opened(out)
    for _ in range(TRIES):
        name = choose.choice(list(files))
        text = broken(choose, files[name])
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_text(text)
        try:
            convert_checkpoint(tmp_path, out)
            opened(out)
        except GgufpyError as error:
            assert "\n" not in str(error) and len(str(error)) < 1500
        (tmp_path / name).write_bytes(kept)


def broken(choose: random.Random, value: Any) -> str:
    return mutations.replaced(
        value, choose.choice(list(mutations.places(value))), choose.choice(mutations.VALUES)
    )
