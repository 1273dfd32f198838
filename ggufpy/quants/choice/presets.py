"""What a file can be quantized to: llama-quantize's presets, their names, aliases and ids.

Source: llama.cpp llama.h, enum llama_ftype; tools/quantize/quantize.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.types import GGMLType as T

# `general.quantization_version`: the layout of the blocks. Source: llama.cpp ggml.h, GGML_QNT_VERSION.
QUANTIZATION_VERSION = 2


@dataclass(frozen=True, slots=True)
class Preset:
    """A mixture of types.

    name: llama-quantize's. id: the file's `general.file_type`. type: what a tensor gets for which the mixture
    says nothing else.
    """

    name: str
    id: int
    type: T

    @property
    def label(self) -> str:
        """The name in messages, options and file names: ``"q4_k_m"``."""
        return self.name.lower()

    @property
    def is_float(self) -> bool:
        """Whether the weights stay floats; then there is no mixture."""
        return self.type.block_size == 1


PRESETS = (
    Preset("F32", 0, T.F32),
    Preset("F16", 1, T.F16),
    Preset("BF16", 32, T.BF16),
    Preset("Q8_0", 7, T.Q8_0),
    Preset("Q4_0", 2, T.Q4_0),
    Preset("Q4_1", 3, T.Q4_1),
    Preset("Q5_0", 8, T.Q5_0),
    Preset("Q5_1", 9, T.Q5_1),
    Preset("Q2_K", 10, T.Q2_K),
    Preset("Q2_K_S", 21, T.Q2_K),
    Preset("Q3_K_S", 11, T.Q3_K),
    Preset("Q3_K_M", 12, T.Q3_K),
    Preset("Q3_K_L", 13, T.Q3_K),
    Preset("Q4_K_S", 14, T.Q4_K),
    Preset("Q4_K_M", 15, T.Q4_K),
    Preset("Q5_K_S", 16, T.Q5_K),
    Preset("Q5_K_M", 17, T.Q5_K),
    Preset("Q6_K", 18, T.Q6_K),
    Preset("IQ1_S", 24, T.IQ1_S),
    Preset("IQ1_M", 31, T.IQ1_M),
    Preset("IQ2_XXS", 19, T.IQ2_XXS),
    Preset("IQ2_XS", 20, T.IQ2_XS),
    Preset("IQ2_S", 28, T.IQ2_XS),
    Preset("IQ2_M", 29, T.IQ2_S),
    Preset("IQ3_XXS", 23, T.IQ3_XXS),
    Preset("IQ3_XS", 22, T.IQ3_S),
    Preset("IQ3_S", 26, T.IQ3_S),
    Preset("IQ3_M", 27, T.IQ3_S),
    Preset("IQ4_NL", 25, T.IQ4_NL),
    Preset("IQ4_XS", 30, T.IQ4_XS),
    Preset("TQ1_0", 36, T.TQ1_0),
    Preset("TQ2_0", 37, T.TQ2_0),
    Preset("Q1_0", 40, T.Q1_0),
    Preset("Q2_0", 41, T.Q2_0),
    Preset("MXFP4_MOE", 38, T.MXFP4),
    # llama-quantize has no name for this one; its reader has the id.
    Preset("NVFP4", 39, T.NVFP4),
)

_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}
_BY_NAME = {preset.name: preset for preset in PRESETS}
_BY_NAME |= {str(preset.id): preset for preset in PRESETS}
_BY_NAME |= {alias: _BY_NAME[name] for alias, name in _ALIASES.items()}


def find_preset(name: str) -> Preset:
    """The preset of that name, alias or id, in any case; raises UnsupportedModelError for others."""
    preset = _BY_NAME.get(name.upper())
    if preset is None:
        known = ", ".join(each.label for each in PRESETS)
        raise UnsupportedModelError(f"type '{name:.40}' is unknown; choose one of {known}")
    return preset
