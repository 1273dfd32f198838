"""Limits for chat templates: programs in files that come from anywhere.

Steps and seconds are counted by a trace function: lines of the template, calls of Python. What one step can
make of a few characters is counted before it is made: characters and items, all together.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ggufpy.errors import TemplateError

STEPS = 2_000_000
SECONDS = 20.0
DEPTH = 100  # calls within calls
CHARACTERS = 1 << 28  # that are made; a conversation of a million tokens has 4 million
SOURCE_CHARACTERS = 1 << 20
_DIGITS = 1000  # of a number, or of the width that text is brought to

# In a format: a width of many digits, or one that is an argument.
_WIDE = re.compile(r"\*|\{[^{}]*\{|\d{4,}")


class _Left(threading.local):
    """What a template of this thread may still use."""

    steps = STEPS
    depth = 0
    characters = CHARACTERS
    end = float("inf")


_left = _Left()


@contextmanager
def limited() -> Iterator[None]:
    """Templates are compiled and rendered within; beyond the limits TemplateError is raised."""
    _left.steps, _left.characters, _left.end = STEPS, CHARACTERS, time.monotonic() + SECONDS
    _left.depth = 0
    before = sys.gettrace()
    sys.settrace(_trace)
    try:
        yield
    finally:
        sys.settrace(before)


def _trace(frame: FrameType, event: str, argument: object) -> Any:
    _step()
    if frame.f_code.co_filename != "<template>":
        return None
    _left.depth += 1
    if _left.depth > DEPTH:
        raise TemplateError(f"the chat template calls itself more than {DEPTH} times, one within the other")
    return _trace_line


def _trace_line(frame: FrameType, event: str, argument: object) -> Any:
    if event == "line":
        _step()
    elif event == "return":
        _left.depth -= 1
    return _trace_line


def _step() -> None:
    _left.steps -= 1
    if _left.steps < 0:
        raise TemplateError(f"the chat template takes more than {STEPS:,} steps")
    if time.monotonic() > _left.end:
        raise TemplateError(f"the chat template takes more than {SECONDS:g} seconds")


def spend(characters: int) -> None:
    """So many characters or items are about to be made."""
    _left.characters -= characters
    if _left.characters < 0:
        raise TemplateError(f"the chat template makes more than {CHARACTERS:,} characters")


def _size(x: object) -> int:
    if isinstance(x, int):
        return x.bit_length() // 3
    return len(x) if isinstance(x, Sized) else 1


def _check_number(digits: int) -> None:
    if digits > _DIGITS:
        raise TemplateError(f"the chat template makes a number or a width of more than {_DIGITS} digits")


def _check_operands(operator: str, left: Any, right: Any) -> None:
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_number(_size(left) * max(right, 0))
    elif operator == "*" and isinstance(left, int) and isinstance(right, int):
        _check_number(_size(left) + _size(right))
    elif operator == "*":
        number, many = (left, right) if isinstance(left, int) else (right, left)
        if isinstance(number, int):
            spend(_size(many) * max(number, 0))
    elif operator == "%" and isinstance(left, str):
        _check_format(left)
        spend(len(left) + sum(_size(each) for each in (right if isinstance(right, tuple) else (right,))))
    elif operator == "+":
        spend(_size(left) + _size(right))


def _check_format(text: str) -> None:
    if wide := _WIDE.search(text):
        raise TemplateError(f"the chat template asks for a width of {wide[0]!r:.20} in a format")


def _check_width(*arguments: Any, **named: Any) -> None:
    for width in (*arguments, *named.values()):
        if isinstance(width, int) and abs(width) > _DIGITS:
            raise TemplateError(f"the chat template asks for a width of {width!r:.20}; at most {_DIGITS}")


def _check_replace(text: Any, old: Any = "", new: Any = "", *rest: Any, **named: Any) -> None:
    text, old, new = str(text), str(old), str(named.get("new", new))
    spend(len(text) + text.count(old) * len(new))


def _check_join(items: Any, separator: Any = "", *rest: Any, **named: Any) -> None:
    if isinstance(items, Sized) and isinstance(items, Iterable):
        spend(sum(_size(each) for each in items) + _size(separator) * len(items))


def _check_call(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Methods of strings that make much of little."""
    function = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if not isinstance(owner, str):
        return
    if name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
        _check_width(*arguments, **named)
    elif name == "replace":
        _check_replace(owner, *arguments, **named)
    elif name == "join" and arguments:
        _check_join(arguments[0], owner)
    elif name in ("format", "format_map"):
        _check_format(owner)
        spend(len(owner) * (1 + sum(_size(each) for each in (*arguments, *named.values()))))


# Filters that make much of little, and what is checked of their arguments.
_CHECKS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(
        ("batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"),
        lambda value, *a, **k: _check_width(*a, **k),
    ),
    "replace": _check_replace,
    "join": _check_join,
    "format": lambda text, *a, **k: _check_format(str(text)),
}


class _Generator(CodeGenerator):
    """`~` is counted too."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.join((")
        for argument in node.nodes:
            self.visit(argument, frame)
            self.write(", ")
        self.write("))")


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates spend what `limited` gives. filters: in place of jinja2's, or beside them."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, filters: Mapping[str, Callable[..., Any]], **options: Any) -> None:
        super().__init__(**options)
        del self.globals["lipsum"]
        self.filters.update(filters)
        for name, check in _CHECKS.items():
            self.filters[name] = _checked(self.filters[name], check)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """As jinja2 does it, if the result is not too large."""
        _check_operands(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        """As jinja2 does it, if the result is not too large."""
        _check_call(function, arguments, named)
        return super().call(context, function, *arguments, **named)

    @staticmethod
    def join(parts: tuple[Any, ...]) -> str:
        """The parts of a `~`."""
        spend(sum(_size(part) for part in parts))
        return str_join(parts)

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """The parts of the output, or of a block."""
        kept = []
        for part in parts:
            spend(len(part))
            kept.append(part)
        return "".join(kept)


def _checked(function: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    """A filter that is checked before; jinja2 passes its environment first to some."""
    first = getattr(function, "jinja_pass_arg", None) is not None

    def checked(*arguments: Any, **named: Any) -> Any:
        check(*arguments[first:], **named)
        return function(*arguments, **named)

    if first:
        checked.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return checked
