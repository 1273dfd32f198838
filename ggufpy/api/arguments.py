"""Arguments as llama-cpp-python takes them: by position too, in orders of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ggufpy.generate.picking import Sampling

P = ParamSpec("P")
R = TypeVar("R")


def by_position(order: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a method that takes `**sampling: Unpack[Sampling]` have its arguments by position too.

    order: their names, behind `self`. The method gets all by name. A name that it does not take is a
    TypeError at once, also where it is a generator.
    """
    names = order.split()

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        known = inspect.signature(method).parameters.keys() | Sampling.__optional_keys__
        title = method.__name__
        assert known.issuperset(names), title

        @wraps(method)
        def call(self: Any, *values: Any, **named: Any) -> Any:
            if len(values) > len(names):
                raise TypeError(f"{title}() takes {len(names)} arguments by position, not {len(values)}")
            for name, value in zip(names, values, strict=False):
                if name in named:
                    raise TypeError(f"{title}() got multiple values for argument '{name}'")
                named[name] = value
            for name in named:
                if name not in known:
                    raise TypeError(f"{title}() got an unexpected keyword argument '{name}'")
            return method(self, **named)

        return call  # type: ignore[return-value] # checkers see the names only

    return decorate
