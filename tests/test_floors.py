"""Imports go down only, and starting stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ggufpy

PACKAGE = Path(ggufpy.__file__).parent
FLOORS = {
    "commands": 8,
    "api": 7,
    "chat": 6,
    "calibrate": 6,
    "generate": 5,
    "evaluate": 5,
    "embedding": 5,
    "runtime": 4,
    "convert": 4,
    "architectures": 3,
    "tokenizers": 3,
    "quants": 3,
    "checkpoint": 3,
    "gguf": 2,
    "graph": 2,
    "_kernels": 1,
}
MODULES = [path for room in FLOORS for path in (PACKAGE / room).rglob("*.py") if path.name != "__main__.py"]


def imported_rooms(path: Path) -> set[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("ggufpy.")} & FLOORS.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    for other in imported_rooms(path) - {room}:
        assert FLOORS[other] < FLOORS[room], (room, other)


def test_running_imports_nothing_that_only_converting_needs() -> None:
    code = (
        "import sys, ggufpy.commands.run, ggufpy.api.llama; "
        "print([m for m in ('numba', 'torch', 'transformers', 'ggufpy.convert') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_exported_names_exist() -> None:
    assert ggufpy.__all__ == sorted(ggufpy.__all__)
    assert all(hasattr(ggufpy, name) for name in ggufpy.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ggufpy.nothing
