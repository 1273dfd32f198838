"""AutoRound's own format: the packing of GPTQ or of AWQ, which `packing_format` names.

Scales may be negative. Source: auto-round export/export_to_autoround/export.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ggufpy.checkpoint.quantized import awq, gptq
from ggufpy.checkpoint.quantized.gptq import ABOUT_MAKING
from ggufpy.checkpoint.quantized.method import Packed, Weight
from ggufpy.errors import FormatError

# Formats by whose packing they have; GPTQ's first one has zero-points less one.
_AS_GPTQ_V1 = ("auto_round:auto_gptq", "auto_round:gptq")
_AS_GPTQ_V2 = ("auto_round", "auto_round:exllamav2", "auto_round:tritonv2", "auto_round:gptqmodel")
_AS_AWQ = ("auto_round:auto_awq", "auto_round:awq")

_USED = (
    *("bits", "group_size", "sym", "data_type", "packing_format", "backend", "extra_config", "act_bits"),
    *("act_data_type", "act_group_size", "act_sym", "act_dynamic", "modules_to_not_convert"),
)


def weights(packed: Packed) -> list[Weight]:
    """All that AutoRound has packed."""
    packed.check_keys((*ABOUT_MAKING, *_USED))
    packed.choice("data_type", "int", "int", "int_sym", "int_asym")
    packed.choice("act_bits", 16, 16, 32)
    key = "packing_format" if packed.settings.get("packing_format") else "backend"
    form = packed.choice(key, "auto_round", *_AS_GPTQ_V1, *_AS_GPTQ_V2, *_AS_AWQ)
    made = []
    for stem in packed.stems(".qweight"):
        said = _of_module(packed, stem)
        size = gptq.group_size(packed, said)
        if form in _AS_AWQ:
            made.append(awq.linear(packed, stem, size))
        else:
            layout = gptq.Layout(form in _AS_GPTQ_V1, said.get("sym") is True, size)
            made.append(gptq.linear(packed, stem, layout))
    return made


def _of_module(packed: Packed, stem: str) -> Mapping[str, Any]:
    """The settings for one module: `extra_config` has them by its name, or by a regular expression."""
    extra = packed.settings.get("extra_config") or {}
    if not isinstance(extra, dict) or not all(isinstance(said, dict) for said in extra.values()):
        raise FormatError(f"{packed.where}: extra_config is {extra!r:.60}, it must hold objects")
    for name, said in extra.items():
        try:
            if name == stem or re.fullmatch(name, stem):
                return {**packed.settings, **said}
        except re.error as exc:
            problem = f"'{name:.60}' of its extra_config is not a regular expression: {exc}"
            raise FormatError(f"{packed.where}: {problem}") from exc
    return packed.settings
