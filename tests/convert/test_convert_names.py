"""The general.* metadata: names, model cards, sampling settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.convert.general import general_metadata
from ggufpy.convert.model_card import read_model_card
from ggufpy.convert.naming import label_of_tensors, parse_name, size_label, title_of
from ggufpy.convert.pipeline import plan_conversion
from ggufpy.errors import FormatError
from ggufpy.gguf.sources import constant
from ggufpy.gguf.values import Typed, ValueType


def test_general_metadata_of_the_shipped_model(shipped_checkpoint: Path) -> None:
    metadata = plan_conversion(shipped_checkpoint).metadata
    general = {
        key.removeprefix("general."): value for key, value in metadata.items() if key.startswith("general.")
    }
    assert general == {
        "sampling.temp": Typed(0.7, ValueType.F32),
        "sampling.top_p": Typed(0.9, ValueType.F32),
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


MODEL_NAMES = [
    "x",
    "llama",
    "gpt2",
    "my-model",
    "meta-llama/Llama-2-7b-hf",
    "mistralai/Mistral-Nemo-Instruct-2407",
    "Llama-3.2-1B-Instruct",
    "TinyLlama-1.1B-intermediate-step-1431k-3T",
    "Phi-3-mini-128k-instruct",
    "bloom-7b1",
    "vicuna-7b-v1.5",
    "model-v2",
    "v2",
    "Hermes-2-Pro-Llama-3-8B",
    "open_llama_3b_v2",
    "mistral-small",
    "phi-1_5",
    "stories-15M-f16",
    "a-b--c",
    "foo-bar-q4_0",
    "A2.7B-foo",
]


@pytest.mark.parametrize("parameters", [0, 7_300_000, 1_100_000_000, 7_000_000_000])
def test_names_are_taken_apart_as_the_gguf_package_does(parameters: int) -> None:
    title: Callable[[str], str] = gguf.Metadata.id_to_title
    for name in (*MODEL_NAMES, "A name of words"):
        parts = gguf.Metadata.get_model_id_components(name, parameters)
        full, organization, basename, finetune, version, size = parts
        ours = parse_name(name, parameters)
        assert (ours.basename, ours.finetune, ours.version) == (basename, finetune, version), name
        assert ours.size_label == size and ours.organization == (organization and title_of(organization))
        if name != "bloom-7b1":  # ours spells its size 7.1B, also in the title
            assert ours.title.lower() == title(full or "").lower()


def test_size_labels() -> None:
    for count in (1, 999, 1500, 7_340_000, 99_600_000, 10**9, 13 * 10**9, 12 * 10**11):
        assert size_label(count) == gguf.utility.model_weight_count_rounded_notation(count)


def test_size_labels_of_experts() -> None:
    def label(*shapes: tuple[str, tuple[int, ...]]) -> str:
        return label_of_tensors([constant(name, np.zeros(shape, np.float32)) for name, shape in shapes])

    shared = ("token_embd.weight", (4096, 64))
    experts = ("blk.0.ffn_up_exps.weight", (8, 32, 64)), ("blk.0.ffn_down_exps.weight", (8, 64, 32))
    bias = ("blk.0.ffn_up_exps.bias", (8, 32))
    counts = (4096 * 64 + 8 * 32, 2 * 32 * 64)
    assert label(shared, *experts, bias) == gguf.size_label(0, *counts, 8) == "8x266K"
    assert label(shared) == gguf.size_label(4096 * 64, 0, 0, 0)


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


def sampling(folder: Path, text: str) -> dict[str, Any]:
    (folder / "config.json").write_text("{}")
    (folder / "generation_config.json").write_text(text)
    return dict(general_metadata(Checkpoint.open(folder, weights=False), "llama", []))


@pytest.mark.parametrize(
    "text",
    [
        '"top_k": "many"',
        '"top_k": 1.5',
        '"top_k": 18446744073709551616',
        '"temperature": [1]',
        '"temperature": true',
        '"temperature": NaN',
        '"repetition_penalty": 1e400',
        '"top_p": -0.5',
        '"min_p": 1.01',
    ],
)
def test_generation_settings_that_are_senseless(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        FormatError, match=f"{text.split(':')[0][1:-1]} is .*, it must be a (whole )?number from"
    ):
        sampling(tmp_path, f"{{{text}}}")


def test_the_penalty_of_repetitions_has_another_name(tmp_path: Path) -> None:
    text = '{"repetition_penalty": 1.25, "top_k": 40.0, "max_length": null}'
    found = {key: value for key, value in sampling(tmp_path, text).items() if "sampling" in key}
    assert found == {
        "general.sampling.penalty_repeat": Typed(1.25, ValueType.F32),
        "general.sampling.top_k": Typed(40, ValueType.I32),
    }


def test_a_folder_of_the_cache_is_called_as_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--Some-Org--Tiny-7B-Instruct" / "snapshots" / "0123456789abcdef"
    folder.mkdir(parents=True)
    metadata = sampling(folder, "{}")
    assert metadata["general.name"] == "Tiny 7B Instruct"
    assert metadata["general.organization"] == "Some Org"
    assert Checkpoint.open(folder, weights=False).name == "Tiny-7B-Instruct"
