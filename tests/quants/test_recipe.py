"""Which tensor gets which type: llama.cpp's own snapshots, and what they do not cover."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from ggufpy.errors import FormatError, ShapeError, UnsupportedModelError
from ggufpy.gguf.types import GGMLType as T
from ggufpy.gguf.values import Typed, Value, ValueType
from ggufpy.quants.choice.presets import PRESETS, find_preset
from ggufpy.quants.choice.recipe import (
    NO_OVERRIDES,
    Decision,
    Facts,
    Overrides,
    choose_types,
    converter_type,
    visiting_order,
)

Tensors = list[tuple[str, tuple[int, ...]]]

# Lengths of rows that the snapshots' heads do not give: model -> part of the name -> columns.
COLUMNS = {
    "gpt-oss-120b": {"ffn_down_exps": 2880, "attn_output": 4096},
    "nvidia-nemotron-3-nano-30b-a3b": {"ffn_down_exps": 1856, "ffn_down_shexp": 3712, "attn_output": 4096},
    "glm-4.6v": {"ffn_down_exps": 1408, "ffn_down_shexp": 1408},
    "deepseek-v3.1": {"attn_k_b": 128, "attn_q_b": 1536},
}
ELSEWHERE = {"ffn_down_exps": 2048, "ffn_down_shexp": 2048, "ssm_out": 4096}


class Snapshot:
    """What llama.cpp says of one model: for each preset, the tensors that do not get its own type."""

    def __init__(self, path: Path) -> None:
        self.model = path.stem
        head = ""
        self.sections: dict[str, dict[str, str]] = {}
        for line in path.read_text().splitlines():
            if line.startswith("#"):
                head += line
            elif line.startswith("["):
                name, self.default = line[1:].split("] ")
                section = self.sections[name] = {}
            elif line:
                tensor, section[tensor] = line.split()
        self.numbers = {key: int(value) for key, value in re.findall(r"(n_\w+)=(\d+)", head)}
        names = {"token_embd.weight"}.union(*self.sections.values())
        self.tensors = [(name, self.shape(name)) for name in sorted(names, key=visiting_order)]

    @property
    def facts(self) -> Facts:
        n = self.numbers
        architecture = "llama" if self.model.startswith("meta-llama") else "other"
        return Facts(architecture, n["n_layer"], n["n_head"], n["n_head_kv"], n.get("n_expert", 0))

    def shape(self, name: str) -> tuple[int, ...]:
        part = name.split(".")[-2]
        columns = COLUMNS.get(self.model, {}).get(part) or ELSEWHERE.get(part) or self.numbers["n_embd"]
        if part == "ffn_down":
            columns = self.numbers["n_ff"]
        experts = self.numbers["n_expert"] if part.endswith("_exps") else 1
        return (128 if part == "attn_k_b" else experts, 64, columns)


def test_every_cell_of_llama_cpp_s_snapshots(shared: Path) -> None:
    cells = 0
    for path in sorted((shared / "conformance" / "quant-mix").glob("*.schema")):
        snapshot = Snapshot(path)
        for name, expected in snapshot.sections.items():
            preset = find_preset(name)
            decisions = choose_types(snapshot.facts, snapshot.tensors, preset)
            for (tensor, _), decision in zip(snapshot.tensors, decisions, strict=True):
                want = expected.get(tensor, preset.type.label)
                assert decision.type is not None and decision.type.label == want, (path.stem, name, tensor)
                cells += 1
    assert cells == 159_159


# ---- small models for what the snapshots do not have


PARTS = ("attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up")


def model(layers: int, *, tied: bool = False, experts: int = 0, columns: int = 256) -> Tensors:
    """Names and shapes of a llama, in visiting order."""
    tensors: Tensors = [] if tied else [("output.weight", (512, columns))]
    tensors += [("output_norm.weight", (columns,)), ("token_embd.weight", (512, columns))]
    for layer in range(layers):
        for part in PARTS:
            stack = (experts,) if experts and part.startswith("ffn") else ()
            name = f"{part}_exps" if stack else part
            tensors.append((f"blk.{layer}.{name}.weight", (*stack, 64, columns)))
    return tensors


def types(
    tensors: Tensors,
    preset: str,
    overrides: Overrides = NO_OVERRIDES,
    *,
    calibrated: bool = False,
    facts: Facts | None = None,
) -> dict[str, str]:
    layers = 1 + max((int(m[1]) for name, _ in tensors if (m := re.match(r"blk\.(\d+)", name))), default=-1)
    facts = facts or Facts("llama", layers, 8, 8)
    decisions = choose_types(facts, tensors, find_preset(preset), overrides, calibrated=calibrated)
    names = (name.removesuffix(".weight") for name, _ in tensors)
    return {n: d.type.label if d.type is not None else "kept" for n, d in zip(names, decisions, strict=True)}


def of_layers(chosen: dict[str, str], part: str) -> list[str]:
    return [type for name, type in chosen.items() if name.startswith("blk.") and name.split(".")[2] == part]


def test_presets_have_llama_cpp_s_names_and_ids() -> None:
    assert len({preset.id for preset in PRESETS}) == len({preset.name for preset in PRESETS}) == len(PRESETS)
    for preset in PRESETS:
        if preset.name != "Q2_0":  # newer than the package
            member = gguf.LlamaFileType(preset.id).name
            assert member.removeprefix("MOSTLY_").removeprefix("ALL_") == preset.name
    assert find_preset("q4_k") is find_preset("Q4_K_M") is find_preset("15")
    assert (find_preset("q3_k").name, find_preset("q5_K").name) == ("Q3_K_M", "Q5_K_M")
    with pytest.raises(UnsupportedModelError, match=r"type 'q9' is unknown; choose one of f32, f16"):
        find_preset("q9")


def test_the_order_of_the_file() -> None:
    names = ["blk.10.a", "blk.2.b", "token_embd.weight", "blk.2.a", "output.weight", "blk.x"]
    assert sorted(names, key=visiting_order) == [
        "blk.x",
        "output.weight",
        "token_embd.weight",
        "blk.2.a",
        "blk.2.b",
        "blk.10.a",
    ]


def test_the_converter_s_rule() -> None:
    assert converter_type("blk.0.attn_q.weight", (64, 64), T.BF16) is T.BF16
    assert converter_type("blk.0.attn_q.bias", (64,), T.F16) is T.F32
    assert converter_type("blk.0.odd_norm.weight", (2, 64), T.F16) is T.F32


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.attn_norm.weight", (2, 256)),
        ("blk.0.attn_q.bias", (2, 256)),
        ("blk.0.ffn_gate_inp.weight", (8, 256)),
        ("blk.0.ssm_conv1d.weight", (8, 256)),
        ("blk.0.time_mix_w1.weight", (8, 256)),
        ("position_embd.weight", (8, 256)),
        ("rope_freqs.weight", (256,)),
        ("blk.0.attn_q.weight", (1, 1, 256)),
    ],
)
def test_kept_tensors(name: str, shape: tuple[int, ...]) -> None:
    (decision,) = choose_types(Facts("llama", 1), [(name, shape)], find_preset("q4_k_m"))
    assert decision == Decision(None, None) and not decision.is_fallback


def test_kept_in_one_architecture_only() -> None:
    tensors: Tensors = [("blk.0.attn_k_b.weight", (4, 64, 256)), ("blk.0.attn_q_a.weight", (64, 256))]
    assert list(types(tensors, "q4_k_m").values()) == ["q4_K", "q4_K"]
    assert list(types(tensors, "q4_k_m", facts=Facts("glm5-next", 1)).values()) == ["kept", "q8_0"]


def test_a_tied_embedding_is_the_output() -> None:
    for preset, want in {"q4_0": "q6_K", "iq2_xs": "q5_K", "q8_0": "q8_0", "mxfp4_moe": "q8_0"}.items():
        assert types(model(2, tied=True), preset)["token_embd"] == want
    untied = types(model(2), "q4_0")
    assert (untied["token_embd"], untied["output"]) == ("q4_0", "q6_K")
    assert types(model(2), "iq1_s")["token_embd"] == "q2_K"
    assert types(model(2), "tq2_0")["token_embd"] == "q4_K"


def test_an_importance_matrix_changes_the_mixture() -> None:
    tensors = model(16)
    for preset, part, without, given in (
        ("q4_0", "ffn_down", "q4_0", "q4_1"),
        ("q5_0", "ffn_down", "q5_0", "q5_1"),
        ("iq4_xs", "ffn_down", "q5_K", "iq4_xs"),
        ("iq3_xxs", "ffn_down", "q4_K", "iq3_xxs"),
        ("iq3_xxs", "attn_v", "iq3_s", "iq3_xxs"),
    ):
        assert of_layers(types(tensors, preset), part)[0] == without
        assert of_layers(types(tensors, preset, calibrated=True), part)[0] == given
    assert of_layers(types(tensors, "q4_0", calibrated=True), "ffn_down") == ["q4_1"] * 2 + ["q4_0"] * 14


def test_falcon() -> None:
    facts = Facts("falcon", 16, 8, 8)

    def falcon(preset: str, part: str) -> list[str]:
        return of_layers(types(model(16), preset, facts=facts), part)

    assert types(model(16), "q4_k_m", facts=facts)["output"] == "q8_0"
    assert falcon("q4_k_m", "ffn_down")[:5] == ["q6_K", "q5_K", "q4_K", "q4_K", "q5_K"]
    assert falcon("q3_k_m", "ffn_down")[:5] == ["q5_K", "q4_K", "q3_K", "q3_K", "q4_K"]
    assert falcon("q3_k_l", "ffn_down") == falcon("q3_k_l", "attn_output") == ["q4_K"] * 16
    assert falcon("q3_k_m", "attn_output") == ["q3_K"] * 16
    assert falcon("q4_k_s", "ffn_down") == ["q4_K"] * 16


def test_eight_experts() -> None:
    facts = Facts("llama", 8, 8, 8, 8)

    def mixtral(preset: str, part: str) -> list[str]:
        return of_layers(types(model(8, experts=8), preset, facts=facts), part)

    assert mixtral("q4_k_m", "attn_v") == mixtral("q4_k_m", "attn_k") == ["q8_0"] * 8
    assert mixtral("q4_k_m", "attn_output") == mixtral("iq3_xxs", "attn_output") == ["q5_K"] * 8
    assert mixtral("q5_k_m", "attn_output") == ["q5_K"] * 8
    assert mixtral("q3_k_l", "attn_output") == ["q3_K"] * 8
    assert mixtral("iq2_xs", "attn_v") == mixtral("iq2_xs", "attn_k") == ["q4_K"] * 8
    assert mixtral("iq2_xs", "attn_output") == ["q5_K"] * 8
    assert mixtral("q4_k_m", "ffn_down_exps")[:4] == ["q6_K", "q4_K", "q4_K", "q6_K"]
    assert mixtral("iq3_m", "ffn_down_exps")[:4] == ["q4_K", "iq3_s", "iq3_s", "q4_K"]
    assert mixtral("mxfp4_moe", "ffn_up_exps") == ["mxfp4"] * 8
    assert mixtral("mxfp4_moe", "attn_q") == ["q8_0"] * 8


def test_experts_go_by_the_layer_in_their_name() -> None:
    tensors = model(8, experts=4)
    facts = Facts("qwen3moe", 8, 8, 8, 4)
    # Visited in another order, they get the same.
    swapped = tensors[:3] + tensors[:2:-1]
    assert types(tensors, "q4_k_m", facts=facts)["blk.7.ffn_down_exps"] == "q6_K"
    chosen, other = (
        of_layers(types(each, "q4_k_m", facts=facts), "ffn_down_exps") for each in (tensors, swapped)
    )
    assert chosen == other[::-1]
    for name in ("blk.9.ffn_down_exps.weight", "mtp.ffn_down_exps.weight"):
        with pytest.raises(FormatError, match=f"'{name}' is in none of the model's 8 layers"):
            choose_types(facts, [(name, (4, 64, 256))], find_preset("q4_k_m"))


def test_grouped_heads_and_70b() -> None:
    tensors = model(80)
    values = of_layers(types(tensors, "q3_k_m", facts=Facts("llama", 80, 64, 8)), "attn_v")
    assert values == ["q5_K"] * 80
    plain = of_layers(types(tensors, "q3_k_m", facts=Facts("llama", 80, 64, 64)), "attn_v")
    assert plain == ["q5_K"] * 2 + ["q4_K"] * 78
    assert of_layers(types(model(2), "q2_k", facts=Facts("llama", 2, 8, 2)), "attn_v") == ["q4_K"] * 2
    assert of_layers(types(model(2), "q2_k", facts=Facts("llama", 2, 8, 4)), "attn_v") == ["q3_K"] * 2
    assert Facts("nemotron_h", 52, 32, 0).gqa == 0
    assert Facts("qwen2", 80, 8, 8).is_70b and Facts("jais2", 68, 8, 8).is_70b
    assert not Facts("qwen3", 80, 64, 8).is_70b and not Facts("llama", 80, 64, 8, 8).is_70b


def test_pure() -> None:
    chosen = types(model(8), "q4_k_m", Overrides(pure=True))
    assert set(chosen.values()) == {"q4_K", "kept"}
    assert types(model(2, tied=True), "q4_0", Overrides(pure=True))["token_embd"] == "q4_0"


def patterns(*pairs: tuple[str, T]) -> Overrides:
    return Overrides(by_pattern=tuple((re.compile(pattern), type) for pattern, type in pairs))


def test_types_by_pattern() -> None:
    asked = patterns((r"blk\.[01]\.ffn_down", T.Q8_0), ("ffn", T.Q5_1))
    chosen = types(model(4), "q4_k_s", asked)
    assert of_layers(chosen, "ffn_down") == ["q8_0", "q8_0", "q5_1", "q5_1"]
    assert of_layers(chosen, "ffn_up") == ["q5_1"] * 4
    # Neither in a file of floats, nor for what is never quantized.
    assert types(model(2), "f16", asked)["blk.0.ffn_down"] == "f16"
    assert types(model(2), "q4_0", patterns(("norm", T.Q8_0)))["output_norm"] == "kept"
    # llama.cpp does not count tensors that a pattern decides: the later ones move up.
    moved = of_layers(types(model(16), "q4_k_s", patterns((r"blk\.0\.ffn_down", T.Q8_0))), "ffn_down")
    assert moved[:4] == ["q8_0", "q5_K", "q5_K", "q4_K"]


def test_types_of_output_and_embedding() -> None:
    asked = Overrides(output=T.F16, embedding=T.Q3_K)
    chosen = types(model(2), "q4_k_m", asked)
    assert (chosen["output"], chosen["token_embd"]) == ("f16", "q3_K")
    assert types(model(2), "f16", asked)["token_embd"] == "q3_K"
    tied = model(2, tied=True)
    assert types(tied, "q4_k_m", Overrides(output=T.Q5_K))["token_embd"] == "q5_K"
    assert types(tied, "q4_k_m", Overrides(output=T.F32))["token_embd"] == "f32"
    assert types(tied, "q4_k_m", Overrides(output=T.Q5_K, pure=True))["token_embd"] == "q4_K"
    assert types(tied, "q4_k_m", asked)["token_embd"] == "q3_K"
    assert types(model(2), "q4_k_m", Overrides(leave_output=True))["output"] == "kept"
    per_layer: Tensors = [*model(1), ("per_layer_token_embd.weight", (8, 256))]
    for type in (T.Q8_0, T.F32):
        both = replace(asked, by_pattern=patterns(("token_embd", type)).by_pattern)
        chosen = types(per_layer, "q4_k_m", both)
        assert (chosen["token_embd"], chosen["per_layer_token_embd"]) == ("q3_K", type.label)


def fallbacks(preset: str, columns: int, overrides: Overrides = NO_OVERRIDES) -> Iterator[str]:
    facts = Facts("llama", 8, 8, 8)
    tensors: Sequence[tuple[str, tuple[int, ...]]] = model(8, columns=columns)
    for decision in choose_types(facts, tensors, find_preset(preset), overrides):
        if decision.is_fallback and decision.wanted and decision.type:
            yield f"{decision.wanted.label}->{decision.type.label}"


def test_rows_that_blocks_do_not_divide() -> None:
    assert set(fallbacks("q4_k_m", 384)) == {"q4_K->q5_0", "q6_K->q8_0"}
    assert set(fallbacks("q4_k_m", 100)) == {"q4_K->f16", "q6_K->f16", "q8_0->f16"}
    assert set(fallbacks("iq4_xs", 384)) == {"iq4_xs->iq4_nl", "q5_K->q5_1"}
    assert set(fallbacks("q2_k", 384)) == {"q2_K->q4_0", "q3_K->q4_0"}
    assert set(fallbacks("q4_0", 384)) == {"q6_K->q8_0"}
    # llama.cpp writes a broken file here.
    asked = Overrides(output=T.Q6_K, embedding=T.Q3_K)
    assert set(fallbacks("q8_0", 384, asked)) == {"q6_K->q8_0", "q3_K->q4_0"}
    with pytest.raises(ShapeError, match="nvfp4 blocks of 64 do not divide its rows of 96"):
        list(fallbacks("q4_0", 96, patterns(("ffn_up", T.NVFP4))))


def test_facts_from_metadata() -> None:
    metadata: dict[str, Value | Typed] = {
        "general.architecture": "llama",
        "llama.block_count": Typed(4, ValueType.U32),
        "llama.attention.head_count": [8, 4],
        "llama.attention.head_count_kv": [2, 1],
    }
    assert Facts.from_metadata(metadata) == Facts("llama", 4, 8, 2)
    assert Facts.from_metadata({"general.architecture": "x", "x.attention.head_count": 8}) == Facts(
        "x", 0, 8, 8
    )
    with pytest.raises(FormatError, match=r"'general\.architecture' is missing"):
        Facts.from_metadata({})
    with pytest.raises(FormatError, match=r"'llama\.block_count' is 'x'"):
        Facts.from_metadata(metadata | {"llama.block_count": "x"})
