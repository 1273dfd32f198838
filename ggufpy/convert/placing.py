"""A checkpoint's tensors become those of a GGUF file: placed by name, checked by tracing the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ggufpy.architectures import Architecture, Names, Place, Way, ways
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.values import Typed, Value
from ggufpy.graph import Graph
from ggufpy.graph.messages import Messages

# How names begin in some checkpoints, where the tables have the first: bare models, those within others, and
# what training tools put around them.
_BEGINNINGS = (
    ("", ""),
    ("model.", ""),
    ("model.", "model.language_model."),
    *(("", around) for around in ("language_model.", "model.", "base_model.model.", "_orig_mod.", "module.")),
)

# Buffers of old checkpoints, which follow from the configuration; parts of models that see and hear.
_NOT_NEEDED_ENDS = (".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached")
_NOT_NEEDED_STARTS = tuple(
    f"{around}{part}."
    for around in ("", "model.")
    for part in ("vision_tower", "vision_model", "audio_tower", "multi_modal_projector", "visual")
)


@dataclass(frozen=True, slots=True)
class Converted:
    """What tracing needs to know of a file that is yet to be written.

    name: of the architecture. keys: its metadata, without prefix. tokens: how many the vocabulary has. where:
    the configuration's file.
    """

    name: str
    architecture: Architecture
    config: Mapping[str, Any]
    keys: Mapping[str, Value | Typed]
    tokens: int
    where: Path

    def place(self, tensors: Mapping[str, TensorSource]) -> list[TensorSource]:
        """All tensors of the file, from those of the checkpoint, in the order of the table of names.

        Raises FormatError for a tensor that is missing or has another shape than the metadata says,
        UnsupportedModelError for one that has no place.
        """
        place = Place(self.config, self.keys, self.tokens)
        tied = bool(self.config.get("tie_word_embeddings"))
        placing = _Placing(self.architecture.NAMES, tensors, place, tied)
        messages = CheckpointMessages(str(self.where), self.name, tensors, placing.asked)
        for name in ("token_embd.weight", "output.weight"):
            matrix = placing.placed.get(name)
            if matrix is not None and matrix.shape[0] != self.tokens:
                raise messages.misshapen(name, matrix.shape, (self.tokens, *matrix.shape[1:]))
        graph = Graph.trace(self._metadata(), placing.placed, str(self.where), messages)
        self.architecture.forward(graph)
        graph.check_all_used()
        placing.check_all_placed()
        return list(placing.placed.values())

    def _metadata(self) -> dict[str, Any]:
        values = {key: value.value if isinstance(value, Typed) else value for key, value in self.keys.items()}
        return {
            "general.architecture": self.name,
            **{f"{self.name}.{key}": value for key, value in values.items()},
        }


@dataclass
class _Placing:
    """Going through the table of names.

    placed: the file's tensors by name. asked: what the checkpoint calls the parts of each, for the way of
    which most are there.
    """

    names: Names
    tensors: Mapping[str, TensorSource]
    place: Place
    tied: bool
    placed: dict[str, TensorSource] = field(default_factory=dict)
    asked: dict[str, list[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ours, self.theirs = self._beginning()
        for entry, layer in _in_order(self.names, self.place.count("block_count")):
            for way in ways(self.names[entry]):
                for part in ("",) if way.whole else ("weight", "bias"):
                    self._put(entry, way, replace(self.place, layer=layer, part=part))

    def _put(self, entry: str, way: Way, place: Place) -> None:
        name = place.filled(entry)
        parts = [self._spelt(part) for part in way.names(place)]
        if self._found(parts) > self._found(self.asked.setdefault(name, parts)):
            self.asked[name] = parts
        if name in self.placed or self._found(parts) < len(parts):
            return
        if entry == "output" and self.tied:
            self.used.update(parts)
            return
        source = way.make(place, [self.tensors[part] for part in parts])
        if source is not None:
            self.placed[name] = replace(source, name=name)
            self.asked[name] = parts
            self.used.update(parts)

    def _found(self, parts: Sequence[str]) -> int:
        return sum(part in self.tensors for part in parts)

    def _beginning(self) -> tuple[str, str]:
        """How names of this checkpoint begin, in place of what: so that most of the table's are there."""
        place = replace(self.place, part="weight")
        known = [name for entry in self.names.values() for way in ways(entry) for name in way.names(place)]

        return max(_BEGINNINGS, key=lambda pair: self._found([_respelt(name, *pair) for name in known]))

    def _spelt(self, name: str) -> str:
        return _respelt(name, self.ours, self.theirs)

    def check_all_placed(self) -> None:
        """Raise UnsupportedModelError for a tensor of the checkpoint that the table does not know."""
        for name in self.tensors:
            if name not in self.used and not _is_not_needed(name):
                raise _no_place(name)


def _in_order(names: Names, layers: int) -> Iterator[tuple[str, int]]:
    """The entries of a table, those of layers where the first of them stands, one layer after the other."""
    of_layers = [entry for entry in names if "{i}" in entry]
    for entry in names:
        if "{i}" not in entry:
            yield entry, 0
        elif entry == of_layers[0]:
            yield from ((each, layer) for layer in range(layers) for each in of_layers)


def _respelt(name: str, ours: str, theirs: str) -> str:
    return theirs + name.removeprefix(ours) if name.startswith(ours) else name


def _is_not_needed(name: str) -> bool:
    return name.endswith(_NOT_NEEDED_ENDS) or name.startswith(_NOT_NEEDED_STARTS)


def _no_place(name: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"tensor '{name:.80}' has no place in this architecture as ggufpy knows it")


@dataclass(frozen=True, slots=True)
class CheckpointMessages(Messages):
    """Errors about the tensors of a checkpoint, under their names there."""

    tensors: Mapping[str, TensorSource]
    asked: Mapping[str, Sequence[str]]

    def named(self, name: str) -> str:
        """The first of the checkpoint's tensors that make one of the file."""
        return f"tensor '{self._first(name)}'"

    def missing(self, name: str) -> FormatError:
        """Names the first part that is not there."""
        parts = self.asked.get(name, ())
        missing = next((part for part in parts if part not in self.tensors), name)
        return FormatError(f"tensor '{missing}' is missing from the checkpoint; download it again")

    def misshapen(self, name: str, found: tuple[int, ...], wanted: Sequence[int | str]) -> FormatError:
        """Says of what they are made, where the checkpoint's do not stay as they are."""
        parts = self.asked.get(name, ())
        subject = self.named(name)
        if len(parts) != 1 or self.tensors[parts[0]].shape != found:
            others = f" and {len(parts) - 1} others" if len(parts) > 1 else ""
            subject = f"'{name}', made of {subject}{others},"
        asked = f"config.json asks for {tuple(wanted)}"
        return FormatError(f"{subject} has shape {found}, {asked}; they do not belong together")

    def unused(self, names: Sequence[str]) -> UnsupportedModelError:
        """The table knows it, but not a network of this configuration."""
        return _no_place(self._first(names[0]))

    def _first(self, name: str) -> str:
        return next(iter(self.asked.get(name, ())), name)
