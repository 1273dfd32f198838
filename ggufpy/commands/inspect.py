"""`ggufpy inspect`: print the metadata and the tensors of a GGUF file."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ggufpy.commands.console import printable, run_command
from ggufpy.commands.parser import Parser
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.values import ValueType

_LONGEST_ARRAY = 8
_LONGEST_VALUE = 72


def main(argv: list[str] | None = None) -> int:
    """Print one GGUF file and return the exit status."""
    parser = Parser(prog="ggufpy inspect", description="Print what a GGUF file holds.")
    parser.add_argument("file", type=Path, help="a GGUF file; of a split model, the first")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: text")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _inspect(arguments.file, arguments.output))


def _inspect(path: Path, output: str) -> int:
    with GGUFFile.open(path) as file:
        report = describe(file)
    if output == "json":
        print(json.dumps(report, indent=2))
        return 0
    # A terminal or pipe that is not UTF-8 shows the rest of the text, and escapes what it cannot.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for line in _lines(report):
        print(line)
    return 0


def describe(file: GGUFFile) -> dict[str, Any]:
    """What `file` holds, ready for JSON: long arrays by their first elements, shapes in NumPy order."""
    parameters = sum(math.prod(tensor.shape) for tensor in file.tensors.values())
    n_bytes = sum(tensor.n_bytes for tensor in file.tensors.values())
    return {
        "file": str(file.path),
        "version": file.version,
        "byte_order": "little" if file.byte_order == "<" else "big",
        "metadata": {
            key: _describe_value(*file.metadata.beginning(key, _LONGEST_ARRAY), file.value_types[key])
            for key in file.metadata
        },
        "tensors": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "type": tensor.type.label,
                "bytes": tensor.n_bytes,
                "offset": tensor.offset,
                "file": tensor.file.name,
            }
            for tensor in file.tensors.values()
        ],
        "parameters": parameters,
        "bytes": n_bytes,
        "bits_per_weight": round(8 * n_bytes / parameters, 4) if parameters else None,
    }


def _describe_value(value: Any, length: int | None, type: ValueType) -> dict[str, Any]:
    if length is None:
        return {"type": type.label, "value": _plain(value, type)}
    return {"type": f"{type.label}[]", "length": length, "value": [_plain(item, type) for item in value]}


def _plain(value: Any, type: ValueType) -> Any:
    """The value as JSON has it: f32 with the digits that f32 has, no NaN and no infinity."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return str(value)
    return float(str(np.float32(value))) if type is ValueType.F32 else value


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"{printable(report['file'])}: GGUF version {report['version']}, {report['byte_order']}-endian"
    yield ""
    yield f"{len(report['metadata'])} metadata entries"
    rows = [(printable(key), entry["type"], _short(entry)) for key, entry in report["metadata"].items()]
    yield from _table(rows, "<<<")
    yield ""
    files = {tensor["file"] for tensor in report["tensors"]}
    yield f"{len(report['tensors'])} tensors" + (f" in {len(files)} files" if len(files) > 1 else "")
    yield from _table(_tensor_rows(report["tensors"], with_file=len(files) > 1), "<<<>><")
    yield ""
    weights = (
        "" if report["bits_per_weight"] is None else f", {report['bits_per_weight']:.2f} bits per weight"
    )
    yield f"{report['parameters']:,} parameters, {report['bytes']:,} bytes{weights}"


def _tensor_rows(tensors: list[dict[str, Any]], *, with_file: bool) -> list[tuple[str, ...]]:
    if not tensors:
        return []
    rows: list[tuple[str, ...]] = [("name", "shape", "type", "bytes", "offset", "file")]
    for tensor in tensors:
        shape = " x ".join(map(str, tensor["shape"]))
        numbers = (str(tensor["bytes"]), str(tensor["offset"]))
        rows.append((printable(tensor["name"]), shape, tensor["type"], *numbers, printable(tensor["file"])))
    return rows if with_file else [row[:-1] for row in rows]


def _table(rows: Sequence[tuple[str, ...]], alignment: str) -> Iterator[str]:
    """Lines of columns as wide as their longest cell, aligned left or right by "<" or ">"."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(row, alignment, widths, strict=False)]
        yield ("  " + "  ".join(cells)).rstrip()


def _short(entry: dict[str, Any]) -> str:
    """A value in one line of limited length, with the whole length of what does not fit."""
    value, length = entry["value"], entry.get("length")
    if length is not None:
        items = ", ".join(_clipped(repr(item), _LONGEST_VALUE // 2) for item in value)
        return f"{length}: " + _clipped(items + (", ..." if length > len(value) else ""), _LONGEST_VALUE)
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = printable(value)
    more = f" ({len(value)} characters)" if len(text) > _LONGEST_VALUE else ""
    return _clipped(text, _LONGEST_VALUE) + more


def _clipped(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
