"""AWQ as AutoAWQ writes it, in its packing for GEMM: 4 bits, packed along the outputs.

`qweight` (inputs, outputs / 8), `qzeros` (groups, outputs / 8), `scales` (groups, outputs); of eight outputs
in a word the even ones come first. Weight = (integer - zero) * scale. Source: AutoAWQ
awq/modules/linear/gemm.py, awq/utils/packing_utils.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized.gptq import ABOUT_MAKING, group_size, misfit, neighbours
from ggufpy.checkpoint.quantized.integers import Integers, Slab
from ggufpy.checkpoint.quantized.method import FLOATS, Packed, Weight, floats_of, precision_in_f16
from ggufpy.checkpoint.quantized.words import Codes, Words, words
from ggufpy.gguf import sources
from ggufpy.gguf.types import GGMLType

_USED = (
    *("bits", "w_bit", "group_size", "q_group_size", "version", "format", "checkpoint_format", "pack_dtype"),
    *("desc_act", "zero_point", "sym", "dynamic", "lm_head", "modules_to_not_convert"),
    *("modules_to_fuse", "do_fuse", "fuse_max_seq_len"),
)
_IN_WORD = 8
# The place in its word of each of eight outputs.
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


def weights(packed: Packed) -> list[Weight]:
    """All that AWQ has packed."""
    packed.check_keys((*ABOUT_MAKING, *_USED))
    packed.choice("bits" if "bits" in packed.settings else "w_bit", 4, 4)
    packed.choice("desc_act", False, False)
    packed.choice("pack_dtype", "int32", "int32")
    for key in ("version", "format", "checkpoint_format"):
        packed.choice(key, "gemm", "gemm", "GEMM")
    size = group_size(
        packed, packed.settings, "group_size" if "group_size" in packed.settings else "q_group_size"
    )
    return [linear(packed, stem, size) for stem in packed.stems(".qweight")]


def linear(packed: Packed, stem: str, group_size: int) -> Weight:
    """The weight (outputs, inputs) of a module; raises FormatError for parts that do not fit each other."""
    names = [f"{stem}.{ending}" for ending in ("qweight", "qzeros", "scales")]
    types = ((GGMLType.I32,), (GGMLType.I32,), FLOATS)
    qweight, qzeros, scales = (packed.part(*each) for each in zip(names, types, strict=True))
    if {len(each.shape) for each in (qweight, qzeros, scales)} != {2}:
        raise misfit(qweight, qzeros, scales)
    (inputs, n), (groups, outputs) = qweight.shape, scales.shape
    if outputs != _IN_WORD * n or qzeros.shape != (groups, n):
        raise misfit(qweight, qzeros, scales)
    by_output, scales = sources.transposed(qweight), sources.transposed(scales)

    def zeros() -> NDArray[np.int16]:
        return _unpacked(words(qzeros).T).astype(np.int16)

    def read(start: int, stop: int) -> Slab:
        first = start // _IN_WORD
        of_words = _unpacked(words(by_output, first, -(-stop // _IN_WORD)))
        codes = of_words[start - first * _IN_WORD : stop - first * _IN_WORD]
        return Slab(codes, floats_of(scales, start, stop), zeros()[start:stop])

    return Integers(
        f"{stem}.weight",
        (outputs, inputs),
        names,
        neighbours(packed, names[0], inputs, groups, group_size),
        4,
        (int(zeros().min()), int(zeros().max())),
        precision_in_f16(scales),
        read,
    ).weight()


def _unpacked(packed: Words) -> Codes:
    """Integers of outputs: (words, n) -> (8 * words, n)."""
    data = np.ascontiguousarray(packed, "<u4").view(np.uint8).reshape(*packed.shape, 4)
    codes = np.empty((len(packed), _IN_WORD, packed.shape[1]), np.uint8)
    for output, place in enumerate(_PLACES):
        codes[:, output] = data[..., place // 2] >> np.uint8(4 * (place % 2)) & np.uint8(15)
    return codes.reshape(-1, packed.shape[1])
