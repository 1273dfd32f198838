"""A key that may change the mathematics is read, or the file is refused."""

from pathlib import Path

import pytest
import tiny_models

from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.values import Value
from ggufpy.runtime.engine import trace

UNREAD: dict[str, Value] = {
    "attention.causal": False,
    "attention.clamp_kqv": 8.0,
    "attention.scale": 0.5,
    "attention.sliding_window": 4,
    "expert_count": 4,
    "final_logit_softcapping": 30.0,
    "logit_scale": 0.5,
    "residual_scale": 0.22,
    "rope.dimension_sections": [8, 4, 4, 0],
    "something.nobody.knows": 0,
    "use_parallel_residual": True,
}
HARMLESS: dict[str, Value] = {
    "attention.causal": True,
    "attention.clamp_kqv": 0.0,
    "expert_count": 0,
    "feed_forward_length": 77,
    "logit_scale": 1.0,
    "rope.dimension_sections": [0, 0, 0, 0],
    "use_parallel_residual": False,
    "vocab_size": 5,
}


@pytest.mark.parametrize("key", UNREAD)
def test_a_key_that_nobody_read_is_refused_by_name(tmp_path: Path, key: str) -> None:
    path = tiny_models.write(tmp_path / "m.gguf", "llama", {key: UNREAD[key]})
    with pytest.raises(UnsupportedModelError, match=rf"'llama\.{key}'"):
        trace(GGUFFile.open(path))


def test_keys_that_change_nothing_are_accepted(tmp_path: Path) -> None:
    trace(GGUFFile.open(tiny_models.write(tmp_path / "m.gguf", "llama", HARMLESS)))
