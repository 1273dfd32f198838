"""Metadata is read where it is used; what may change the mathematics and was not read refuses the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import random_llama
from engines import load

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.graph import Graph, Value
from ggufpy.graph.keys import Keys
from ggufpy.graph.nodes import Norm


def keys(**values: Any) -> Keys:
    named = {f"some.{key.replace('__', '.')}": value for key, value in values.items()}
    return Keys({"general.architecture": "some", **named}, "file.gguf")


@pytest.mark.parametrize(
    "key, value",
    [
        ("logit_scale", 0.5),
        ("attention.scale", 0.1),
        ("use_parallel_residual", True),
        ("some.key_of_tomorrow", 1),
    ],
)
def test_a_key_that_nobody_reads_refuses_the_file(tmp_path: Path, key: str, value: Any) -> None:
    path = random_llama.write(tmp_path / "m.gguf", random_llama.arrays(), **{f"llama.{key}": value})
    with pytest.raises(UnsupportedModelError, match=rf"m\.gguf: metadata key 'llama\.{key}' is "):
        load(path)


@pytest.mark.parametrize(
    "key, value",
    [
        ("attention.causal", True),
        ("attention.sliding_window", 0),
        ("logit_scale", 1.0),
        ("attention.scale", 0.0),
        ("attention.clamp_kqv", 0.0),
        ("expert_count", 0),
        ("use_parallel_residual", False),
        ("rope.dimension_sections", [0, 0, 0, 0]),
        ("rope.scaling.finetuned", True),
        ("vocab_size", 128),
        ("rope.freq_base_swa", 1e6),
        ("ssm.state_size", 128),
    ],
)
def test_a_key_that_says_no_is_harmless(tmp_path: Path, key: str, value: Any) -> None:
    load(random_llama.write(tmp_path / "m.gguf", random_llama.arrays(), **{f"llama.{key}": value}))


def test_yarns_magnitude_may_be_said_twice(tmp_path: Path) -> None:
    keys = {"type": "yarn", "factor": 8.0, "original_context_length": 64}
    values: dict[str, Any] = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
    name = "llama.rope.scaling.yarn_attn_factor"
    load(random_llama.write(tmp_path / "m.gguf", random_llama.arrays(), **values, **{name: 1.2079442}))
    path = random_llama.write(tmp_path / "m.gguf", random_llama.arrays(), **values, **{name: 1.0})
    with pytest.raises(UnsupportedModelError, match=r"yarn_attn_factor' is 1\.0; ggufpy runs .* 1\.2079"):
        load(path)


def test_keys_about_windows_count_where_there_are_windows() -> None:
    asked = keys(rope__freq_base_swa=1e6, attention__head_count=4)
    asked.check_all_read(attends=False, turns=False, has_windows=False, scans=False)
    asked.check_all_read(attends=False, turns=False, has_windows=True, scans=False)
    with pytest.raises(UnsupportedModelError, match=r"'some\.rope\.freq_base_swa'"):
        asked.check_all_read(attends=True, turns=True, has_windows=True, scans=False)
    with pytest.raises(UnsupportedModelError, match=r"'some\.attention\.head_count'"):
        asked.check_all_read(attends=True, turns=True, has_windows=False, scans=False)


def test_each_kind_of_norm_has_its_epsilon() -> None:
    keys = {"layer_norm_rms_epsilon": 1e-5, "layer_norm_epsilon": 1e-6}
    for given, of_rms, of_layer in ((keys, 1e-5, 1e-6), ({"layer_norm_epsilon": 0.1}, 0.1, 0.1)):
        metadata = {f"some.attention.{key}": value for key, value in given.items()}
        graph = Graph.trace({"general.architecture": "some", **metadata}, {}, "file.gguf")
        graph.norm(Value((4,), graph), size="layer")
        graph.check_all_used()
        graph.norm(Value((4,), graph), size="rms")
        assert [node.epsilon for node in graph.nodes if isinstance(node, Norm)] == [of_layer, of_rms]


def test_values_are_checked() -> None:
    asked = keys(
        count=3, text="none", off=True, number=float("nan"), heads=[2, 0], pattern=[1, 0], every=3, none=0
    )
    assert asked.integer("count") == 3 and asked.integer("absent", 7) == 7
    assert asked.flag("off", False) and asked.text("text", ("none", "yarn"), "yarn") == "none"
    assert asked.integers("heads", 2, least=0) == (2, 0) and asked.integers("count", 2) == (3, 3)
    assert asked.pattern("pattern", 2, 6) == (True, False)
    assert asked.pattern("every", 4, 6) == (True, True, False, True)
    assert asked.pattern("none", 3, 6) == (False, False, False)
    for call, problem in (
        (lambda: asked.integer("missing"), "is missing; is this a complete model"),
        (lambda: asked.integer("count", most=2), "is 3, must be a whole number from 1 to 2"),
        (lambda: asked.integer("off"), "is True, must be a whole number"),
        (lambda: asked.number("number"), "is nan, must be a finite number, zero or more"),
        (lambda: asked.integers("heads", 2), "must be one positive number or one per layer"),
        (lambda: asked.integers("heads", 3, least=0), "must be one number from 0 or one per layer"),
        (lambda: asked.pattern("pattern", 3, 6), "must be a number or a flag per layer"),
        (lambda: asked.flag("count", True), "is 3, must be true or false"),
        (lambda: asked.text("text", ("yarn",), "yarn"), "is 'none'; ggufpy runs yarn"),
    ):
        with pytest.raises(FormatError, match=problem):
            call()


def test_what_an_architecture_expects_is_refused_otherwise() -> None:
    asked = keys(size=4)
    asked.expect("size", 4)
    asked.expect("absent", 4)
    with pytest.raises(UnsupportedModelError, match=r"'some\.size' is 4; ggufpy runs .* with 5 only"):
        asked.expect("size", 5)
