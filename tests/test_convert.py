"""Converting checkpoints: every tensor against NumPy, metadata, names, failures that leave nothing behind."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny
from tiny import CONFIG, Floats

from ggufpy.architectures import llama, mistral3, name_for_class
from ggufpy.commands.convert import main
from ggufpy.convert import pipeline
from ggufpy.convert.model_card import read_model_card
from ggufpy.convert.naming import parse_name, size_label, title_of
from ggufpy.convert.pipeline import OUTTYPES, convert_checkpoint, plan_conversion
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import encode

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}


def interleave(x: Floats, heads: int) -> Floats:
    """What llama.cpp's converter does to q and k: halves of each head become pairs."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def expected(weights: Mapping[str, Floats], config: Mapping[str, Any]) -> dict[str, Floats]:
    result = {}
    for name, x in weights.items():
        stem, _, ending = name.rpartition(".")
        if stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            target = f"blk.{layer}.{NAMES[part]}"
        else:
            target = NAMES[stem]
        if target.endswith("attn_q"):
            x = interleave(x, config["num_attention_heads"])
        if target.endswith("attn_k"):
            x = interleave(x, config["num_key_value_heads"])
        result[f"{target}.{ending}"] = x
    return result


def convert_and_compare(
    folder: Path, tokenizer: Path, config: dict[str, Any], outtype: str, **form: Any
) -> GGUFFile:
    """Convert a tiny checkpoint and check every byte of every tensor; returns the open file."""
    weights = tiny.checkpoint(folder, tokenizer, config, **form)
    (path,) = convert_checkpoint(folder, outtype=outtype)
    file = GGUFFile.open(path)
    want = expected(weights, config)
    tied = "output.weight" not in want
    assert set(file.tensors) - {"rope_freqs.weight"} == set(want)
    for name, x in want.items():
        info = file.tensors[name]
        type = info.type
        assert info.shape == x.shape
        assert type is pipeline.tensor_type(name, x.shape, file_type(outtype, form), tied=tied)
        assert info.data.tobytes() == encode(x.reshape(-1, x.shape[-1]), type).tobytes(), name
    return file


def file_type(outtype: str, form: Mapping[str, Any]) -> GGMLType:
    auto = {"BF16": GGMLType.BF16}.get(form.get("dtype", "BF16"), GGMLType.F16)
    return auto if outtype == "auto" else GGMLType[outtype.upper()]


@pytest.mark.parametrize("outtype", OUTTYPES)
def test_every_type(tmp_path: Path, shipped_checkpoint: Path, outtype: str) -> None:
    file = convert_and_compare(tmp_path, shipped_checkpoint, CONFIG, outtype, biases=True)
    label = file_type(outtype, {}).label
    assert file.path == tmp_path / f"{tmp_path.name}-{label}.gguf"
    assert file.metadata["general.file_type"] == pipeline.FILE_TYPES[file_type(outtype, {})]


@pytest.mark.parametrize("torch", [False, True], ids=["safetensors", "torch"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_every_form(tmp_path: Path, shipped_checkpoint: Path, torch: bool, shards: int, dtype: str) -> None:
    form = {"dtype": dtype, "shards": shards, "torch": torch}
    convert_and_compare(tmp_path, shipped_checkpoint, CONFIG, "q8_0", **form)
    convert_and_compare(tmp_path, shipped_checkpoint, CONFIG, "auto", **form)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "head_dim": 32},
        {"tie_word_embeddings": True},
        {"hidden_size": 80, "intermediate_size": 100},
        {"architectures": ["MistralForCausalLM"], "head_dim": None, "sliding_window": 128},
        {"rope_scaling": LLAMA3},
    ],
    ids=str,
)
def test_every_dress(tmp_path: Path, shipped_checkpoint: Path, changes: dict[str, Any]) -> None:
    for outtype in ("f16", "q4_0"):
        file = convert_and_compare(tmp_path, shipped_checkpoint, CONFIG | changes, outtype, biases=True)
        config = CONFIG | changes
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        assert file.metadata["general.architecture"] == "llama"
        assert file.metadata["llama.attention.key_length"] == size
        assert file.metadata["llama.attention.head_count_kv"] == config["num_key_value_heads"]


def test_rows_that_blocks_do_not_divide_become_f16(tmp_path: Path, shipped_checkpoint: Path) -> None:
    config = CONFIG | {"intermediate_size": 100}
    file = convert_and_compare(tmp_path, shipped_checkpoint, config, "q5_1")
    assert file.tensors["blk.0.ffn_down.weight"].type is GGMLType.F16
    assert file.tensors["blk.0.ffn_up.weight"].type is GGMLType.Q5_1


