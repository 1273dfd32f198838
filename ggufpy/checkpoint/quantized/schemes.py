"""What settings of compressed-tensors say of one module: the group that it belongs to.

Source: compressed_tensors quantization/quant_args.py, utils/match.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ggufpy.checkpoint.quantized.method import ORIGINAL, Packed
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.cursor import quoted

_WHOLE = 1 << 30  # columns of a block that is a row, whatever that has


@dataclass(frozen=True, slots=True)
class Scheme:
    """How weights are quantized. kind: "int" or "float". block: rows and columns of one scale, if said."""

    kind: str
    bits: int
    block: tuple[int, int] | None

    @classmethod
    def of(cls, packed: Packed, module: str) -> Scheme:
        """That of a module; raises FormatError if there is none, UnsupportedModelError if it is strange."""
        args = _weights(packed, module)
        kind, bits = args.get("type", "int"), args.get("num_bits", 8)
        strategy = args.get("strategy")
        size, structure = args.get("group_size"), args.get("block_structure")
        if kind not in ("int", "float") or type(bits) is not int or not 1 <= bits <= 8:
            raise _unknown(packed, f"{kind!r:.20} of {bits!r:.20} bits")
        if strategy not in (None, "tensor", "channel", "group", "block", "tensor_group"):
            raise _unknown(packed, f"strategy {strategy!r:.40}")
        if strategy == "block" and isinstance(structure, str):  # of old versions
            structure = [int(n) for n in structure.split("x") if n.isdecimal()]
        block = structure if strategy == "block" else [1, size] if size and size != -1 else None
        if strategy == "channel":
            block = [1, _WHOLE]
        if block is not None and not _is_block(block):
            raise _unknown(packed, f"blocks of {block!r:.40}")
        return cls(kind, bits, (block[0], block[1]) if block else None)


def _is_block(sizes: object) -> bool:
    return (
        isinstance(sizes, list)
        and len(sizes) == 2
        and all(type(size) is int and 0 < size <= _WHOLE for size in sizes)
    )


def _unknown(packed: Packed, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{packed.where}: weights are quantized by {what}, which is unknown; {ORIGINAL}"
    )


def _weights(packed: Packed, module: str) -> Mapping[str, Any]:
    """Settings of the group that names a module, by a pattern or else by the kind of all linears."""
    groups = packed.settings.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(each, dict) for each in groups.values()):
        raise FormatError(f"{packed.where}: config_groups of its quantization must be objects")
    for is_so in (_is_name, _is_pattern, _is_class):
        for group in groups.values():
            targets, args = group.get("targets"), group.get("weights")
            if not isinstance(args, dict) or not isinstance(targets, list):
                continue
            if any(isinstance(target, str) and is_so(target, module) for target in targets):
                return args
    problem = f"no group of its quantization is of {quoted(module)}, which is quantized"
    raise FormatError(f"{packed.where}: {problem}; download it again")


def _is_name(target: str, module: str) -> bool:
    return target == module


def _is_pattern(target: str, module: str) -> bool:
    try:
        return target.startswith("re:") and re.match(target[3:], module) is not None
    except re.error:
        return False


def _is_class(target: str, module: str) -> bool:
    """What has no dots is the name of a class; which one a module has, its tensors do not say."""
    return not target.startswith("re:") and "." not in target
