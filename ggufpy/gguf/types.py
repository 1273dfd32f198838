"""Tensor types of GGUF: their ids, and how many bytes a block of each takes.

Source: llama.cpp ggml.h, enum ggml_type, and ggml-common.h (block structs).
"""

from __future__ import annotations

from enum import IntEnum

from ggufpy.errors import ShapeError, UnsupportedModelError


class GGMLType(IntEnum):
    """A tensor type; the value is the id in the file."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40
    Q1_0 = 41
    Q2_0 = 42

    @property
    def label(self) -> str:
        """The field's spelling of the name: ``"f16"``, ``"q8_0"``, ``"q4_K"``."""
        name = self.name.lower()
        return name[:-2] + "_K" if name.endswith("_k") else name

    @property
    def block_size(self) -> int:
        """Weights per block."""
        return _BLOCKS[self][0]

    @property
    def block_bytes(self) -> int:
        """Bytes per block."""
        return _BLOCKS[self][1]

    @classmethod
    def named(cls, name: str | GGMLType) -> GGMLType:
        """The type of that name, in any case; raises UnsupportedModelError if there is none."""
        if isinstance(name, GGMLType):
            return name
        type = cls.__members__.get(name.upper())
        if type is None:
            known = ", ".join(each.label for each in cls)
            raise UnsupportedModelError(f"tensor type '{name:.40}' is unknown; choose one of {known}")
        return type

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row of `columns` weights; raises ShapeError if blocks do not divide it."""
        if columns % self.block_size:
            raise ShapeError(
                f"a row of {columns} does not divide into {self.label} blocks of {self.block_size}"
            )
        return columns // self.block_size * self.block_bytes


# type: (weights per block, bytes per block)
_BLOCKS: dict[GGMLType, tuple[int, int]] = {
    GGMLType.F32: (1, 4),
    GGMLType.F16: (1, 2),
    GGMLType.Q4_0: (32, 18),
    GGMLType.Q4_1: (32, 20),
    GGMLType.Q5_0: (32, 22),
    GGMLType.Q5_1: (32, 24),
    GGMLType.Q8_0: (32, 34),
    GGMLType.Q8_1: (32, 36),
    GGMLType.Q2_K: (256, 84),
    GGMLType.Q3_K: (256, 110),
    GGMLType.Q4_K: (256, 144),
    GGMLType.Q5_K: (256, 176),
    GGMLType.Q6_K: (256, 210),
    GGMLType.Q8_K: (256, 292),
    GGMLType.IQ2_XXS: (256, 66),
    GGMLType.IQ2_XS: (256, 74),
    GGMLType.IQ3_XXS: (256, 98),
    GGMLType.IQ1_S: (256, 50),
    GGMLType.IQ4_NL: (32, 18),
    GGMLType.IQ3_S: (256, 110),
    GGMLType.IQ2_S: (256, 82),
    GGMLType.IQ4_XS: (256, 136),
    GGMLType.I8: (1, 1),
    GGMLType.I16: (1, 2),
    GGMLType.I32: (1, 4),
    GGMLType.I64: (1, 8),
    GGMLType.F64: (1, 8),
    GGMLType.IQ1_M: (256, 56),
    GGMLType.BF16: (1, 2),
    GGMLType.TQ1_0: (256, 54),
    GGMLType.TQ2_0: (256, 66),
    GGMLType.MXFP4: (32, 17),
    GGMLType.NVFP4: (64, 36),
    GGMLType.Q1_0: (128, 18),
    GGMLType.Q2_0: (64, 18),
}


# Types that llama.cpp had, and whose numbers it has not given away. Source: ggml.h, enum ggml_type.
_RETIRED = {
    4: "q4_2",
    5: "q4_3",
    31: "q4_0_4_4",
    32: "q4_0_4_8",
    33: "q4_0_8_8",
    36: "iq4_nl_4_4",
    37: "iq4_nl_4_8",
    38: "iq4_nl_8_8",
}
_BITNET_CPP = {36: "i2_s", 37: "i8_s", 38: "tl1"}
_PRISM_ML = {142: "pq2_0", 143: "ptq1_0"}
# fmt: off
_IK_LLAMA = {
    133: "q6_0", 134: "iq1_bn", 135: "iq2_bn", 137: "iq2_k", 138: "iq3_k", 139: "iq4_k", 140: "iq5_k",
    141: "iq6_k", 144: "iq4_ks", 145: "iq2_ks", 146: "iq4_kss", 152: "iq5_ks", 153: "iq2_kt", 154: "iq3_kt",
    155: "iq4_kt", 156: "iq3_ks", 157: "iq2_kl", 158: "iq1_kt",
}
# fmt: on

# Numbers of types above that forks gave, or had given, to others.
_OTHER_USES = {39: "bitnet.cpp's tl2", 40: "PrismML's first q1_0", 42: "PrismML's q2_0, of 34 bytes per 128"}

_AGAIN = "quantize the original model again"


def foreign_type(id: int) -> tuple[str, str]:
    """Whose a type is that GGMLType does not have, and what helps. Source: ggml.h of the forks."""
    if id in _BITNET_CPP:
        return f"{_RETIRED[id]}, which llama.cpp has retired, or bitnet.cpp's {_BITNET_CPP[id]}", _AGAIN
    if id in _RETIRED:
        return f"{_RETIRED[id]}, which llama.cpp has retired", "take the model's q4_0 file, or " + _AGAIN
    if id in _PRISM_ML:
        return f"PrismML's {_PRISM_ML[id]}, or one of ik_llama.cpp's retired ones", _AGAIN
    if 133 <= id <= 158 or 202 <= id <= 399:
        return f"{_IK_LLAMA.get(id, 'one')} of ik_llama.cpp's own", _AGAIN
    return "which ggufpy does not know", "the file may be newer than ggufpy"


def other_use(type: GGMLType) -> tuple[str, str] | None:
    """What this type's number stands for in files of forks, and what helps; None: nothing else."""
    other = _OTHER_USES.get(type)
    return (f"type {type.value} may be {other} here, not {type.label}", _AGAIN) if other else None
