"""Which type each tensor gets: the rules of llama.cpp's converter and of llama-quantize."""

from __future__ import annotations

from ggufpy.gguf.types import GGMLType

# What `--outtype` can name, and the file's `general.file_type`. Source: llama.cpp llama.h, enum llama_ftype.
FILE_TYPES: dict[GGMLType, int] = {
    GGMLType.F32: 0,
    GGMLType.F16: 1,
    GGMLType.Q4_0: 2,
    GGMLType.Q4_1: 3,
    GGMLType.Q8_0: 7,
    GGMLType.Q5_0: 8,
    GGMLType.Q5_1: 9,
    GGMLType.BF16: 32,
}

# `general.quantization_version`: the layout of the blocks. Source: llama.cpp ggml.h, GGML_QNT_VERSION.
QUANTIZATION_VERSION = 2


def tensor_type(name: str, shape: tuple[int, ...], file_type: GGMLType, *, tied: bool) -> GGMLType:
    """The type of a tensor, by its GGUF name, in a file of `file_type`.

    tied: the file has no output.weight, token_embd.weight serves as both. Vectors and norms are always F32.
    The output matrix is never below Q8_0: its errors reach the logits directly (llama-quantize takes Q6_K).
    """
    if len(shape) < 2 or not name.endswith(".weight") or name.endswith("_norm.weight"):
        return GGMLType.F32
    chosen = file_type
    is_output = name == ("token_embd.weight" if tied else "output.weight")
    if is_output and file_type.block_size > 1:
        chosen = GGMLType.Q8_0
    return GGMLType.F16 if shape[-1] % chosen.block_size else chosen
