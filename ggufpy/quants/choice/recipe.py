"""Which type each tensor gets: the rule of llama-quantize, from names and shapes alone.

Source: llama.cpp src/llama-quant.cpp of October 2026. Where that skips the fallback for rows which blocks do
not divide, this does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ggufpy.errors import FormatError, ShapeError
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.quants.choice import mixtures
from ggufpy.quants.choice.mixtures import Place, Role, Rule
from ggufpy.quants.choice.presets import Preset

_LAYER = re.compile(r"blk\.(\d+)\.")
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rule must know of a model; heads are those of layer 0, layers include those of MTP."""

    architecture: str
    layers: int
    heads: int = 0
    kv_heads: int = 0
    experts: int = 0

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Value | Typed]) -> Facts:
        """Read them from a file's metadata; raises FormatError if they are not numbers."""

        def plain(key: str, default: Value) -> Value:
            value = metadata.get(key, default)
            return value.value if isinstance(value, Typed) else value

        def number(key: str, default: int) -> int:
            value = plain(f"{architecture}.{key}", default)
            first = (value[0] if value else default) if isinstance(value, list) else value
            if not isinstance(first, int) or first < 0:
                raise FormatError(f"metadata '{architecture}.{key}' is {first!r:.40}, it must be a number")
            return first

        architecture = plain("general.architecture", "")
        if not isinstance(architecture, str) or not architecture:
            raise FormatError("metadata 'general.architecture' is missing; is this a model?")
        heads = number("attention.head_count", 0)
        kv_heads = number("attention.head_count_kv", heads)
        return cls(architecture, number("block_count", 0), heads, kv_heads, number("expert_count", 0))

    @property
    def gqa(self) -> int:
        """Query heads per KV head."""
        return self.heads // self.kv_heads if self.kv_heads else 0

    @property
    def is_70b(self) -> bool:
        """Whether many query heads share one small V, as in Llama 2 70B: its precision costs little."""
        if self.architecture == "llama":
            return self.layers == 80 and self.heads != self.kv_heads and self.experts != 8
        return (self.architecture, self.layers) in (("qwen2", 80), ("deci", 80), ("olmo", 80), ("jais2", 68))


@dataclass(frozen=True, slots=True)
class Overrides:
    """What is asked for beside a preset.

    pure: no mixture. output, embedding: types of these tensors. by_pattern: (regular expression, type), the
    first that is found in a name counts. leave_output: output.weight stays as it is.
    """

    pure: bool = False
    output: GGMLType | None = None
    embedding: GGMLType | None = None
    by_pattern: tuple[tuple[re.Pattern[str], GGMLType], ...] = ()
    leave_output: bool = False

    def for_name(self, name: str) -> GGMLType | None:
        """The type that a pattern gives to a tensor."""
        return next((type for pattern, type in self.by_pattern if pattern.search(name)), None)


