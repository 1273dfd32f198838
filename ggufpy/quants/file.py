"""A GGUF file becomes another one, its tensors in other types: plan first, then write tensor by tensor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

from ggufpy.errors import FormatError
from ggufpy.gguf.inputs import Inputs
from ggufpy.gguf.layout import ALIGNMENT
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.splits import SPLIT_TYPES
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.gguf.writer import file_sizes, write_gguf
from ggufpy.quants import Search
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.planning import (
    Metadata,
    Planned,
    Request,
    kept,
    plan_tensors,
    quantized_metadata,
    with_entries,
)
from ggufpy.quants.choice.presets import Preset, find_preset
from ggufpy.quants.choice.pruning import check_layers, pruned_metadata, pruned_name
from ggufpy.quants.choice.recipe import Facts, Overrides, visiting_order

# In place of a preset: tensors stay as they are.
COPY = "copy"


class Options(TypedDict, total=False):
    """How to quantize a file, beside the type; the names are those of llama-quantize's options.

    pure: every tensor in the preset's own type. imatrix: the importance matrix, or its file; include_weights,
    exclude_weights: which of its entries count, by parts of names. output_tensor_type, token_embedding_type:
    of these tensors. tensor_type: pairs (regular expression, type), the first that is found in a name counts.
    leave_output_tensor: output.weight stays as it is. allow_requantize: blocks may be decoded and encoded
    again. keep_split: the output has the input's shards. prune_layers: layers to leave out. override_kv:
    metadata to set. search: "thorough" takes longer for lower error. threads: by default one per core.
    """

    pure: bool
    imatrix: Path | str | ImportanceMatrix | None
    include_weights: Sequence[str]
    exclude_weights: Sequence[str]
    output_tensor_type: str | None
    token_embedding_type: str | None
    tensor_type: Sequence[tuple[str, str]]
    leave_output_tensor: bool
    allow_requantize: bool
    keep_split: bool
    prune_layers: Sequence[int]
    override_kv: Mapping[str, Value | Typed]
    search: Search
    threads: int | None


def quantize_file(
    source: Path | str,
    out: Path | str | None,
    type: str,
    *,
    on_progress: Callable[[TensorSource, int], None] | None = None,
    **options: Unpack[Options],
) -> list[Path]:
    """Write the GGUF file `source` anew as `type`; returns the files written: several with keep_split.

    out: the file; by default ggml-model-TYPE.gguf beside `source`. type: a preset of llama-quantize
    ("q4_k_m", or its number), or "copy". options: see `Options`. on_progress is told of each slab: its
    tensor, and the bytes written. Memory stays near the largest tensor.
    Raises FormatError for what is wrong with files, weights or options, ShapeError for rows that no type
    fits, UnsupportedModelError for unknown types; then no file is left, and an old one is untouched.
    """
    return plan_quantization(source, out, type, **options).write(on_progress)


@dataclass(frozen=True, slots=True)
class QuantizationPlan:
    """All that will be in the file; no weights are read yet. shards: how many tensors each file gets."""

    path: Path
    metadata: Metadata
    planned: list[Planned]
    shards: list[int] | None
    inputs: Inputs

    @property
    def tensors(self) -> list[TensorSource]:
        """As they will be written."""
        return [each.tensor for each in self.planned]

    def sizes(self) -> dict[Path, int]:
        """The files to be written, and their bytes."""
        return file_sizes(self.path, self.metadata, self.tensors, shards=self.shards)

    def write(self, on_progress: Callable[[TensorSource, int], None] | None = None) -> list[Path]:
        """Write the files, and return them."""
        return write_gguf(
            self.path,
            self.metadata,
            self.tensors,
            shards=self.shards,
            inputs=self.inputs,
            on_progress=on_progress,
        )


def plan_quantization(
    source: Path | str, out: Path | str | None, type: str, **options: Unpack[Options]
) -> QuantizationPlan:
    """Read everything but the weights; arguments and errors are those of `quantize_file`."""
    preset = None if type.lower() == COPY else find_preset(type)
    file, inputs = GGUFFile.open(source), Inputs()
    for mapping in file.mappings:
        inputs.note(mapping.path, mapping.state)
    metadata, changes = _metadata(file), dict(options.get("override_kv", {}))
    facts = Facts.from_metadata(metadata | changes)
    pruned = frozenset(options.get("prune_layers", ()))
    check_layers(pruned, facts.layers)
    names = _names(file, pruned, keep_split=options.get("keep_split", False))
    sources = [replace(file.tensors[old].source(), name=new) for old, new in names.items()]
    matrix = _matrix(options, inputs)
    if preset is None:
        planned = [kept(tensor) for tensor in sources]
    else:
        planned = plan_tensors(sources, facts, _request(preset, options, _renamed(matrix, names)))
        # What an earlier matrix did is not true of these blocks.
        metadata = {key: value for key, value in metadata.items() if not key.startswith("quantize.imatrix.")}
        metadata = quantized_metadata(metadata, preset)
        changes |= matrix.metadata() if matrix else {}
    metadata = with_entries(metadata, changes)
    if pruned:
        metadata = pruned_metadata(metadata, facts.architecture, pruned, facts.layers)
    shards = None
    if options.get("keep_split", False):
        shards = list(Counter(file.tensors[name].file for name in names).values())
    label = COPY.upper() if preset is None else preset.name
    path = Path(source).with_name(f"ggml-model-{label}.gguf") if out is None else Path(out)
    return QuantizationPlan(path, metadata, planned, shards, inputs)


def _metadata(file: GGUFFile) -> Metadata:
    """What is copied; shards and padding are the new file's own."""
    left_out = (ALIGNMENT, *SPLIT_TYPES)
    return {
        key: Typed(value, file.value_types[key])
        for key, value in file.metadata.items()
        if key not in left_out
    }


