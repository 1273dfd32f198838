"""Results of `ggufpy bench` as a table, JSON or CSV; fields have llama-bench's names, where it has them."""

from __future__ import annotations

import csv
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from ggufpy.commands.console import printable
from ggufpy.evaluate.speed import Speed, spread
from ggufpy.gguf.reader import GGUFFile
from ggufpy.quants.choice.presets import PRESETS

Record = Mapping[str, Any]

# Column: width; those from the third on are numbers.
_COLUMNS = {
    "model": 30,
    "size": 10,
    "params": 10,
    "backend": 10,
    "threads": 7,
    "test": 15,
    "t/s": 20,
    "read share": 10,
    "peak share": 10,
}
_LEFT = ("model", "backend")


def record(file: GGUFFile, speed: Speed) -> Record:
    """One result, ready for JSON.

    read_share, peak_share: parts of what the machine reads (read_gbps, GB/s) or multiplies and adds
    (peak_gmacs, 10**9/s, operands: peak_arithmetic); None for what does not limit the test.
    """
    test = speed.test
    (avg_ns, stddev_ns), (avg_ts, stddev_ts) = spread(speed.nanoseconds), spread(speed.rates)
    reads = speed.arithmetic is None
    return {
        "cpu_info": _cpu(),
        "backends": "CPU",
        "model_filename": str(file.path),
        "model_type": _model_type(file),
        "model_size": sum(tensor.n_bytes for tensor in file.tensors.values()),
        "model_n_params": _n_params(file),
        "n_batch": speed.n_batch,
        "n_ubatch": speed.n_batch,
        "n_threads": test.n_threads,
        "type_k": test.type_k,
        "type_v": test.type_v,
        "use_mmap": True,
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "n_depth": test.n_depth,
        "test_time": f"{speed.time:%Y-%m-%dT%H:%M:%SZ}",
        "avg_ns": round(avg_ns),
        "stddev_ns": round(stddev_ns),
        "avg_ts": avg_ts,
        "stddev_ts": stddev_ts,
        "read_gbps": speed.limit / 1e9 if reads else None,
        "read_share": speed.share if reads else None,
        "peak_arithmetic": speed.arithmetic,
        "peak_gmacs": None if reads else speed.limit / 1e9,
        "peak_share": None if reads else speed.share,
        "samples_ns": list(speed.nanoseconds),
        "samples_ts": speed.rates,
    }


def limits(speeds: Sequence[Speed]) -> Iterator[str]:
    """What the machine could do in each test."""
    for speed in speeds:
        what = f"{speed.arithmetic} multiply-adds: {speed.limit / 1e9:.0f} G/s" if speed.arithmetic else ""
        yield f"{speed.test.label}: " + (what or f"memory: {speed.limit / 1e9:.1f} GB/s")


def _write_markdown(records: Sequence[Record]) -> None:
    cells = {name: f"{name:{'<' if name in _LEFT else '>'}{width}}" for name, width in _COLUMNS.items()}
    print("|", " | ".join(cells.values()), "|")
    rules = ("-" * width if name in _LEFT else "-" * (width - 1) + ":" for name, width in _COLUMNS.items())
    print("|", " | ".join(rules), "|")
    for each in records:
        row = zip(_cells(each), _COLUMNS.items(), strict=True)
        print("|", " | ".join(f"{c:{'<' if name in _LEFT else '>'}{width}}" for c, (name, width) in row), "|")


def _cells(each: Record) -> Iterator[str]:
    size, n_params = each["model_size"], each["model_n_params"]
    yield printable(each["model_type"]).replace("|", "\\|")
    yield f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"
    yield f"{n_params / 1e9:.2f} B" if n_params >= 1e9 else f"{n_params / 1e6:.2f} M"
    yield each["backends"]
    yield str(each["n_threads"])
    test = f"pp{each['n_prompt']}" if each["n_prompt"] else f"tg{each['n_gen']}"
    yield f"{test} @ d{each['n_depth']}" if each["n_depth"] else test
    yield f"{each['avg_ts']:.2f} ± {each['stddev_ts']:.2f}"
    for share in (each["read_share"], each["peak_share"]):
        yield "" if share is None else f"{100 * share:.1f} %"


def _write_json(records: Sequence[Record]) -> None:
    print(json.dumps(records, indent=2))


def _write_csv(records: Sequence[Record]) -> None:
    fields = [name for name in records[0] if not name.startswith("samples_")]
    writer = csv.DictWriter(sys.stdout, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)


WRITERS: Mapping[str, Callable[[Sequence[Record]], None]] = {
    "md": _write_markdown,
    "json": _write_json,
    "csv": _write_csv,
}


def _n_params(file: GGUFFile) -> int:
    return sum(prod(tensor.shape) for tensor in file.tensors.values())


def _model_type(file: GGUFFile) -> str:
    """Architecture, size and type of the weights: ``"llama 1.24B Q4_K_M"``."""
    metadata = file.metadata
    type = metadata.get("general.file_type")
    name = next((preset.name for preset in PRESETS if preset.id == type), "")
    size = metadata.get("general.size_label") or f"{_n_params(file) / 1e9:.3g}B"
    return f"{metadata.get('general.architecture')} {size} {name}".strip()


def _cpu() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
