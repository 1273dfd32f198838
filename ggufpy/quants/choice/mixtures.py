"""Which tensors of a preset get another type than its own: tables, read by `recipe`.

Source: llama.cpp src/llama-quant.cpp, llama_tensor_get_type_impl.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from ggufpy.gguf.types import GGMLType as T


class Role(Enum):
    """What a tensor does in the network, by its name."""

    OUTPUT = auto()
    EMBEDDING = auto()
    V = auto()
    K = auto()
    Q = auto()
    O = auto()  # noqa: E741  the attention's output, beside Q, K and V
    UP = auto()
    GATE = auto()
    DOWN = auto()
    OTHER = auto()


# Parts of names, the first hit counts. Tensors that hold V beside others count as V.
ROLES = (
    ("attn_qkv.weight", Role.V),
    ("attn_kv_b.weight", Role.V),
    ("attn_v.weight", Role.V),
    ("attn_k.weight", Role.K),
    ("attn_q.weight", Role.Q),
    ("attn_output.weight", Role.O),
    ("ffn_up", Role.UP),
    ("ffn_gate", Role.GATE),
    ("ffn_down", Role.DOWN),
)

# Tensors with these parts in their names are left as they are: small, and errors in them cost much.
KEPT = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel"),
    *("per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "attn_rel_b.weight"),
    *("indexer.k_proj.weight", "indexer.q_proj.weight", ".position_embd", "sam.pos_embd", "sam.neck."),
    *("sam.net_", ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"),
    *(
        f"time_mix_{part}.weight"
        for part in (
            *("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2"),
            *("decay_w1", "decay_w2", "lerp_fused"),
        )
    ),
)
# Ends of names of matrices that are f32 in files of f16 or bf16. Source: llama.cpp conversion/base.py.
F32_IN_FLOATS = tuple(
    f"{part}.weight"
    for part in (
        *("_norm", "ffn_gate_inp", "ffn_gate_inp_shexp", "position_embd", "token_types"),
        *("ssm_conv1d", "ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v", "shortconv.conv", "indexer.proj"),
        *("time_mix_first", "time_mix_w1", "time_mix_w2", "time_mix_decay_w1", "time_mix_decay_w2"),
        *("time_mix_lerp_fused", "altup_correct_coef", "altup_predict_coef"),
    )
)
KEPT_NAMES = ("position_embd.weight", "token_types.weight")
KEPT_IN = {
    "glm5-next": (
        *("hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate"),
        *("indexer_compressor_ape", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight"),
        *(f"ssm_{part}.weight" for part in ("f_a", "f_b", "g_a", "g_b", "beta")),
    )
}
# Parts of names that an architecture wants in Q8_0, whatever the preset.
EIGHT_BITS_IN = {"glm5-next": ("attn_q_a", "attn_q_b", "nextn.eh_proj")}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands: number `index` of the `count` with its role, and what the model is like.

    gqa: query heads per KV head in layer 0, 0 if that has none. calibrated: there is an importance matrix.
    """

    index: int
    count: int
    gqa: int
    experts: int
    calibrated: bool


When = Callable[[Place], bool]
# The first condition that holds gives the type; if none does, it is the preset's own.
Rule = tuple[tuple[When, T], ...]


def _always(place: Place) -> bool:
    return True


def _grouped(place: Place) -> bool:
    return place.gqa >= 4


def _calibrated(place: Place) -> bool:
    return place.calibrated


def _first(part: int) -> When:
    return lambda place: place.index < place.count // part


def _before(index: int) -> When:
    return lambda place: place.index < index


def _middle(place: Place) -> bool:
    return place.count // 8 <= place.index < 7 * place.count // 8