def test_a_tied_checkpoint_may_carry_its_output_matrix(tmp_path: Path, shipped_checkpoint: Path) -> None:
    tiny.checkpoint(tmp_path, shipped_checkpoint, CONFIG)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": True}))
    (path,) = convert_checkpoint(tmp_path)
    with GGUFFile.open(path) as file:
        assert "output.weight" not in file.tensors


# ---- RoPE


def test_llama3_factors_equal_the_scaled_frequencies() -> None:
    config = CONFIG | {"rope_scaling": LLAMA3, "rope_theta": 500000.0, "head_dim": 128}
    factors = llama._llama3_factors(config, llama.rope_parameters(config))
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
    np.testing.assert_allclose(frequencies / factors, want, rtol=1e-6)
    assert factors[0] == 1 and factors[-1] == 8 and len(set(factors)) > 4


def test_rope_factors_are_the_second_tensor(tmp_path: Path, shipped_checkpoint: Path) -> None:
    file = convert_and_compare(tmp_path, shipped_checkpoint, CONFIG | {"rope_scaling": LLAMA3}, "q8_0")
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


# ---- what is refused


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
        llama._llama3_factors(config, llama.rope_parameters(config))


@pytest.mark.parametrize(
    ("changes", "tensors", "message"),
    [
        (
            {"architectures": ["GPTNeoXForCausalLM"]},
            {},
            "'GPTNeoXForCausalLM' is unknown; ggufpy knows: LLaMAFor",
        ),
        ({"architectures": []}, {}, "names no model class"),
        ({"architectures": "LlamaForCausalLM"}, {}, "names no model class"),
        ({"num_hidden_layers": 3}, {}, r"'model\.layers\.2\.input_layernorm\.weight' is missing"),
        ({"intermediate_size": 128}, {}, r"has shape \(96, 64\), config\.json asks for \(128, 64\)"),
        ({"num_hidden_layers": 1}, {}, r"'model\.layers\.1\..*' has no place"),
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


def test_old_buffers_are_left_out(tmp_path: Path, shipped_checkpoint: Path) -> None:
    weights = tiny.checkpoint(tmp_path, shipped_checkpoint)
    tiny.save(tmp_path, weights | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)})
    assert len(plan_conversion(tmp_path).tensors) == len(weights)


def test_an_unknown_outtype(tmp_path: Path, shipped_checkpoint: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="outtype 'q9' is unknown; choose one of auto, f32"):
        convert_checkpoint(shipped_checkpoint, tmp_path, outtype="q9")
    assert name_for_class("MistralForCausalLM") == "llama"


# ---- the shipped model, and llama.cpp's own files of it


@pytest.mark.parametrize("outtype", ["q8_0", "q4_0"])
def test_blocks_and_metadata_of_llama_cpp(
    tmp_path: Path, shipped_checkpoint: Path, shared: Path, outtype: str
) -> None:
    (path,) = convert_checkpoint(shipped_checkpoint, tmp_path, outtype=outtype)
    name = f"pocket-wiki-7m-chat-{outtype}.gguf"
    assert path == tmp_path / name
    theirs_path = shared / "conformance" / "eval" / name
    with GGUFFile.open(path) as ours, GGUFFile.open(theirs_path) as theirs:
        for key, value in theirs.metadata.items():
            assert ours.metadata[key] == value, key
            assert ours.value_types[key] is theirs.value_types[key], key
        assert ours.tensors.keys() == theirs.tensors.keys()
        different = {
            name for name in ours.tensors if ours.tensors[name].type is not theirs.tensors[name].type
        }
        assert different == ({"token_embd.weight"} if outtype == "q4_0" else set())
        for name in ours.tensors.keys() - different:
            assert ours.tensors[name].data.tobytes() == theirs.tensors[name].data.tobytes(), name


def test_general_metadata_of_the_shipped_model(shipped_checkpoint: Path) -> None:
    metadata = plan_conversion(shipped_checkpoint).metadata
    general = {
        key.removeprefix("general."): value for key, value in metadata.items() if key.startswith("general.")
    }
    sampling = {key: general.pop(f"sampling.{key}").value for key in ("temp", "top_p")}  # type: ignore[union-attr]
    assert sampling == {"temp": 0.7, "top_p": 0.9}
    assert general == {
        "architecture": "llama",
        "type": "model",
        "name": "Pocket Wiki 7M Chat",
        "basename": "pocket-wiki",
        "finetune": "chat",
        "size_label": "7M",
        "license": "cc-by-sa-3.0",
        "tags": ["text-generation"],
        "languages": ["en"],
        "file_type": 32,
        "quantization_version": 2,
    }


