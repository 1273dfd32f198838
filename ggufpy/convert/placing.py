"""A checkpoint's tensors become those of a GGUF file: placed by name, checked by tracing the network."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ggufpy.architectures import Architecture, Names, Place, Way, not_needed, ways
from ggufpy.convert.messages import CheckpointMessages, no_place
from ggufpy.errors import FormatError
from ggufpy.gguf import sources
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.values import Typed, Value
from ggufpy.graph import Graph
from ggufpy.quants import unblocked

# Buffers of old checkpoints, which follow from the configuration; parts of models that see and hear.
_NOT_NEEDED_ENDS = (
    *(".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached"),
    *(".position_ids", ".masked_bias", ".attn.bias", ".attention.bias"),
)
_NOT_NEEDED_STARTS = tuple(
    f"{around}{part}."
    for around in ("", "model.")
    for part in (
        *("vision_tower", "vision_model", "audio_tower", "multi_modal_projector", "visual"),
        *("embed_vision", "embed_audio", "mm_projector"),
    )
)

# Counts that the names of tensors show: our key, what is counted, where a name has its number.
_NUMBERED = (
    ("block_count", "num_hidden_layers", re.compile(r"\blayers?\.(\d{1,6})\.")),
    ("expert_count", "the number of experts", re.compile(r"\bexperts\.(\d{1,6})\.")),
)

# Layers that predict tokens after the next one, where they have names of their own.
_PREDICTING = re.compile(r"\bmtp\.layers\.(\d{1,6})\.")

# What training and serving leave beside a language model's own tensors: left out, with a note.
_BESIDE = re.compile(
    r"(^|\.)(v_head\..*|(k|v|kv|q|prob|output)_scale|parametrizations\.weight\.\d+\.lora_[AB])$"
)


def with_predicting_layers(config: Mapping[str, Any], tensors: Collection[str]) -> dict[str, Any]:
    """The configuration with as many layers for tokens after the next one as there are tensors of.

    What it says itself is no evidence: transformers saves the number, and not the layers.
    """
    there, said = _counted(_PREDICTING, tensors), config.get("num_hidden_layers")
    promised = config.get("num_nextn_predict_layers") or 0
    if not isinstance(promised, int):
        problem = f"num_nextn_predict_layers is {promised!r:.40}, it must be a whole number"
        raise FormatError(f"config.json: {problem}")
    if not there and promised and isinstance(said, int):
        there = max(_counted(_NUMBERED[0][2], tensors) - said, 0)
    return {**config, "num_nextn_predict_layers": there}


def _counted(pattern: re.Pattern[str], names: Collection[str]) -> int:
    """One more than the largest number that a pattern finds in names."""
    ours = (name for name in names if not _is_not_needed(name))
    return 1 + max((int(match[1]) for name in ours if (match := pattern.search(name))), default=-1)


@dataclass(frozen=True, slots=True)
class Converted:
    """What tracing needs to know of a file that is yet to be written.

    name: of the architecture. keys: its metadata, without prefix. tokens: how many the vocabulary has. where:
    the configuration's file. Once tensors are placed: notes, what whoever converts should know; parts, the
    names in the checkpoint of what each tensor is made of.
    """

    name: str
    architecture: Architecture
    config: Mapping[str, Any]
    keys: Mapping[str, Value | Typed]
    tokens: int
    where: Path
    notes: list[str] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)

    def place(
        self, tensors: Mapping[str, TensorSource], floats: Mapping[str, TensorSource] | None = None
    ) -> list[TensorSource]:
        """All tensors of the file, from those of the checkpoint, in the order of the table of names.

        floats: the numbers of those whose blocks alone do not have them, or have them nearly only.
        Raises FormatError for a tensor that is missing or has another shape than the metadata says,
        UnsupportedModelError for one that has no place.
        """
        self._check_layers(tensors)
        place = Place(self.config, self.keys, self.tokens)
        placing = _Placing(
            self.architecture.NAMES, tensors, place, not_needed(self.architecture), floats or {}
        )
        placing.tie(self.config.get("tie_word_embeddings"), str(self.where))
        messages = CheckpointMessages(str(self.where), self.name, tensors, placing.asked)
        for name, rows in (
            ("token_embd.weight", self.tokens),
            ("output.weight", self.tokens),
            ("token_types.weight", self.config.get("type_vocab_size")),
        ):
            matrix = placing.placed.get(name)
            if matrix is not None and matrix.shape[0] != rows and isinstance(rows, int):
                raise messages.misshapen(name, matrix.shape, (rows, *matrix.shape[1:]))
        graph = Graph.trace(self._metadata(), placing.placed, str(self.where), messages)
        self.architecture.forward(graph)
        if unread := placing.unread_scales(graph.used):
            return self.place({**tensors, **unread}, floats)
        graph.check_all_used()
        self.notes.extend(placing.left_out())
        self.parts.update((name, placing.asked[name]) for name in placing.placed)
        return list(placing.placed.values())

    def _check_layers(self, tensors: Mapping[str, TensorSource]) -> None:
        """A number of layers, or of experts, that the files do not have: neither is made a list of."""
        for key, theirs, pattern in _NUMBERED:
            value = self.keys.get(key)
            said = value if isinstance(value, int) else 0
            there = _counted(pattern, tensors)
            predicting = self.keys.get("nextn_predict_layers", 0)
            if key == "block_count" and _counted(_PREDICTING, tensors) and isinstance(predicting, int):
                there += predicting
            if said and there and said != there:
                problem = f"{theirs} is {said}, the checkpoint's tensors are of {there}"
                raise FormatError(
                    f"{self.where}: {problem}; they do not belong together, or parts are missing"
                )

    def _metadata(self) -> dict[str, Any]:
        values = {key: value.value if isinstance(value, Typed) else value for key, value in self.keys.items()}
        return {
            "general.architecture": self.name,
            **{f"{self.name}.{key}": value for key, value in values.items()},
        }


@dataclass
class _Placing:
    """Going through the table of names.

    not_needed: how tensors begin that have no place. floats: in place of blocks. placed: the file's tensors
    by name. asked: what the checkpoint calls the parts of each, for the way of which most are there.
    """

    names: Names
    tensors: Mapping[str, TensorSource]
    place: Place
    not_needed: Sequence[str] = ()
    floats: Mapping[str, TensorSource] = field(default_factory=dict)
    placed: dict[str, TensorSource] = field(default_factory=dict)
    asked: dict[str, list[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ours, self.theirs = self._beginning()
        for entry, layer in _in_order(self.names, self.place.count("block_count")):
            for way in ways(self.names[entry]):
                for part in ("",) if way.whole else ("weight", "bias", "scale"):
                    place = replace(self.place, layer=layer, part=part)
                    if part != "scale" or self._needs_scale(entry, way, place):
                        self._put(entry, way, place)

    def _put(self, entry: str, way: Way, place: Place) -> None:
        name = place.filled(entry)
        parts = [self._spelt(part) for part in way.names(place)]
        if self._found(parts) > self._found(self.asked.setdefault(name, parts)):
            self.asked[name] = parts
        if name in self.placed or self._found(parts) < len(parts):
            return
        found = [_whole(self.tensors[part]) for part in parts]
        try:
            source = way.make(place, found)
        except sources.OfBlocksError:  # numbers of blocks cannot be moved, nor changed, one by one
            source = way.make(place, [self.floats.get(each.name) or unblocked(each) for each in found])
        self.used.update(parts)
        if source is not None:
            self.placed[name] = replace(source, name=name)
            self.asked[name] = parts

    def _needs_scale(self, entry: str, way: Way, place: Place) -> bool:
        """Whether weights have a factor beside their blocks; their floats are multiplied by it already."""
        weights = [self._spelt(part) for part in way.names(replace(place, part="weight"))]
        if not weights or not all(name in self.floats for name in weights):
            return False
        placed = self.placed.get(replace(place, part="weight").filled(entry))
        if placed is not None and placed.type.block_size == 1:
            self.used.update(map(self._spelt, way.names(place)))
            return False
        return True

    def unread_scales(self, used: Collection[str]) -> dict[str, TensorSource]:
        """Floats of weights whose factors no linear reads; rows of embeddings are taken as they are."""
        scales = {name for name in self.placed if name.endswith(".scale")}
        unread = scales.difference(used) | scales.intersection({"token_embd.scale"})
        weights = [self.asked.get(f"{name.removesuffix('.scale')}.weight", ()) for name in unread]
        return {part: self.floats[part] for parts in weights for part in parts if part in self.floats}

    def _found(self, parts: Sequence[str]) -> int:
        return sum(part in self.tensors for part in parts)

    def tie(self, tied: Any, where: str) -> None:
        """Make one of two heads: that of a tied model is its embedding, which stands under either name.

        A head of its own counts, whatever the configuration says. Raises FormatError if there has to be one.
        """
        head, embedding = self.placed.get("output.weight"), self.placed.get("token_embd.weight")
        if tied not in (None, True, False):
            raise FormatError(f"{where}: tie_word_embeddings is {tied!r:.40}, it must be true or false")
        if tied is not False and head and embedding is None:
            self.asked["token_embd.weight"] = self.asked["output.weight"]
            self.placed = {"token_embd.weight": replace(head, name="token_embd.weight"), **self.placed}
            del self.placed["output.weight"]
        elif tied and head and embedding and sources.are_equal(head, embedding):
            del self.placed["output.weight"]
        elif tied is False and head is None and embedding and "output" in self.names and not self.is_bare:
            missing = next(iter(self.asked["output.weight"]), "output.weight")
            problem = f"tie_word_embeddings is false, and the checkpoint has no '{missing}'"
            remedy = "download the checkpoint again, or set it to true if the model was trained tied"
            raise FormatError(f"{where}: {problem}; {remedy}")

    @property
    def is_bare(self) -> bool:
        """Whether the checkpoint is of a model that was saved without a head."""
        return self.ours != "" and self.theirs == ""

    def _beginning(self) -> tuple[str, str]:
        """How names of this checkpoint begin, in place of what: so that most of the table's are there.

        Bare models, those within others, and training tools have other beginnings; which, the tensors outside
        of layers show. In its place is what tensors of layers begin with, or nothing.
        """
        known = {entry: self._known(entry) for entry in self.names}
        of_layers = [name for entry, names in known.items() if "{" in entry for name in names]
        pairs = {("", "")}
        for name in chain.from_iterable(names for entry, names in known.items() if "{" not in entry):
            first = name[: name.find(".") + 1]
            for ours in {"", first if any(each.startswith(first) for each in of_layers) else ""}:
                ending = name.removeprefix(ours)
                found = (other.removesuffix(ending) for other in self.tensors if other.endswith(ending))
                pairs |= {(ours, theirs) for theirs in found if not theirs or theirs.endswith(".")}
        every = list(chain.from_iterable(known.values()))

        def fit(pair: tuple[str, str]) -> tuple[int, int, tuple[str, str]]:
            return self._found([_respelt(name, *pair) for name in every]), -len("".join(pair)), pair

        return max(pairs, key=fit)

    def _known(self, entry: str) -> list[str]:
        place = replace(self.place, part="weight")
        return [name for way in ways(self.names[entry]) for name in way.names(place)]

    def _spelt(self, name: str) -> str:
        return _respelt(name, self.ours, self.theirs)

    def left_out(self) -> list[str]:
        """Notes about tensors that are known not to matter; raises UnsupportedModelError for other ones."""
        beginnings = tuple(map(self._spelt, self.not_needed))
        names = [
            name
            for name in self.tensors
            if name not in self.used and not _is_not_needed(name) and not name.startswith(beginnings)
        ]
        for name in names:
            if not _BESIDE.search(name):
                raise no_place(name)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return [f"tensor '{names[0]:.80}'{more} left out: no part of the language model"] if names else []


def _in_order(names: Names, layers: int) -> Iterator[tuple[str, int]]:
    """The entries of a table, those of layers where the first of them stands, one layer after the other."""
    of_layers = [entry for entry in names if "{i}" in entry]
    for entry in names:
        if "{i}" not in entry:
            yield entry, 0
        elif entry == of_layers[0]:
            yield from ((each, layer) for layer in range(layers) for each in of_layers)


def _whole(source: TensorSource) -> TensorSource:
    """The tensor; raises FormatError if there is no number in it: its other sides would mean nothing."""
    if 0 in source.shape:
        raise FormatError(f"tensor '{source.name}' has shape {source.shape}, no numbers; download it again")
    return source


def _respelt(name: str, ours: str, theirs: str) -> str:
    return theirs + name.removeprefix(ours) if name.startswith(ours) else name


def _is_not_needed(name: str) -> bool:
    return name.endswith(_NOT_NEEDED_ENDS) or name.startswith(_NOT_NEEDED_STARTS)
