"""The methods of rounding that there are, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ggufpy.calibrate.recipe import Recipe
from ggufpy.errors import FormatError
from ggufpy.quants.ranges import RANGES, Range

BEST = "best"

# They make another float model, which computes the same. rotate: the residual stream is turned. awq,
# smoothquant: channels are scaled by activations.
FOLDING = ("rotate", "awq", "smoothquant")

# gptq: rounding errors go on to later columns; round: learned instead. The others go with either, see Recipe.
FEEDBACK = ("gptq", "round", "propagate", "guided", "two-sided")

# The mean of what outputs lost goes into their biases, where llama.cpp takes these.
BIAS = "bias"

# What goes by a text; best: what measured best of FEEDBACK. All others choose scales by the weights alone.
BY_TEXT = (*FOLDING, BEST, *FEEDBACK, BIAS)
METHODS: Mapping[str, bool] = {**dict.fromkeys(BY_TEXT, True), **dict.fromkeys(RANGES, False)}

# The key of a file that says by which methods it was rounded.
METHOD_KEY = "ggufpy.quantize.method"


def methods_of(text: str) -> tuple[str, ...]:
    """Names with commas between them, in the order of METHODS; raises FormatError for others.

    FEEDBACK includes "gptq", and is what "best" chooses of. A method that needs no text stands alone.
    """
    given = [name.strip() for name in text.lower().split(",")]
    names = {name.partition("=")[0]: name for name in given}
    if len(names) < len(given):
        raise FormatError(f"methods {text!r:.60}: one is named twice")
    for name in sorted(set(names).difference(BY_TEXT)):
        if name not in {each.partition("=")[0] for each in RANGES}:
            raise FormatError(f"method {name!r:.40} is unknown; known are {', '.join(METHODS)}")
        Range.named(names[name])
        if len(names) > 1:
            raise FormatError(f"method {name} chooses scales in its own way; name it alone")
        return (names[name],)
    feedback = [name for name in FEEDBACK if name in names]
    if BEST in names and feedback:
        raise FormatError(f"method best chooses whether to use {', '.join(feedback)}; name it without")
    for name in set(names).difference({"smoothquant"}):
        if "=" in names[name]:
            raise FormatError(f"method {names[name]!r:.40}: {name} takes no value")
    alpha_of(names.get("smoothquant", ""))
    if "round" in names and {"gptq", "two-sided"}.intersection(names):
        raise FormatError("method round is another way than gptq, and rounds rows by themselves; name one")
    if feedback and "round" not in names:
        names["gptq"] = "gptq"
    return tuple(names[name] for name in BY_TEXT if name in names)


def alpha_of(method: str) -> float | None:
    """Of "smoothquant=ALPHA"; None for "auto", or if it is not said. Raises FormatError for other values."""
    value = method.partition("=")[2]
    if value in ("", "auto"):
        return None
    try:
        alpha = float(value)
    except ValueError:
        alpha = -1
    if not 0 <= alpha <= 1:
        raise FormatError(f"method {method!r:.40}: give a number from 0 to 1, or auto")
    return alpha


def folding_of(methods: Sequence[str]) -> tuple[str, ...]:
    """Those of FOLDING."""
    return tuple(name for name in methods if name.partition("=")[0] in FOLDING)


def recipe_of(methods: Sequence[str]) -> Recipe | None:
    """What those of FEEDBACK say; None if there are none."""
    if not set(FEEDBACK).intersection(methods):
        return None
    return Recipe(
        propagate="propagate" in methods,
        guided="guided" in methods,
        two_sided="two-sided" in methods,
        learned="round" in methods,
    )