NO_OVERRIDES = Overrides()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a tensor becomes: `type`, or None where it stays as it is.

    wanted: another type than `type` where the blocks of `wanted` do not divide its rows.
    """

    type: GGMLType | None
    wanted: GGMLType | None

    @property
    def is_fallback(self) -> bool:
        """Whether the tensor could not have the type that it should."""
        return self.type is not self.wanted


def layer_of(name: str) -> int | None:
    """The layer that a tensor belongs to, by its name."""
    match = _LAYER.match(name)
    return int(match[1]) if match else None


def visiting_order(name: str) -> tuple[int, str]:
    """Key that sorts tensors as llama-quantize writes them: by layer, those of none first, then by name."""
    layer = layer_of(name)
    return (-1 if layer is None else layer, name)


def converter_type(name: str, shape: tuple[int, ...], type: GGMLType) -> GGMLType:
    """The type of a tensor in a converted file of floats: vectors, norms and such are F32, others `type`."""
    if len(shape) < 2 or not name.endswith(".weight") or name.endswith(mixtures.F32_IN_FLOATS):
        return GGMLType.F32
    return type


def choose_types(
    facts: Facts,
    tensors: Sequence[tuple[str, tuple[int, ...]]],
    preset: Preset,
    overrides: Overrides = NO_OVERRIDES,
    *,
    calibrated: bool = False,
) -> list[Decision]:
    """What each of `tensors`, names with shapes in the order of the file, becomes.

    calibrated: there is an importance matrix. Raises ShapeError for a row that neither the type's blocks nor
    others that may stand in for it divide, FormatError for experts outside of the model's layers.
    """
    rule = _Chooser(facts, [name for name, _ in tensors], preset, overrides, calibrated)
    return [rule.decide(name, shape) for name, shape in tensors]


class _Chooser:
    """The rule while it goes through a file: some choices depend on how many tensors came before."""

    def __init__(
        self, facts: Facts, names: Sequence[str], preset: Preset, overrides: Overrides, calibrated: bool
    ) -> None:
        self._facts, self._preset, self._overrides = facts, preset, overrides
        self._calibrated = calibrated
        self._tied = "output.weight" not in names
        self._values = sum(_role(name) is Role.V for name in names)
        self._seen: Counter[Role] = Counter()
        self._rules = _rules(facts, preset)

    def decide(self, name: str, shape: tuple[int, ...]) -> Decision:
        if self._is_kept(name, shape):
            return Decision(None, None)
        wanted = self._wanted(name, shape)
        return Decision(_fitting(name, wanted, shape[-1]), wanted)

    def _is_kept(self, name: str, shape: tuple[int, ...]) -> bool:
        vector = all(n == 1 for n in shape[:-1])
        parts = mixtures.KEPT + mixtures.KEPT_IN.get(self._facts.architecture, ())
        return (
            vector
            or not name.endswith("weight")
            or name in mixtures.KEPT_NAMES
            or (name == "output.weight" and self._overrides.leave_output)
            or any(part in name for part in parts)
        )

    def _wanted(self, name: str, shape: tuple[int, ...]) -> GGMLType:
        asked, role = self._overrides, _role(name)
        by_pattern = asked.for_name(name)
        if role is Role.OUTPUT and asked.output is not None:
            return asked.output
        free = name == _EMBEDDINGS[0] or by_pattern is None
        if role is Role.EMBEDDING and asked.embedding is not None and free:
            return asked.embedding
        if self._preset.is_float:
            return self._preset.type
        if by_pattern is not None:
            return by_pattern
        return self._preset.type if asked.pure else self._mixed(name, shape, role)

    def _mixed(self, name: str, shape: tuple[int, ...], role: Role) -> GGMLType:
        preset, architecture = self._preset, self._facts.architecture
        if any(part in name for part in mixtures.EIGHT_BITS_IN.get(architecture, ())):
            return GGMLType.Q8_0
        if role is Role.OUTPUT or (role is Role.EMBEDDING and self._tied):
            asked = self._overrides.output
            return self._output_type(shape[-1]) if asked is None else asked
        if preset.type is GGMLType.MXFP4:
            experts = len(shape) > 2 and shape[-3] > 1
            if architecture == "bailingmoe3" and role not in (Role.UP, Role.GATE, Role.DOWN):
                experts = False
            return GGMLType.MXFP4 if experts else GGMLType.Q8_0
        if role is Role.EMBEDDING:
            return mixtures.EMBEDDING.get(preset.name, preset.type)
        place = self._place(name, role)
        self._seen[role] += 1
        type = next((type for when, type in self._rules.get(role, ()) if when(place)), preset.type)
        raised = self._facts.is_70b and role is Role.V and preset.name not in mixtures.FEW_BITS
        return GGMLType.Q5_K if raised and type in (GGMLType.Q3_K, GGMLType.Q4_K) else type

    def _output_type(self, columns: int) -> GGMLType:
        if self._facts.architecture == "falcon" or columns % self._preset.type.block_size:
            return GGMLType.Q8_0
        return mixtures.OUTPUT.get(self._preset.name, GGMLType.Q6_K)

    def _place(self, name: str, role: Role) -> Place:
        facts, index = self._facts, self._seen[role]
        # A layer's experts and its shared expert have one role: counting them would run ahead of the layers.
        by_layer = role in (Role.UP, Role.GATE, Role.DOWN) and self._preset.name not in mixtures.FEW_BITS
        if by_layer and facts.experts > 1:
            layer = layer_of(name)
            if layer is None or layer >= facts.layers:
                raise FormatError(f"tensor '{name}' is in none of the model's {facts.layers} layers")
            index = layer
        count = self._values if role is Role.V else facts.layers
        return Place(index, count, facts.gqa, facts.experts, self._calibrated)


def _rules(facts: Facts, preset: Preset) -> dict[Role, Rule]:
    """The preset's mixture, as the model's architecture and number of experts change it."""
    rules = dict(mixtures.MIXTURES.get(preset.name, {}))
    few_bits = preset.name in mixtures.FEW_BITS
    if facts.architecture == "falcon" and not few_bits:
        rules[Role.O] = ()
        rules |= mixtures.FALCON.get(preset.name, {})
    if facts.experts == 8:
        rules |= mixtures.EIGHT_EXPERTS_FEW_BITS if few_bits else mixtures.EIGHT_EXPERTS
        if preset.name in mixtures.EIGHT_EXPERTS_O:
            rules[Role.O] = mixtures.EIGHT_EXPERTS_O_RULE
    return rules


def _role(name: str) -> Role:
    if name == "output.weight":
        return Role.OUTPUT
    if name in _EMBEDDINGS:
        return Role.EMBEDDING
    return next((role for part, role in mixtures.ROLES if part in name), Role.OTHER)


def _fitting(name: str, wanted: GGMLType, columns: int) -> GGMLType:
    """`wanted`, or what stands in for it where its blocks do not divide a row."""
    if columns % wanted.block_size == 0:
        return wanted
    if wanted in mixtures.NO_FALLBACK:
        problem = f"{wanted.label} blocks of {wanted.block_size} do not divide its rows of {columns}"
        raise ShapeError(f"tensor '{name}': {problem}, and no type stands in for them; choose another type")
    fallback = mixtures.FALLBACKS.get(wanted, wanted)
    return GGMLType.F16 if columns % fallback.block_size else fallback
