"""GPTQ as AutoGPTQ, GPTQModel and optimum write it.

`qweight` (inputs * bits / 32, outputs) has its integers packed along the inputs, `qzeros` (groups,
outputs * bits / 32) along the outputs; `scales` (groups, outputs); `g_idx` (inputs,) has the group of each
input, where act-order gave groups other inputs than neighbours. Weight = (integer - zero) * scale.

The format "gptq" (v1) has each zero-point less one; of 2, 4 and 8 bits whole words had one subtracted from
every field, with borrows, so it is added to whole words. Source: GPTQModel nn_modules/qlinear/__init__.py,
utils/model.py, utils/model_dequant.py.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized.integers import Integers, Slab
from ggufpy.checkpoint.quantized.method import FLOATS, Packed, Weight, floats_of, precision_in_f16
from ggufpy.checkpoint.quantized.words import Codes, Words, dense, planar, words
from ggufpy.errors import FormatError
from ggufpy.gguf import sources
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

BITS = (2, 3, 4, 5, 6, 7, 8)

# Of the settings of GPTQ, AWQ and AutoRound: how calibration went, and which kernels run.
ABOUT_MAKING = (
    *("quant_method", "method", "quantizer", "meta", "dataset", "tokenizer", "batch_size", "pad_token_id"),
    *("damp_percent", "damp_auto_increment", "static_groups", "true_sequential", "mse", "act_group_aware"),
    *("block_name_to_quantize", "module_name_preceding_first_block", "modules_in_block_to_quantize"),
    *("model_seqlen", "max_input_length", "cache_block_outputs", "hyb_act", "model_name_or_path"),
    *("use_cuda_fp16", "use_exllama", "disable_exllama", "exllama_config", "backend", "model_file_base_name"),
    *("autoround_version", "provider", "iters", "lr", "minmax_lr", "nsamples", "seqlen", "amp", "model_free"),
    *("gradient_accumulate_steps", "enable_minmax_tuning", "enable_norm_bias_tuning", "enable_quanted_input"),
    *("enable_torch_compile", "enable_alg_ext", "low_gpu_mem_usage", "low_cpu_mem_usage", "scale_dtype"),
    *("to_quant_block_names", "quant_block_list", "data_type", "ignore_layers"),
)
_USED = (
    "bits",
    "group_size",
    "desc_act",
    "sym",
    "dynamic",
    "lm_head",
    "format",
    "checkpoint_format",
    "pack_dtype",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the parts of a weight are to be read.

    less_one: zero-points are (v1). symmetric: the zero-point is the middle. group_size: inputs of a group, -1
    for all; it counts where no `g_idx` says more. planes: 3 bits are in planes. act_order: there must be a
    `g_idx`.
    """

    less_one: bool
    symmetric: bool
    group_size: int
    planes: bool = False
    act_order: bool = False


def weights(packed: Packed) -> list[Weight]:
    """All that GPTQ has packed."""
    packed.check_keys((*ABOUT_MAKING, *_USED))
    packed.choice("pack_dtype", "int32", "int32")
    key = "checkpoint_format" if packed.settings.get("checkpoint_format") else "format"
    form = packed.choice(key, "gptq", "gptq", "gptq_v2", "gptq_p")
    made, stems = [], packed.stems(".qweight")
    added = _added_biases(packed, stems)
    for stem in stems:
        said = _of_module(packed, stem)
        layout = Layout(
            form == "gptq",
            said.get("sym") is True,
            group_size(packed, said),
            form == "gptq_p",
            said.get("desc_act") is True,
        )
        weight = linear(packed, stem, layout)
        made.append(replace(weight, parts=[*weight.parts, *added & {f"{stem}.bias"}]))
    return made


def _added_biases(packed: Packed, stems: Sequence[str]) -> set[str]:
    """Biases of modules that have none: AutoGPTQ gave one to each, so they are zeros in every layer."""
    of_kinds: dict[str, list[str]] = defaultdict(list)
    for stem in stems:
        if f"{stem}.bias" in packed.tensors:
            of_kinds[re.sub(r"\d+", "", stem)].append(f"{stem}.bias")

    def are_zeros(names: Sequence[str]) -> bool:
        return not any(floats_of(packed.part(name, FLOATS)).any() for name in names)

    return {name for names in of_kinds.values() if are_zeros(names) for name in names}


def group_size(packed: Packed, settings: Mapping[str, Any], key: str = "group_size") -> int:
    """Inputs of a group, -1 for all."""
    size = settings.get(key, -1)
    if type(size) is not int or size == 0 or size < -1:
        raise FormatError(f"{packed.where}: {key} is {size!r:.40}, it must be -1 or a positive number")
    return size


def _of_module(packed: Packed, stem: str) -> Mapping[str, Any]:
    """The settings for one module. `dynamic`: regular expressions, the first that matches its name counts."""
    dynamic = packed.settings.get("dynamic") or {}
    if not isinstance(dynamic, dict) or not all(isinstance(said, dict) for said in dynamic.values()):
        raise FormatError(f"{packed.where}: dynamic is {dynamic!r:.40}, it must be an object of objects")
    for pattern, said in dynamic.items():
        try:
            matches = re.match(pattern.removeprefix("+:"), stem)
        except re.error as exc:
            problem = f"'{pattern:.60}' of its dynamic settings is not a regular expression: {exc}"
            raise FormatError(f"{packed.where}: {problem}") from exc
        if matches:
            return {**packed.settings, **said}
    return packed.settings


