"""The methods of rounding that there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

from ggufpy.errors import FormatError
from ggufpy.quants.ranges import RANGES, Range

# Each name, and whether it needs a text. gptq: rounding errors go on to later columns. propagate: layers also
# make up for those before them. The others choose scales by the weights alone.
METHODS: Mapping[str, bool] = {"gptq": True, "propagate": True, **dict.fromkeys(RANGES, False)}
BY_TEXT = tuple(name for name, needs_text in METHODS.items() if needs_text)

# The key of a file that says by which methods it was rounded.
METHOD_KEY = "ggufpy.quantize.method"


def methods_of(text: str) -> tuple[str, ...]:
    """Names with commas between them, in the order of METHODS; raises FormatError for others.

    "propagate" is a way of doing "gptq", which it includes. A method that needs no text stands alone.
    """
    names = {name.strip() for name in text.lower().split(",")}
    for name in sorted(names.difference(BY_TEXT)):
        if name.partition("=")[0] not in {each.partition("=")[0] for each in RANGES}:
            raise FormatError(f"method {name!r:.40} is unknown; known are {', '.join(METHODS)}")
        Range.named(name)
        if len(names) > 1:
            raise FormatError(f"method {name} chooses scales in its own way; name it alone")
        return (name,)
    return tuple(name for name in BY_TEXT if name in names or name == "gptq")
