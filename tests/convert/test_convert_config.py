"""From config.json to metadata: RoPE in all its scalings, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conversion import LLAMA3, convert_and_compare
from tiny import CONFIG

from ggufpy.architectures import Place, llama, mistral3, name_for_class, phi3, ways
from ggufpy.architectures._rope_keys import llama3_factors
from ggufpy.convert.pipeline import convert_checkpoint, plan_conversion
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.types import GGMLType


def test_llama3_factors_equal_the_scaled_frequencies() -> None:
    config = CONFIG | {"rope_scaling": LLAMA3, "rope_theta": 500000.0, "head_dim": 128}
    factors = llama3_factors(config)
    frequencies = 500000.0 ** -(np.arange(0, 128, 2) / 128)
    want = []
    for frequency in frequencies:  # transformers, _compute_llama3_parameters, for one frequency at a time
        wavelength = 2 * math.pi / frequency
        smooth = (128 / wavelength - 1) / 3
        if wavelength < 128 / 4:
            want.append(frequency)
        elif wavelength > 128 / 1:
            want.append(frequency / 8)
        else:
            want.append((1 - smooth) * frequency / 8 + smooth * frequency)
    assert factors is not None
    np.testing.assert_allclose(frequencies / factors, want, rtol=1e-6)
    assert factors[0] == 1 and factors[-1] == 8 and len(set(factors)) > 4


def test_rope_factors_are_the_second_tensor(tmp_path: Path, shipped_checkpoint: Path) -> None:
    file = convert_and_compare(tmp_path, shipped_checkpoint, CONFIG | {"rope_scaling": LLAMA3}, "f16")
    info = list(file.tensors.values())[1]
    assert (info.name, info.type, info.shape) == ("rope_freqs.weight", GGMLType.F32, (8,))
    assert not any("rope.scaling" in key for key in file.metadata)


YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
YARN_KEYS = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}


@pytest.mark.parametrize(
    ("rope", "keys"),
    [
        ({}, {}),
        ({"rope_scaling": None}, {}),
        ({"rope_scaling": {"rope_type": "default"}}, {}),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, {}),
        (
            {"rope_scaling": {"type": "linear", "factor": 4}},
            {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        ),
        ({"rope_scaling": {"type": "yarn", **YARN}}, YARN_KEYS),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5, **YARN}},
            YARN_KEYS | {"rope.freq_base": 5e5},
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "beta_fast": 16, "beta_slow": 2, **YARN}},
            YARN_KEYS | {"rope.scaling.yarn_beta_fast": 16.0, "rope.scaling.yarn_beta_slow": 2.0},
        ),
        ({"rope_scaling": {"type": "yarn", "attention_factor": 1 + 0.1 * math.log(4), **YARN}}, YARN_KEYS),
        (
            {"rope_scaling": {"type": "yarn", "attention_factor": 1.0, **YARN}},
            YARN_KEYS | {"rope.scaling.attn_factor": pytest.approx(1 / (1 + 0.1 * math.log(4)))},
        ),
        (
            {"rope_scaling": {"type": "yarn", "mscale": 1, "mscale_all_dim": 1, **YARN}},
            YARN_KEYS | {"rope.scaling.attn_factor": pytest.approx(1 / (1 + 0.1 * math.log(4)))},
        ),
    ],
    ids=str,
)
def test_rope_scaling_in_all_spellings(rope: dict[str, Any], keys: dict[str, Any]) -> None:
    plain = llama.metadata(CONFIG)
    assert llama.metadata(CONFIG | rope) == plain | keys


def test_ministral_3(tmp_path: Path, shipped_checkpoint: Path) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384}
    rope |= {
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "llama_4_scaling_beta": 0.1,
    }
    classes = {"architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3"}
    config = CONFIG | classes | {"rope_parameters": rope}
    file = convert_and_compare(tmp_path, shipped_checkpoint, config, "q8_0")
    keys = {k.removeprefix("mistral3."): v for k, v in file.metadata.items() if k.startswith("mistral3.")}
    assert keys.keys() == llama.metadata(CONFIG).keys() | {
        *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"),
        *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_log_multiplier"),
        "attention.temperature_scale",
    }
    assert keys["attention.temperature_scale"] == np.float32(0.1)
    with pytest.raises(UnsupportedModelError, match="'default' instead of 'yarn'"):
        mistral3.metadata(CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config 'gptq' is not supported"),
        ({"rope_scaling": {"type": "longrope"}}, "RoPE scaling 'longrope' is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "factor is None, it must be a number above 0"),
        ({"rope_scaling": {"type": "yarn", "factor": "4"}}, "factor is '4'"),
        ({"rope_scaling": 3}, "rope_parameters is 3, it must be an object"),
        ({"hidden_size": None}, "hidden_size is None, it must be a positive whole number"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"num_hidden_layers": 1 << 40}, "num_hidden_layers is 1099511627776"),
        ({"num_hidden_layers": 1 << 30}, "num_hidden_layers is 1073741824, .* at most 512"),
        ({"num_key_value_heads": 3}, "does not divide"),
        ({"head_dim": 15}, "heads of size 15 cannot be rotated"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
    ],
    ids=str,
)
def test_configurations_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((FormatError, UnsupportedModelError), match=message):
        llama.metadata(CONFIG | changes)


def test_llama3_factors_that_cannot_be() -> None:
    config = CONFIG | {"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}
    with pytest.raises(FormatError, match="must be below high_freq_factor"):
        llama3_factors(config)


@pytest.mark.parametrize(
    ("changes", "tensors", "message"),
    [
        (
            {"architectures": ["NobodysForCausalLM"]},
            {},
            r"'NobodysForCausalLM' is unknown; ggufpy knows \d+ others, the nearest are .*ForCausalLM, ",
        ),
        ({"architectures": []}, {}, "names no model class"),
        ({"architectures": "LlamaForCausalLM"}, {}, "names no model class"),
        ({"num_hidden_layers": 3}, {}, "num_hidden_layers is 3, .* tensors are of 2"),
        ({"intermediate_size": 128}, {}, r"has shape \(96, 64\), config\.json asks for \(128, 64\)"),
        ({"num_hidden_layers": 1}, {}, "num_hidden_layers is 1, .* tensors are of 2"),
        ({}, {"score.weight": np.zeros((2, 64), np.float32)}, r"'score\.weight' has no place"),
        ({}, {"model.norm.weight": np.zeros(65, np.float32)}, r"has shape \(65,\)"),
        ({}, {"model.norm.weight": np.arange(64)}, r"'output_norm\.weight' is i64; only floats"),
    ],
    ids=str,
)
def test_checkpoints_that_are_refused(
    tmp_path: Path, shipped_checkpoint: Path, changes: dict[str, Any], tensors: dict[str, Any], message: str
) -> None:
    tiny.checkpoint(tmp_path, shipped_checkpoint)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | changes))
    tiny.save(tmp_path, tiny.weights(CONFIG) | tensors)
    with pytest.raises((FormatError, UnsupportedModelError), match=message) as error:
        convert_checkpoint(tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*gguf*"))


@pytest.mark.parametrize("factors", [None, [], [1, 0], [1, math.inf], [1, "x"]], ids=str)
def test_factors_of_longrope(factors: object) -> None:
    config = {"rope_parameters": {"rope_type": "longrope", "long_factor": factors}}
    (way,) = ways(phi3.NAMES["rope_factors_long.weight"])
    with pytest.raises(FormatError, match=r"long_factor is .* must be a list of numbers above 0"):
        way.make(Place(config, {}, 0), [])


def test_old_buffers_are_left_out(tmp_path: Path, shipped_checkpoint: Path) -> None:
    weights = tiny.checkpoint(tmp_path, shipped_checkpoint)
    buffers = ("self_attn.rotary_emb.inv_freq", "attention.bias", "attention.masked_bias", "attn.bias")
    tiny.save(tmp_path, weights | {f"model.layers.0.{name}": np.ones(8, np.float32) for name in buffers})
    assert len(plan_conversion(tmp_path).tensors) == len(weights)


def test_an_unknown_outtype(tmp_path: Path, shipped_checkpoint: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="type 'q9' is unknown; choose one of f32, f16"):
        convert_checkpoint(shipped_checkpoint, tmp_path, outtype="q9")
    assert name_for_class("MistralForCausalLM") == "llama"