def _sensitive(place: Place) -> bool:
    """In the first or last eighth, or a third one between them."""
    return not _middle(place) or (place.index - place.count // 8) % 3 == 2


def _first_if_calibrated(place: Place) -> bool:
    return place.calibrated and place.index < place.count // 8


def _first_if_not_calibrated(place: Place) -> bool:
    return not place.calibrated and place.index < place.count // 8


def _first_or_eight_experts(place: Place) -> bool:
    return place.index < place.count // 8 or (place.experts == 8 and _sensitive(place))


def _few_heads_or_experts(place: Place) -> bool:
    return place.gqa >= 4 or place.experts >= 4


def _always_in(type: T) -> Rule:
    return ((_always, type),)


def _few_bits(better: T, output: Rule) -> dict[Role, Rule]:
    """The mixture of presets of 1 and 2 bits."""
    value = ((_few_heads_or_experts, T.Q4_K), (_always, better))
    return {Role.V: value, Role.DOWN: ((_first(8), better),), Role.O: output}


_GROUPED_Q4: Rule = ((_grouped, T.Q4_K),)
_MIDDLE_XXS: Rule = ((_middle, T.IQ3_XXS),)
_IQ4: dict[Role, Rule] = {
    Role.V: ((_grouped, T.Q5_K),),
    Role.DOWN: ((_first_if_not_calibrated, T.Q5_K),),
}

# Presets that are not here have no mixture beyond output and embedding.
MIXTURES: Mapping[str, Mapping[Role, Rule]] = {
    "IQ1_S": _few_bits(T.Q2_K, _always_in(T.IQ2_XXS)),
    "IQ1_M": _few_bits(T.Q2_K, _always_in(T.IQ2_XXS)),
    "IQ2_XXS": _few_bits(T.Q2_K, ()),
    "IQ2_XS": _few_bits(T.Q2_K, ()),
    "IQ2_S": _few_bits(T.IQ3_S, _always_in(T.IQ3_S)),
    "IQ2_M": _few_bits(T.IQ3_S, _always_in(T.IQ3_S)),
    "Q2_K": {
        Role.V: ((_grouped, T.Q4_K), (_always, T.Q3_K)),
        Role.DOWN: _always_in(T.Q3_K),
        Role.O: _always_in(T.Q3_K),
    },
    "Q2_K_S": {Role.V: _GROUPED_Q4, Role.DOWN: ((_first(8), T.Q4_K),)},
    "IQ3_XXS": {
        Role.V: ((_grouped, T.Q4_K), (_calibrated, T.IQ3_XXS), (_always, T.IQ3_S)),
        Role.K: _always_in(T.IQ2_S),
        Role.Q: _always_in(T.IQ2_S),
        Role.DOWN: ((_calibrated, T.IQ3_XXS), (_first(8), T.Q4_K), (_always, T.Q3_K)),
        Role.O: _always_in(T.IQ3_S),
    },
    "IQ3_XS": {
        Role.V: _GROUPED_Q4,
        Role.K: _always_in(T.IQ3_XXS),
        Role.Q: _always_in(T.IQ3_XXS),
        Role.GATE: _MIDDLE_XXS,
        Role.UP: _MIDDLE_XXS,
    },
    "IQ3_S": {Role.V: _GROUPED_Q4},
    "IQ3_M": {
        Role.V: _always_in(T.Q4_K),
        Role.DOWN: ((_first_or_eight_experts, T.Q4_K),),
        Role.O: _always_in(T.Q4_K),
    },
    "Q3_K_M": {
        Role.V: ((_before(2), T.Q5_K), (_always, T.Q4_K)),
        Role.DOWN: ((_first(16), T.Q5_K), (_always, T.Q4_K)),
        Role.O: _always_in(T.Q4_K),
    },
    "Q3_K_L": {
        Role.V: _always_in(T.Q5_K),
        Role.DOWN: _always_in(T.Q5_K),
        Role.O: _always_in(T.Q5_K),
    },
    "Q4_0": {Role.DOWN: ((_first_if_calibrated, T.Q4_1),)},
    "Q5_0": {Role.DOWN: ((_first_if_calibrated, T.Q5_1),)},
    "IQ4_NL": _IQ4,
    "IQ4_XS": _IQ4,
    "Q4_K_S": {Role.V: ((_before(4), T.Q5_K),), Role.DOWN: ((_first(8), T.Q5_K),)},
    "Q4_K_M": {Role.V: ((_sensitive, T.Q6_K),), Role.DOWN: ((_sensitive, T.Q6_K),)},
    "Q5_K_M": {Role.V: ((_sensitive, T.Q6_K),), Role.DOWN: ((_sensitive, T.Q6_K),)},
}

# What falcon has in place of these, beside no rule for O.
FALCON: Mapping[str, Mapping[Role, Rule]] = {
    "Q3_K_M": {Role.DOWN: ((_first(16), T.Q5_K), (_sensitive, T.Q4_K))},
    "Q3_K_L": {Role.DOWN: _always_in(T.Q4_K), Role.O: _always_in(T.Q4_K)},
    "Q4_K_S": {Role.DOWN: ()},
    "Q4_K_M": {Role.DOWN: ((_first(16), T.Q6_K), (_sensitive, T.Q5_K))},
}

FEW_BITS = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})

# Models of eight experts (Mixtral) share one small attention: it costs little to keep it precise.
EIGHT_EXPERTS_FEW_BITS: Mapping[Role, Rule] = {
    Role.K: _always_in(T.Q4_K),
    Role.O: _always_in(T.Q5_K),
}
EIGHT_EXPERTS: Mapping[Role, Rule] = {
    Role.V: _always_in(T.Q8_0),
    Role.K: _always_in(T.Q8_0),
    Role.O: (),
}
EIGHT_EXPERTS_O = frozenset(
    {
        *("Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M"),
        *("IQ3_S", "IQ3_M", "IQ4_XS"),
    }
)
EIGHT_EXPERTS_O_RULE: Rule = _always_in(T.Q5_K)

# The output matrix, where the preset's own type is not what it gets; others get Q6_K.
OUTPUT = dict.fromkeys((*FEW_BITS, "IQ3_XXS"), T.Q5_K) | {"MXFP4_MOE": T.Q8_0, "Q8_0": T.Q8_0}
# The embedding, of a model that has an output matrix beside it.
EMBEDDING = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), T.Q2_K),
    **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), T.IQ3_S),
    **dict.fromkeys(("TQ1_0", "TQ2_0", "Q2_0"), T.Q4_K),
}

# Where blocks do not divide a row; if these do not either, F16.
FALLBACKS = {
    **dict.fromkeys((T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S), T.IQ4_NL),
    **dict.fromkeys((T.IQ3_XXS, T.IQ3_S, T.IQ4_XS), T.IQ4_NL),
    **dict.fromkeys((T.Q2_0, T.Q2_K, T.Q3_K, T.TQ1_0, T.TQ2_0), T.Q4_0),
    T.Q4_K: T.Q5_0,
    T.Q5_K: T.Q5_1,
    T.Q6_K: T.Q8_0,
}
NO_FALLBACK = frozenset({T.Q1_0, T.NVFP4})
