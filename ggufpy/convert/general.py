"""The `general.*` metadata: what the model is called, where it comes from, how it is meant to be sampled.

Taken from the model card, then from `_name_or_path` in config.json, then from the folder's name, as
llama.cpp's converter does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.convert.model_card import read_model_card
from ggufpy.convert.naming import ModelName, label_of_tensors, parse_name, title_of
from ggufpy.errors import FormatError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.values import Typed, Value, ValueType

Card = Mapping[str, str | list[str]]
Entries = dict[str, Value | Typed]

# generation_config.json -> general.sampling.*, and the type there.
_SAMPLING: tuple[tuple[str, str, ValueType], ...] = (
    ("top_k", "top_k", ValueType.I32),
    ("top_p", "top_p", ValueType.F32),
    ("min_p", "min_p", ValueType.F32),
    ("xtc_probability", "xtc_probability", ValueType.F32),
    ("xtc_threshold", "xtc_threshold", ValueType.F32),
    ("temperature", "temp", ValueType.F32),
    ("penalty_last_n", "penalty_last_n", ValueType.I32),
    ("repetition_penalty", "penalty_repeat", ValueType.F32),
    ("mirostat", "mirostat", ValueType.I32),
    ("mirostat_tau", "mirostat_tau", ValueType.F32),
    ("mirostat_eta", "mirostat_eta", ValueType.F32),
)

# What settings can be, where it is not any number from 0.
_LARGEST = 1 << 30
_LIMITS: dict[str, tuple[float, float]] = {
    "top_p": (0, 1),
    "min_p": (0, 1),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "penalty_last_n": (-1, _LARGEST),
    "top_k": (-1, _LARGEST),
    "mirostat": (0, 2),
}

# Keys that the card gives under the first of these names that it has.
_FROM_CARD: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("author", ("author", "model_author", "model_creator")),
    ("description", ("description", "model_description")),
    ("license", ("license",)),
    ("license.name", ("license_name",)),
    ("license.link", ("license_link",)),
)


def general_metadata(checkpoint: Checkpoint, architecture: str, tensors: Sequence[TensorSource]) -> Entries:
    """`general.*` but for the file's type; `tensors`: of the file, none in one without weights.

    Raises FormatError for sampling settings that are not numbers.
    """
    card = read_model_card(checkpoint.folder)
    entries: Entries = {"general.architecture": architecture, "general.type": "model"}
    entries |= _sampling(checkpoint.generation_config)
    entries |= _naming(checkpoint, card, tensors)
    for key, names in _FROM_CARD:
        value = next((card[name] for name in names if name in card), None)
        if value is not None:
            entries[f"general.{key}"] = ",".join(value) if isinstance(value, list) else value
    entries |= _references("base_model", _listed(card, "base_model", "base_models"))
    entries |= _references("dataset", _listed(card, "datasets", "dataset"))
    for key, names in (("tags", ("tags", "pipeline_tag")), ("languages", ("languages", "language"))):
        values = list(chain.from_iterable(_listed(card, name) for name in names))
        if values:
            entries[f"general.{key}"] = values
    return entries


def _sampling(config: Mapping[str, Any]) -> Entries:
    entries: Entries = {}
    for theirs, ours, type in _SAMPLING:
        value = config.get(theirs)
        if value is None:
            continue
        least, most = _LIMITS.get(theirs, (0, _LARGEST))
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
        if not is_number or (type is ValueType.I32 and value != int(value)):
            wanted = f"a {'whole ' if type is ValueType.I32 else ''}number from {least} to {most:g}"
            raise FormatError(f"generation_config.json: {theirs} is {value!r:.40}, it must be {wanted}")
        number: Callable[[float], float] = int if type is ValueType.I32 else float
        entries[f"general.sampling.{ours}"] = Typed(number(value), type)
    return entries


def _naming(checkpoint: Checkpoint, card: Card, tensors: Sequence[TensorSource]) -> Entries:
    parameters = sum(tensor.rows * tensor.columns for tensor in tensors)
    names = [parse_name(name, parameters) for name in _names(checkpoint)]

    def first(field: str, *card_keys: str) -> str | None:
        given = [value for key in card_keys if isinstance(value := card.get(key), str)]
        return next(chain(given, (value for name in names if (value := getattr(name, field)))), None)

    size = first("size_label", "size_label", "model_size_label")
    fields = {
        "name": first("title", "name", "model_name") or checkpoint.name,
        "version": first("version", "version", "model_version"),
        "organization": first("organization", "organization", "model_organization"),
        "finetune": first("finetune", "finetune", "model_finetune"),
        "basename": first("basename", "basename", "model_basename", "model_type"),
        "size_label": size or (label_of_tensors(tensors) if parameters else None),
    }
    # A folder's name may be no UTF-8.
    return {
        f"general.{field}": value.encode(errors="replace").decode()
        for field, value in fields.items()
        if value
    }


def _names(checkpoint: Checkpoint) -> Iterator[str]:
    given = checkpoint.config.get("_name_or_path")
    # A path on the machine of whoever saved it says nothing; Org/Name does.
    if isinstance(given, str) and given and given.count("/") <= 1 and not given.startswith("."):
        yield given
    yield checkpoint.repository or checkpoint.name


def _listed(card: Card, *names: str) -> list[str]:
    value = next((card[name] for name in names if name in card), [])
    return value if isinstance(value, list) else [value]


def _references(kind: str, ids: list[str]) -> Entries:
    """Models or datasets that this one comes from, given as Hugging Face ids or addresses."""
    if not ids:
        return {}
    entries: Entries = {f"general.{kind}.count": len(ids)}
    for number, id in enumerate(ids):
        for field, value in _reference(id).items():
            entries[f"general.{kind}.{number}.{field}"] = value
    return entries


def _reference(id: str) -> dict[str, str]:
    address, name = id, id.removeprefix("https://huggingface.co/")
    if "://" in name:
        return {"repo_url": address}
    parsed: ModelName = parse_name(name, 0)
    fields = {"name": parsed.title, "organization": parsed.organization, "version": parsed.version}
    if "/" in name:
        fields["repo_url"] = f"https://huggingface.co/{name}"
    elif not fields["name"]:
        fields["name"] = title_of(name)
    return {field: value for field, value in fields.items() if value}
