"""What a model's name says: base, size, fine-tune, version.

The parts of a Hugging Face name such as ``Org/Mistral-7B-Instruct-v0.2``, as GGUF's naming convention has
them. Source: ggml docs/gguf.md; the gguf package's metadata.py, whose results these are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ggufpy.gguf.tensors import TensorSource

_VERSION = re.compile(r"(v|iter)?\d+([.]\d+)*", re.IGNORECASE)
_TYPE = re.compile(r"i?q\d(_\w)*|b?fp?(16|32)", re.IGNORECASE)
_SIZE = re.compile(r"(([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl)", re.IGNORECASE)
_FINETUNE = re.compile(r"chat|instruct|vision|lora", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelName:
    """The parts of a name; None for what it does not say."""

    title: str
    organization: str | None = None
    basename: str | None = None
    size_label: str | None = None
    finetune: str | None = None
    version: str | None = None


def parse_name(name: str, parameters: int) -> ModelName:
    """Take a model's name apart; `parameters` (0: unknown) tells sizes from context lengths such as 128k."""
    if " " in name:
        return ModelName(title_of(name))
    organization, _, rest = name.rpartition("/")
    parts = [part for part in rest.split("-") if part]
    kinds = [_kind(part, position, parameters) for position, part in enumerate(parts)]
    if any(kind == "size" and any(map(str.isdecimal, part)) for part, kind in zip(parts, kinds, strict=True)):
        kinds = ["" if k == "size" and p.isalpha() else k for p, k in zip(parts, kinds, strict=True)]
    spelled = [_spelled(part, kind) for part, kind in zip(parts, kinds, strict=True)]
    base = _base_length(parts, kinds)
    found: dict[str, list[str]] = {"size": [], "finetune": [], "version": [], "type": []}
    for part, kind in list(zip(spelled, kinds, strict=True))[base:]:
        found[kind if kind in found else "finetune"].append(part)
    size = "-".join(dict.fromkeys(found["size"])) or None
    finetune, version = ("-".join(found[kind]) or None for kind in ("finetune", "version"))
    basename = "-".join(parts[:base]) if size or finetune or version else None
    words = [
        part if kind == "context" else word for part, word, kind in zip(parts, spelled, kinds, strict=True)
    ]
    return ModelName(
        title_of(" ".join(words)), title_of(organization) or None, basename or None, size, finetune, version
    )


def title_of(name: str) -> str:
    """A name as a title: lower-case words get a capital, versions, sizes and acronyms stay as they are."""
    words = name.replace("-", " ").split()
    return " ".join(w.title() if w.islower() and not re.match(r"v\d+(\.\d+)*$|\d", w) else w for w in words)


def size_label(parameters: int) -> str:
    """A model's size in two digits or more: ``7.3M``, ``13B``."""
    value, unit = parameters / 1e3, "K"
    for power, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if parameters > power:
            value, unit = parameters / power, letter
            break
    digits = max(2 - len(str(round(value)).lstrip("0")), 0)
    return f"{value:.{digits}f}{unit}"


def label_of_tensors(tensors: Sequence[TensorSource]) -> str:
    """The size of a model; with experts, how many there are and the size with one: ``8x7B``.

    Source: gguf-py/gguf/gguf_writer.py, get_total_parameter_count.
    """
    experts = [tensor for tensor in tensors if "_exps." in tensor.name and len(tensor.shape) > 2]
    parameters = sum(tensor.rows * tensor.columns for tensor in tensors)
    if not experts:
        return size_label(parameters)
    others = sum((tensor.shape[-3] - 1) * tensor.shape[-2] * tensor.columns for tensor in experts)
    count = sum(tensor.shape[-3] for tensor in experts) // len(experts)
    return f"{count}x{size_label(parameters - others)}"


def _kind(part: str, position: int, parameters: int) -> str:
    """What a part of a name is: "version", "type", "size", "context", "finetune" or "" for none of these."""
    if _VERSION.fullmatch(part):
        return "version"
    if _TYPE.fullmatch(part):
        return "type"
    if position and _SIZE.fullmatch(part):
        return "context" if _is_context(_size_spelled(part), parameters) else "size"
    return "finetune" if position and _FINETUNE.fullmatch(part) else ""


def _is_context(size: str, parameters: int) -> bool:
    """Whether a size is too far from the model's own to be meant as one."""
    try:
        value = float(size[:-1]) * 1000.0 ** " KMBT".index(size[-1])
    except ValueError:
        return False
    return parameters > 0 and abs(value - parameters) > 7 * parameters // 8


def _base_length(parts: list[str], kinds: list[str]) -> int:
    """How many parts at the start are the base name: words, and versions between them."""
    length = 0
    for part, kind in zip(parts, kinds, strict=True):
        if kind != "version" and (kind or not part[0].isalpha()):
            break
        length += 1
    if length == len(parts):
        while length and kinds[length - 1] == "version":
            length -= 1
    return length


def _spelled(part: str, kind: str) -> str:
    """A size as ``7B``, a context length as ``128k``, other parts as they are."""
    if kind not in ("size", "context"):
        return part
    size = _size_spelled(part)
    return size if kind == "size" else size[:-1] + size[-1].lower()


def _size_spelled(part: str) -> str:
    """``7b`` -> ``7B``, ``1_5b`` -> ``1.5B``, bloom's ``7b1`` -> ``7.1B``."""
    part = part.replace("_", ".")
    if part[-1].isdecimal():
        part = f"{part[:-2]}.{part[-1]}{part[-2]}"
    return part[:-1] + part[-1].upper() if part[-2:-1].isdecimal() else part
