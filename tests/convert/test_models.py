"""Each architecture, from a checkpoint's own names to logits, against what transformers computed from it."""

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conversion import logits
from numpy.typing import NDArray
from oracle import Oracle
from random_llama import nmse, source
from tiny_checkpoints import TOKENS, Model, changed, models

from ggufpy import estimate_size, quantize_file
from ggufpy.architectures import architecture, name_for_class
from ggufpy.convert.pipeline import convert_checkpoint, text_config
from ggufpy.convert.placing import Converted, with_predicting_layers
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile

MODELS = models()
ONE_OF_EACH = [model for model in MODELS if not model.case]


def write(folder: Path, tokenizer: Path, model: Model) -> Path:
    tiny.write(folder, tokenizer, model.config)
    tiny.save(folder, model.weights())
    return folder


def place(model: Model, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Find each tensor's place in the file, as converting does."""
    config = with_predicting_layers(text_config(model.config), weights)
    name = name_for_class(config["architectures"][0], config)
    network = architecture(name)
    keys = network.metadata(config)
    Converted(name, network, config, keys, 4096, Path("config.json")).place(
        {name: source(name, x) for name, x in weights.items()}
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_logits_and_metadata(tmp_path: Path, shipped_checkpoint: Path, model: Model) -> None:
    (path,) = convert_checkpoint(write(tmp_path, shipped_checkpoint, model), outtype="f32")
    with GGUFFile.open(path) as file:
        prefix = name_for_class(model.config["architectures"][0], model.config) + "."
        keys = {key.removeprefix(prefix): x for key, x in file.metadata.items() if key.startswith(prefix)}
        assert file.metadata["general.architecture"] == prefix[:-1]
    assert keys.keys() == model.keys.keys()
    for key, value in model.keys.items():
        assert keys[key] == pytest.approx(value, rel=1e-6) if isinstance(value, float) else keys[key] == value
    assert nmse(logits(path, TOKENS, model.output)[:, model.columns], model.logits) < 1e-9
    if find_spec("xllamacpp") and model.is_llama_cpps:
        embeds = model.output == "embeddings"
        with Oracle(path, n_ctx=64, kv_f32=True, embeddings=embeds) as oracle:
            rows = (oracle.embeddings if embeds else oracle.logits)(TOKENS)
            assert nmse(rows[:, model.columns], model.logits) < 1e-6  # gelu is looked up in a table of f16


@pytest.mark.parametrize("model", ONE_OF_EACH, ids=lambda model: model.file.stem)
def test_other_types(tmp_path: Path, shipped_checkpoint: Path, model: Model) -> None:
    """In one step as in two; few bits err a little at most tokens; sizes are known before."""
    folder = write(tmp_path, shipped_checkpoint, model)
    (plain,) = convert_checkpoint(folder, tmp_path / "plain.gguf", outtype="f32")
    size = estimate_size(folder, "q4_0")
    (path,) = convert_checkpoint(folder, outtype="q4_0")
    assert path.stat().st_size == size
    quantize_file(plain, tmp_path / "in two steps.gguf", "q4_0")
    assert (tmp_path / "in two steps.gguf").read_bytes() == path.read_bytes()
    rows = zip(logits(path, TOKENS, model.output)[:, model.columns], model.logits, strict=True)
    assert np.median([nmse(got, want) for got, want in rows]) < 0.5


@pytest.mark.parametrize("model", ONE_OF_EACH, ids=lambda model: model.file.stem)
def test_each_tensor_is_needed(model: Model) -> None:
    """Without it, converting names it; but for biases, and a head that may be the embedding."""
    weights = model.weights()
    for name in some_of(weights):
        if "bias" in name or name in ("lm_head.weight", "embed_out.weight"):
            continue
        with pytest.raises(FormatError, match=f"tensor '{name}' is missing from the checkpoint"):
            place(model, {other: x for other, x in weights.items() if other != name})


@pytest.mark.parametrize("model", ONE_OF_EACH, ids=lambda model: model.file.stem)
@pytest.mark.parametrize("axis", [0, -1])
def test_each_shape_is_checked(model: Model, axis: int) -> None:
    weights = model.weights()
    for name in some_of(weights):
        more = np.concatenate([weights[name], weights[name].take([0], axis)], axis)
        with pytest.raises(FormatError, match=rf"tensor '{name}'.* has shape") as error:
            place(model, weights | {name: more})
        assert "they do not belong together" in str(error.value)


def some_of(weights: Mapping[str, object]) -> list[str]:
    """Those outside of layers, of one layer and of one expert."""
    parts = (r"layers\.(?!1\.)", r"experts\.(?!2\.)\d", r"^vision_", r"^multi_modal_")
    return [name for name in weights if not any(re.search(part, name) for part in parts)]


REFUSED = [(model, *each) for model in ONE_OF_EACH for each in model.data.get("refused", [])]


@pytest.mark.parametrize(
    ("model", "changes", "message"), REFUSED, ids=lambda x: x.file.stem if isinstance(x, Model) else str(x)
)
def test_what_the_keys_cannot_say(model: Model, changes: dict[str, Any], message: str) -> None:
    network = architecture(name_for_class(model.config["architectures"][0], model.config))
    with pytest.raises((FormatError, UnsupportedModelError)) as error:
        network.metadata(changed(model.config, changes))
    assert message in str(error.value)


def test_weights_do_not_repeat() -> None:
    for model in ONE_OF_EACH:
        sums = [float(np.abs(x).sum()) for x in model.weights().values()]
        assert len(set(sums)) == len(sums)


def test_experts_may_be_fused(tmp_path: Path, shipped_checkpoint: Path) -> None:
    """As transformers 5 has Qwen3-MoE's in memory, and saves them with `save_original_format=False`."""
    (model,) = (model for model in MODELS if model.name == "qwen3moe")
    folder = write(tmp_path / "model", shipped_checkpoint, model)
    plain = convert_checkpoint(folder, tmp_path / "plain.gguf", outtype="q4_0")[0].read_bytes()
    weights = model.weights()
    for layer in range(model.config["num_hidden_layers"]):
        name = f"model.layers.{layer}.mlp.experts"
        gate, up, down = (
            np.stack([weights.pop(f"{name}.{expert}.{part}_proj.weight") for expert in range(4)])
            for part in ("gate", "up", "down")
        )
        weights |= {f"{name}.gate_up_proj": np.concatenate([gate, up], axis=1), f"{name}.down_proj": down}
    tiny.save(folder, weights)
    fused = convert_checkpoint(folder, tmp_path / "fused.gguf", outtype="q4_0")[0].read_bytes()
    assert fused == plain


@pytest.mark.parametrize(
    ("name", "seeing"),
    [
        ("mistral4", "Mistral3"),  # Mistral Small 3's class; only what text_config says tells them apart
        ("deepseek2", "KimiK25"),
    ],
)
def test_networks_in_models_that_see(
    tmp_path: Path, shipped_checkpoint: Path, name: str, seeing: str
) -> None:
    (model,) = (model for model in MODELS if model.name == name)
    folder = write(tmp_path / "model", shipped_checkpoint, model)
    plain = convert_checkpoint(folder, tmp_path / "plain.gguf", outtype="f32")[0].read_bytes()
    eyes = {"mm_projector.proj.weight": np.ones((2, 2), np.float32)} if seeing == "KimiK25" else {}
    tiny.save(folder, eyes | {f"language_model.{name}": x for name, x in model.weights().items()})
    outer = {"architectures": [f"{seeing}ForConditionalGeneration"], "model_type": seeing}
    config = {**outer, "tie_word_embeddings": False, "text_config": model.config}
    (folder / "config.json").write_text(json.dumps(config))
    assert convert_checkpoint(folder, tmp_path / "seeing.gguf", outtype="f32")[0].read_bytes() == plain
