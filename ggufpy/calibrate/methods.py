"""The methods of rounding that there are, by name."""

from __future__ import annotations

from ggufpy.errors import FormatError

# gptq: rounding errors go on to later columns. propagate: layers also make up for those before them.
METHODS = ("gptq", "propagate")


def methods_of(text: str) -> tuple[str, ...]:
    """Names with commas between them, in the order of METHODS; raises FormatError for others.

    "propagate" is a way of doing "gptq", which it includes.
    """
    names = {name.strip() for name in text.lower().split(",")}
    for name in names.difference(METHODS):
        raise FormatError(f"method {name!r:.40} is unknown; known are {', '.join(METHODS)}")
    return tuple(name for name in METHODS if name in names or name == "gptq")
