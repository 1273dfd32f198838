"""A Hugging Face checkpoint becomes a GGUF file: plan first, then write tensor by tensor."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ggufpy import architectures
from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.convert.general import general_metadata
from ggufpy.convert.modules import MODULE_FOLDERS, read_modules
from ggufpy.convert.packed import Origin, described, numbers_of
from ggufpy.convert.placing import Converted, with_predicting_layers
from ggufpy.convert.rerankers import answers, template_keys
from ggufpy.convert.vocabulary.chat_templates import MORE_TEMPLATES
from ggufpy.convert.vocabulary.differences import differences
from ggufpy.convert.vocabulary.reading import check_vocabulary, read_vocabulary
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.inputs import Inputs
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.gguf.writer import file_sizes, write_gguf
from ggufpy.quants import quantized, unblocked
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.planning import (
    Planned,
    Request,
    finite,
    plan_tensors,
    quantized_metadata,
    with_entries,
)
from ggufpy.quants.choice.presets import PRESETS, Preset, find_preset
from ggufpy.quants.choice.recipe import Decision, Facts, converter_type, visiting_order

OUTTYPES = ("auto", *(preset.label for preset in PRESETS))


def convert_checkpoint(
    checkpoint: Path | str,
    out: Path | str | None = None,
    *,
    outtype: str = "auto",
    imatrix: Path | str | None = None,
    vocab_only: bool = False,
    split_max_size: int | None = None,
    on_progress: Callable[[TensorSource, int], None] | None = None,
) -> list[Path]:
    """Convert the checkpoint in a folder and return the files written: one, or several if it is split.

    out: the file, or a folder for one with the default name; by default a file within the checkpoint's
    folder, or in the working folder if that one lies in Hugging Face's cache. outtype: one of OUTTYPES, or
    another name of such a preset; "auto" keeps bf16 or f16 weights as they are, and makes f16 of others. A
    type of blocks gives what converting to f32 and `quantize_file` give. Of weights that others had quantized
    "auto" keeps the blocks that they were repacked to; another type decodes them first.
    imatrix: file of an importance matrix, for types of blocks. split_max_size: bytes of a file. on_progress
    is told of each slab: its tensor, and the bytes written.
    Raises FormatError for checkpoints that are damaged or incomplete, UnsupportedModelError for what ggufpy
    does not know, TokenizerError for vocabularies; then no file is left, and an old one of that name is
    untouched.
    """
    plan = plan_conversion(checkpoint, out, outtype=outtype, imatrix=imatrix, vocab_only=vocab_only)
    return plan.write(split_max_size=split_max_size, on_progress=on_progress)


# Of files of a checkpoint that may be read.
READ_ENDINGS = (
    *(".json", ".safetensors", ".bin", ".pth"),
    *(".model", ".v3", ".tiktoken", ".txt", ".jinja", ".md"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be in the file; no weights are read yet, but for those of two heads that may be one.

    notes: what whoever converts should know, a line each. origin: of weights that others had quantized.
    """

    folder: Path
    path: Path
    metadata: dict[str, Value | Typed]
    planned: list[Planned]
    inputs: Inputs
    notes: list[str]
    origin: Origin

    @property
    def tensors(self) -> list[TensorSource]:
        """As they will be written."""
        return [each.tensor for each in self.planned]

    def sizes(self, split_max_size: int | None = None) -> dict[Path, int]:
        """The files to be written, and their bytes."""
        return file_sizes(self.path, self.metadata, self.tensors, split_max_size=split_max_size)

    def of_packed(self) -> list[str]:
        """What became of weights that others had quantized, a line each; with errors once all is written."""
        return list(self.origin.summary(self.planned))

    def write(
        self,
        *,
        split_max_size: int | None = None,
        on_progress: Callable[[TensorSource, int], None] | None = None,
    ) -> list[Path]:
        """Check the vocabulary against the checkpoint's tokenizer, and write; returns the files."""
        check_vocabulary(self.folder, self.metadata)
        return write_gguf(
            self.path,
            self.metadata,
            self.tensors,
            split_max_size=split_max_size,
            inputs=self.inputs,
            on_progress=on_progress,
        )


def plan_conversion(
    checkpoint: Path | str,
    out: Path | str | None = None,
    *,
    outtype: str = "auto",
    imatrix: Path | str | None = None,
    vocab_only: bool = False,
) -> Plan:
    """Read everything but the weights; arguments and errors are those of `convert_checkpoint`."""
    inputs = Inputs()
    for folder in (
        Path(checkpoint),
        Path(checkpoint, MORE_TEMPLATES),
        *Path(checkpoint).glob(MODULE_FOLDERS),
    ):
        if folder.is_dir():
            inputs.note_folder(folder, READ_ENDINGS)
    opened = Checkpoint.open(Path(checkpoint), weights=not vocab_only)
    name = _architecture_name(opened)
    architecture = architectures.architecture(name)
    is_auto = outtype.lower() == "auto"
    preset = _auto(opened) if is_auto else find_preset(outtype)
    vocabulary = read_vocabulary(opened.folder, opened.config)
    tokens = _tokens(vocabulary)
    config = with_predicting_layers(text_config(opened.config), opened.tensors) | answers(opened, tokens)
    dense = "dense_2" in architecture.NAMES
    modules = read_modules(opened.folder, dense=dense, weights=not vocab_only)
    keys = {**_causal(config), **modules.keys, **architecture.metadata(config)}
    if "classifier.output_labels" in keys:
        vocabulary |= template_keys(opened, vocabulary)
    model = Converted(name, architecture, config, keys, len(tokens), opened.folder / "config.json")
    floats, tensors = numbers_of(opened.packed), {**opened.tensors, **modules.tensors}
    if not is_auto:
        tensors |= {name: x for name, x in floats.items() if tensors[name].type is not preset.type}
    sources = [] if vocab_only else model.place(tensors, floats)
    metadata = {
        **general_metadata(opened, name, sources),
        **{f"{name}.{key}": value for key, value in keys.items()},
        **_token_types(config),
        **vocabulary,
    }
    origin = Origin(opened.packed, model.parts)
    if opened.packed and preset.is_float and not is_auto:
        sources = list(map(unblocked, sources))
    sources = list(map(origin.watched, sources))
    label = described(preset, sources) if preset.is_float else preset
    metadata = quantized_metadata(metadata, label)
    if preset.is_float:
        planned = _as_floats(sources, preset.type)
    else:
        matrix = None
        if imatrix is not None:
            inputs.note(Path(imatrix))
            matrix = ImportanceMatrix.read(imatrix)
            metadata = with_entries(metadata, matrix.metadata())
        request = Request(preset, matrix=matrix, allow_requantize=opened.packed is not None)
        planned = _in_blocks(sources, Facts.from_metadata(metadata), request)
    path = _output_path(opened, out, "vocab" if vocab_only else (label if opened.packed else preset).label)
    notes = [*model.notes, *modules.notes, *differences(vocabulary), *_notes(opened)]
    planned = list(map(origin.measured, planned))
    return Plan(opened.folder, path, metadata, planned, inputs, notes, origin)


