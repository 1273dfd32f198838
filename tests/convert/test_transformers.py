"""The same models, with transformers here: what it reads, computes and saves."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from conversion import logits
from random_llama import nmse
from test_gpt_oss import packed
from tiny_checkpoints import COLUMNS, TOKENS, Model, models, reference

from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.gguf.reader import GGUFFile

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
def test_transformers_computes_the_same(tmp_path: Path, shipped_checkpoint: Path, model: Model) -> None:
    tiny.write(tmp_path, shipped_checkpoint, model.config)
    tiny.save(tmp_path, model.weights())
    want = reference(tmp_path)
    assert nmse(want[:, COLUMNS].astype(np.float32), model.logits) < 1e-12
    (path,) = convert_checkpoint(tmp_path, tmp_path / "ours.gguf", outtype="f32")
    error = nmse(logits(path, TOKENS), want.astype(np.float32))
    print(f"{model.name}: NMSE {error:.1e}")
    assert error < 1e-9


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
def test_what_transformers_saves_gives_the_same_file(
    tmp_path: Path, shipped_checkpoint: Path, model: Model
) -> None:
    folder, saved = tmp_path / "ours", tmp_path / "saved"
    for each in (folder, saved):
        tiny.write(each, shipped_checkpoint, model.config)
    tiny.save(folder, model.weights())
    kind = getattr(transformers, model.config["architectures"][0])
    kind.from_pretrained(folder, dtype="float32").save_pretrained(saved)
    files = [
        convert_checkpoint(each, tmp_path / f"{each.name}.gguf", outtype="f32")[0] for each in (folder, saved)
    ]
    with GGUFFile.open(files[0]) as ours, GGUFFile.open(files[1]) as theirs:
        assert list(ours.tensors) == list(theirs.tensors)
        for name, tensor in ours.tensors.items():
            assert tensor.data.tobytes() == theirs.tensors[name].data.tobytes(), name
        names = {key for key in ours.metadata if not key.startswith("general.")}
        assert {key: ours.metadata[key] for key in names} == {key: theirs.metadata[key] for key in names}


def test_released_gpt_oss(tmp_path: Path, shipped_checkpoint: Path) -> None:
    config, weights = packed()
    tiny.write(tmp_path, shipped_checkpoint, config)
    tiny.save(tmp_path, weights)
    plain = transformers.Mxfp4Config(dequantize=True)
    want = reference(tmp_path, quantization_config=plain).astype(np.float32)
    (path,) = convert_checkpoint(tmp_path, outtype="f32")
    error = nmse(logits(path, TOKENS), want)
    print(f"gpt-oss in MXFP4: NMSE {error:.1e}")
    assert error < 1e-9
