"""What a stopped calibration leaves, and who may go on with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ggufpy.calibrate.unfinished import done, finish, identity_of, unfinished
from ggufpy.errors import GgufpyError


def test_the_same_goes_on_and_another_begins(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    for identity, found in ((1, None), (1, "half"), (2, None), (2, "half")):
        with pytest.raises(KeyboardInterrupt), unfinished(out, {"is": identity}) as folder:
            assert done(folder / "step.json") == found
            finish(folder / "step.json", "half")
            raise KeyboardInterrupt
    assert folder == tmp_path / ".out.gguf.calibration"


def test_nothing_is_left_of_what_ended(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    with unfinished(out, {}) as folder:
        (folder / "some").mkdir()
    assert not folder.exists()
    with pytest.raises(GgufpyError, match="bad"), unfinished(out, {}):
        raise GgufpyError("bad")
    assert not list(tmp_path.iterdir())


def test_two_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    with unfinished(out, {}) as folder:
        with pytest.raises(GgufpyError, match="another process is calibrating it"), unfinished(out, {}):
            pass
        assert folder.exists()


def test_steps_that_are_half_written(tmp_path: Path) -> None:
    for text in ("", "{", "\xff"):
        (tmp_path / "step.json").write_bytes(text.encode("latin-1"))
        assert done(tmp_path / "step.json") is None


def test_an_identity_is_of_the_file_and_the_tokens(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"a")
    first = identity_of(path, [[1, 2], [3]], {"methods": ["gptq"]})
    assert first == identity_of(path, [[1, 2], [3]], {"methods": ["gptq"]})
    assert first != identity_of(path, [[1, 2], [4]], {"methods": ["gptq"]})
    path.write_bytes(b"ab")
    assert first != identity_of(path, [[1, 2], [3]], {"methods": ["gptq"]})