def _as_floats(sources: Sequence[TensorSource], type: GGMLType) -> list[Planned]:
    """Blocks stay as they are, they would only grow, but for tensors that are of f32 in every file."""
    sources = [
        unblocked(source)
        if converter_type(source.name, source.shape, GGMLType.F16) is GGMLType.F32
        else source
        for source in sources
    ]
    types = [
        source.type if source.type.block_size > 1 else converter_type(source.name, source.shape, type)
        for source in sources
    ]
    return [
        Planned(source, _in_floats(source, type), Decision(type, type))
        for source, type in zip(sources, types, strict=True)
    ]


def _in_floats(source: TensorSource, type: GGMLType) -> TensorSource:
    """No type can hold NaN or Inf so that a network computes anything with them."""
    return quantized(finite(source), type)


def _in_blocks(sources: Sequence[TensorSource], facts: Facts, request: Request) -> list[Planned]:
    """As from a file of f32; what that keeps stays f32 here."""
    ordered = sorted(sources, key=lambda source: visiting_order(source.name))
    for source in ordered:
        is_other = source.type.block_size > 1 and source.type is not request.preset.type
        if is_other and not request.allow_requantize:
            problem = f"is {source.type.label} already, and quantizing it again adds to its errors"
            remedy = f"choose auto or {source.type.label}, which keep it"
            raise UnsupportedModelError(f"tensor '{source.name}' {problem}; {remedy}")
    return [
        replace(each, tensor=quantized(unblocked(each.tensor), GGMLType.F32))
        if each.decision.type is None
        else each
        for each in plan_tensors(ordered, facts, request)
    ]


def _architecture_name(checkpoint: Checkpoint) -> str:
    path = checkpoint.folder / "config.json"
    classes = checkpoint.config.get("architectures")
    if not isinstance(classes, list) or not classes or not isinstance(classes[0], str):
        raise FormatError(f"{path}: names no model class in 'architectures'")
    try:
        return architectures.name_for_class(classes[0], text_config(checkpoint.config))
    except UnsupportedModelError as exc:
        raise UnsupportedModelError(f"{path}: {exc}") from None


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the language model within one that sees or hears; ties are said outside of it."""
    inner = config.get("text_config")
    ties = {key: value for key, value in config.items() if key == "tie_word_embeddings"}
    return {**config, **(inner if isinstance(inner, dict) else {}), **ties}


def _token_types(config: Mapping[str, Any]) -> dict[str, Value | Typed]:
    """How many kinds of tokens an encoder tells apart, as of a first and a second text."""
    count = config.get("type_vocab_size")
    return {"tokenizer.ggml.token_type_count": count} if isinstance(count, int) and count > 0 else {}


def _causal(config: Mapping[str, Any]) -> dict[str, Value | Typed]:
    """That tokens see later ones, in a language model that was made an encoder."""
    return {"attention.causal": False} if config.get("is_causal") is False else {}


def _tokens(vocabulary: Mapping[str, Value | Typed]) -> Sequence[str]:
    tokens = vocabulary["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    return cast(list[str], tokens)


def _auto(checkpoint: Checkpoint) -> Preset:
    halves = (GGMLType.BF16, GGMLType.F16)
    matrices = (tensor for tensor in checkpoint.tensors.values() if len(tensor.shape) > 1)
    type = next((tensor.type for tensor in matrices if tensor.type in halves), GGMLType.F16)
    return find_preset(type.label)


def _output_path(checkpoint: Checkpoint, out: Path | str | None, label: str) -> Path:
    """Where the file goes: by default within the folder, but not into the cache of Hugging Face."""
    default = f"{checkpoint.name}-{label}.gguf"
    if out is not None:
        return Path(out) / default if Path(out).is_dir() else Path(out)
    if checkpoint.repository:
        return Path(default)
    if not os.access(checkpoint.folder, os.W_OK):
        raise FormatError(f"{checkpoint.folder}: no file can be written there; name another place with -o")
    return checkpoint.folder / default


def _notes(checkpoint: Checkpoint) -> list[str]:
    base = checkpoint.adapts
    about = f"the adapter of {base} beside the weights is not part of the file; merge it first if you want it"
    return [] if base is None else [about]