def test_the_gguf_package_reads_our_files(tmp_path: Path, shipped_checkpoint: Path) -> None:
    (path,) = convert_checkpoint(shipped_checkpoint, tmp_path / "x.gguf", outtype="q5_0")
    reader = gguf.GGUFReader(path)
    with GGUFFile.open(path) as ours:
        for tensor in reader.tensors:
            info = ours.tensors[tensor.name]
            assert np.asarray(tensor.data).tobytes() == info.data.tobytes()
            assert tuple(map(int, reversed(tensor.shape))) == info.shape


# ---- names and the model card

MODEL_NAMES = """
x llama gpt2 my-model meta-llama/Llama-2-7b-hf mistralai/Mistral-Nemo-Instruct-2407 Llama-3.2-1B-Instruct
TinyLlama-1.1B-intermediate-step-1431k-3T Phi-3-mini-128k-instruct bloom-7b1 vicuna-7b-v1.5 model-v2 v2
Hermes-2-Pro-Llama-3-8B open_llama_3b_v2 mistral-small phi-1_5 stories-15M-f16 a-b--c foo-bar-q4_0 A2.7B-foo
""".split()


@pytest.mark.parametrize("parameters", [0, 7_300_000, 1_100_000_000, 7_000_000_000])
def test_names_are_taken_apart_as_the_gguf_package_does(parameters: int) -> None:
    for name in (*MODEL_NAMES, "A name of words"):
        parts = gguf.Metadata.get_model_id_components(name, parameters)
        full, organization, basename, finetune, version, size = parts
        ours = parse_name(name, parameters)
        assert (ours.basename, ours.finetune, ours.version) == (basename, finetune, version), name
        assert ours.size_label == size and ours.organization == (organization and title_of(organization))
        if name != "bloom-7b1":  # ours spells its size 7.1B, also in the title
            assert ours.title.lower() == gguf.Metadata.id_to_title(full).lower()


def test_size_labels() -> None:
    for count in (1, 999, 1500, 7_340_000, 99_600_000, 10**9, 13 * 10**9, 12 * 10**11):
        assert size_label(count) == gguf.utility.model_weight_count_rounded_notation(count)


CARD = """---
# a comment
license: other
license_name: "my-licence"
license_link: https://example.org/licence
language:
- en
- 'no'
tags: [chat, "tiny model"]
pipeline_tag: text-generation
base_model: org/Base-7B-v0.1
datasets:
  - org/data
  - plain
model_creator: Somebody   # else
extra_gated_prompt: >-
  a long text
  tags: nothing
model-index:
- name: x
  results: []
nothing: null
---
license: mit
"""


def test_model_cards(tmp_path: Path, shipped_checkpoint: Path) -> None:
    assert read_model_card(tmp_path) == {}
    card = tmp_path / "README.md"
    for text in ("", "# Title\nlicense: mit", "---\nlicense: mit\n"):
        card.write_text(text)
        assert read_model_card(tmp_path) == {}
    card.write_text(CARD)
    tiny.checkpoint(tmp_path, shipped_checkpoint)
    metadata = plan_conversion(tmp_path).metadata
    for key, value in {
        "license": "other",
        "license.name": "my-licence",
        "license.link": "https://example.org/licence",
        "author": "Somebody",
        "tags": ["chat", "tiny model", "text-generation"],
        "languages": ["en", "no"],
        "base_model.count": 1,
        "base_model.0.name": "Base 7B v0.1",
        "base_model.0.organization": "Org",
        "base_model.0.version": "v0.1",
        "base_model.0.repo_url": "https://huggingface.co/org/Base-7B-v0.1",
        "dataset.count": 2,
        "dataset.0.name": "Data",
        "dataset.1.name": "Plain",
    }.items():
        assert metadata.get(f"general.{key}") == value, key


def test_generation_settings_that_are_no_numbers(tmp_path: Path, shipped_checkpoint: Path) -> None:
    tiny.checkpoint(tmp_path, shipped_checkpoint)
    for text in ('{"top_k": "many"}', '{"top_k": 1.5}', '{"temperature": [1]}'):
        (tmp_path / "generation_config.json").write_text(text)
        with pytest.raises(FormatError, match="it must be a number"):
            plan_conversion(tmp_path)


# ---- failures leave nothing behind


class Broken(Exception):
    pass