def linear(packed: Packed, stem: str, layout: Layout) -> Weight:
    """The weight (outputs, inputs) of a module; raises FormatError for parts that do not fit each other."""
    name = f"{stem}.qweight"
    qweight = packed.part(name, (GGMLType.I32,))
    scales, qzeros = packed.part(f"{stem}.scales", FLOATS), packed.part(f"{stem}.qzeros", (GGMLType.I32,))
    if {len(each.shape) for each in (qweight, scales, qzeros)} != {2}:
        raise misfit(qweight, scales, qzeros)
    outputs, groups = qweight.shape[1], scales.shape[0]
    bits, rest = divmod(32 * qzeros.shape[1], outputs)
    inputs, rest_of_inputs = divmod(32 * qweight.shape[0], bits or 1)
    if rest or bits not in BITS or rest_of_inputs or scales.shape[1] != outputs or qzeros.shape[0] != groups:
        raise misfit(qweight, scales, qzeros)
    group_of, parts = _groups(packed, qweight, inputs, groups, layout)
    zeros = _Zeros(qzeros, bits, layout)
    qweight, scales = sources.transposed(qweight), sources.transposed(scales)
    unpack = _unpack(bits, layout)

    def read(start: int, stop: int) -> Slab:
        codes = unpack(words(qweight, start, stop), bits)
        return Slab(codes, floats_of(scales, start, stop), zeros.read(start, stop))

    return Integers(
        f"{stem}.weight",
        (outputs, inputs),
        [name, f"{stem}.scales", f"{stem}.qzeros", *parts],
        group_of,
        bits,
        zeros.range(),
        precision_in_f16(scales),
        read,
    ).weight()


@dataclass(frozen=True, slots=True)
class _Zeros:
    """Zero-points (groups, outputs). A symmetric layer has the middle, whatever its file says."""

    packed: TensorSource
    bits: int
    layout: Layout

    def range(self) -> tuple[int, int]:
        """The least and the greatest."""
        if self.layout.symmetric:
            return self._middle, self._middle
        every = self._decoded(slice(None))
        return int(every.min()), int(every.max())

    def read(self, start: int, stop: int) -> NDArray[np.int16] | int:
        """Those of some outputs: (outputs, groups)."""
        if self.layout.symmetric:
            return self._middle
        first, last = start // 32, -(-stop // 32)
        codes = self._decoded(slice(first * self.bits, last * self.bits))
        return codes[:, start - 32 * first : stop - 32 * first].T.astype(np.int16)

    @property
    def _middle(self) -> int:
        return 1 << (self.bits - 1)

    def _decoded(self, which: slice) -> NDArray[np.uint8]:
        """Those in some of the words: (groups, 32 * words / bits)."""
        taken, bits, every = words(self.packed)[:, which], self.bits, (1 << self.bits) - 1
        if self.layout.less_one and 32 % bits == 0:
            taken = taken + np.uint32(0xFFFFFFFF // every)
        codes = _unpack(bits, self.layout)(taken, bits)
        return codes + np.uint8(1) & np.uint8(every) if self.layout.less_one and 32 % bits else codes


def _unpack(bits: int, layout: Layout) -> Callable[[Words, int], Codes]:
    """Integers of 5, 6 and 7 bits are in planes always, those of 3 in one format."""
    return planar if bits in (5, 6, 7) or (layout.planes and bits == 3) else dense


def _groups(
    packed: Packed, qweight: TensorSource, inputs: int, groups: int, layout: Layout
) -> tuple[NDArray[np.int64], list[str]]:
    """The group of each input, and the name of the tensor that says it, if there is one."""
    name = f"{qweight.name.removesuffix('.qweight')}.g_idx"
    if name in packed.tensors:
        g_idx = packed.shaped(name, (GGMLType.I32,), (inputs,), of=qweight.name)
        group_of = g_idx.read(0, 1).view("<i4").reshape(-1).astype(np.int64)
        if group_of.min() < 0 or group_of.max() >= groups:
            problem = f"names group {group_of.max()} or {group_of.min()} of {groups}"
            raise FormatError(f"tensor {quoted(name)} {problem}; download the checkpoint again")
        return group_of, [name]
    if layout.act_order and groups > 1:
        raise FormatError(f"{packed.where.parent}: tensor {quoted(name)} is missing; download it again")
    return neighbours(packed, qweight.name, inputs, groups, layout.group_size), []


def neighbours(packed: Packed, name: str, inputs: int, groups: int, size: int) -> NDArray[np.int64]:
    """The group of each input where so many neighbours make one; size: -1 for all."""
    size = inputs if size == -1 else size
    if -(-inputs // size) != groups:
        problem = f"has {inputs} inputs in {groups} groups, group_size is {size}"
        raise FormatError(f"{packed.where}: tensor {quoted(name)} {problem}; they do not belong together")
    return np.arange(inputs) // size


def misfit(*parts: TensorSource) -> FormatError:
    """Parts whose shapes cannot be of one weight."""
    shapes = ", ".join(f"{quoted(each.name)} {each.shape}" for each in parts)
    return FormatError(
        f"tensors of one weight do not fit each other: {shapes}; download the checkpoint again"
    )