def _names(file: GGUFFile, pruned: frozenset[int], *, keep_split: bool) -> dict[str, str]:
    """The tensors that stay, old name to new, in the order of the output."""
    names = {old: new for old in file.tensors if (new := pruned_name(old, pruned)) is not None}
    return names if keep_split else dict(sorted(names.items(), key=lambda pair: visiting_order(pair[1])))


def _matrix(options: Options, inputs: Inputs) -> ImportanceMatrix | None:
    include, exclude = options.get("include_weights", ()), options.get("exclude_weights", ())
    if include and exclude:
        raise FormatError(
            "entries of the importance matrix can be included or excluded, not both; choose one"
        )
    path = options.get("imatrix")
    if path is None:
        return None
    if isinstance(path, ImportanceMatrix):
        return path.only(include, exclude)
    inputs.note(Path(path))
    return ImportanceMatrix.read(path).only(include, exclude)


def _renamed(matrix: ImportanceMatrix | None, names: Mapping[str, str]) -> ImportanceMatrix | None:
    """The matrix under the names of the output."""
    if matrix is None or all(old == new for old, new in names.items()):
        return matrix
    entries = {names[old]: values for old, values in matrix.entries.items() if old in names}
    return replace(matrix, entries=entries)


def _request(preset: Preset, options: Options, matrix: ImportanceMatrix | None) -> Request:
    pairs = options.get("tensor_type", ())
    overrides = Overrides(
        pure=options.get("pure", False),
        output=_type(options.get("output_tensor_type")),
        embedding=_type(options.get("token_embedding_type")),
        by_pattern=tuple((_pattern(text), GGMLType.named(type)) for text, type in pairs),
        leave_output=options.get("leave_output_tensor", False),
    )
    return Request(
        preset,
        overrides,
        matrix,
        options.get("search", "reference"),
        options.get("allow_requantize", False),
        options.get("threads"),
    )


def _type(name: str | None) -> GGMLType | None:
    return None if name is None else GGMLType.named(name)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as exc:
        raise FormatError(f"'{text:.60}' is not a regular expression: {exc}") from exc
