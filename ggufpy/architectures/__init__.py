"""One file per architecture, named as GGUF's `general.architecture`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from ggufpy.errors import UnsupportedModelError


def names() -> list[str]:
    """The architectures that there are files for."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str, source: str) -> ModuleType:
    """The file of architecture `name`; raises UnsupportedModelError, naming `source`, if there is none."""
    if name not in names():
        raise UnsupportedModelError(f"{source}: architecture '{name}' is not supported; ggufpy knows {', '.join(names())}")
    return importlib.import_module(f"ggufpy.architectures.{name}")