def failing(error: BaseException) -> Callable[[TensorSource, GGMLType], TensorSource]:
    """`quantized`, except that the rows of one tensor cannot be read."""
    real = pipeline.quantized

    def fail(start: int, stop: int) -> Any:
        raise error

    def wrapped(source: TensorSource, type: GGMLType) -> TensorSource:
        result = real(source, type)
        return replace(result, read=fail) if source.name == "blk.1.ffn_up.weight" else result

    return wrapped


@pytest.mark.parametrize(
    "error", [Broken(), KeyboardInterrupt(), FormatError("x")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("split", [None, 200_000])
def test_a_failure_leaves_the_old_file(
    tmp_path: Path,
    shipped_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    split: int | None,
) -> None:
    tiny.checkpoint(tmp_path / "model", shipped_checkpoint)
    (tmp_path / "out").mkdir()
    old = tmp_path / "out" / "x.gguf"
    old.write_text("old")
    monkeypatch.setattr(pipeline, "quantized", failing(error))
    with pytest.raises(type(error)):
        convert_checkpoint(tmp_path / "model", old, outtype="q8_0", split_max_size=split)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.gguf"]
    assert old.read_text() == "old"


def test_nan_in_a_checkpoint_names_the_tensor(tmp_path: Path, shipped_checkpoint: Path) -> None:
    weights = tiny.checkpoint(tmp_path, shipped_checkpoint)
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = np.nan
    tiny.save(tmp_path, weights)
    with pytest.raises(FormatError, match=r"tensor 'blk\.1\.ffn_up\.weight': q4_1 cannot hold NaN or Inf"):
        convert_checkpoint(tmp_path, outtype="q4_1")
    assert not list(tmp_path.glob("*gguf*"))
    convert_checkpoint(tmp_path, outtype="bf16")


# ---- the command


def test_the_command(tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gguf"
    assert main([str(shipped_checkpoint), "-o", str(out), "--outtype", "q8_0", "--verbose"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    lines = printed.err.splitlines()
    assert len(lines) == 74 + 2 and "\x1b" not in printed.err and "\r" not in printed.err
    assert lines[0].split() == ["token_embd.weight", "4096", "x", "256", "bf16", "->", "q8_0", "1,114,112"]
    assert "74 tensors, 7.8 MB, 8.51 bits per weight" in lines[74] and "MB/s" in lines[75]


def test_dry_run_gives_the_exact_size(
    tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ([], ["--split-max-size", "2M"]):
        arguments = [str(shipped_checkpoint), "-o", str(tmp_path / "x.gguf"), "--outtype", "q4_0", *split]
        assert main([*arguments, "--dry-run"]) == 0
        assert not list(tmp_path.iterdir())
        promised = [line for line in capsys.readouterr().out.splitlines() if line.endswith(" bytes")]
        assert main(arguments) == 0
        files = [Path(line) for line in capsys.readouterr().out.splitlines()]
        assert promised == [f"{file}: {file.stat().st_size:,} bytes" for file in files]
        assert all(file.stat().st_size <= 2_000_000 for file in files) or not split
        for file in files:
            file.unlink()


def test_vocab_only(tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("config.json", *tiny.TOKENIZER_FILES):
        (tmp_path / name).write_bytes((shipped_checkpoint / name).read_bytes())
    assert main([str(tmp_path), "--vocab-only"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / f"{tmp_path.name}-vocab.gguf"
    with GGUFFile.open(path) as file:
        assert not file.tensors and len(file.metadata["tokenizer.ggml.tokens"]) == 4096  # type: ignore[arg-type]


def test_a_mixture_is_told(
    tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.checkpoint(tmp_path, shipped_checkpoint, CONFIG | {"intermediate_size": 100})
    assert main([str(tmp_path), "--outtype", "q4_0"]) == 0
    assert "; 2 as f16: blocks of 32 do not divide their rows" in capsys.readouterr().err


def test_errors_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    for arguments in (
        [],
        ["x", "--outtype", "q9"],
        ["x", "--split-max-size", "2X"],
        ["x", "--split-max-size", "0"],
    ):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 2


def test_the_module_runs_and_leaves_torch_alone(tmp_path: Path, shipped_checkpoint: Path) -> None:
    script = (
        "import sys, runpy\n"
        "sys.argv[1:] = sys.argv[1:]\n"
        "try:\n    runpy.run_module('ggufpy.convert', run_name='__main__')\n"
        "except SystemExit as exit:\n    assert exit.code == 0, exit.code\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    out = tmp_path / "x.gguf"
    command = [sys.executable, "-c", script, str(shipped_checkpoint), "-o", str(out)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{out}\n"
