"""What `ggufpy calibrate` prints: tables, the worst tensors first, or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ggufpy.calibrate.observing import Observed
from ggufpy.calibrate.tally import PERCENTILES
from ggufpy.commands.console import printable

_HEADS = ("least", "most", "mean", "deviation", "rms", *(f"{each:g} %" for each in PERCENTILES), "crest")
_SHOWN = 3  # outliers
_NAME = re.compile(r"blk\.(\d+)\.(.+)")


def lines(weights: Sequence[Observed], activations: Sequence[Observed], top: int) -> Iterator[str]:
    """Both tables."""
    yield from _table("weights", weights, top)
    if activations:
        yield ""
        yield from _table("activations, read by", activations, top)


def _table(title: str, observed: Sequence[Observed], top: int) -> Iterator[str]:
    worst = sorted(observed, key=lambda each: -each.spread.crest)
    rows = [(title, *_HEADS, "outlier columns"), *map(_row, worst[:top])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for first, *numbers, last in rows:
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False)]
        yield "  ".join([first.ljust(widths[0]), *cells, last])
    if len(worst) > top:
        yield f"... and {len(worst) - top} more with smaller crests; see --top"


def _row(observed: Observed) -> tuple[str, ...]:
    of = observed.spread
    layer, kind = layer_and_kind(observed.tensors)
    numbers = (of.least, of.most, of.mean, of.deviation, of.rms, *of.percentiles)
    outliers = of.outliers()
    shown = ", ".join(f"{column} ({ratio:.1f}x)" for column, ratio in outliers[:_SHOWN])
    more = ", ..." if len(outliers) > _SHOWN else ""
    return (
        printable(kind if layer is None else f"blk.{layer} {kind}"),
        *(f"{number:.3g}" for number in numbers),
        f"{of.crest:.1f}",
        f"{len(outliers)}: {shown}{more}" if outliers else "-",
    )


def layer_and_kind(tensors: Sequence[str]) -> tuple[int | None, str]:
    """Of tensors of one layer, or of none: its number, and their names without it: "attn_q+attn_k"."""
    found = [_NAME.fullmatch(name) for name in tensors]
    layers = {int(match[1]) for match in found if match}
    kind = "+".join(match[2] if match else name for match, name in zip(found, tensors, strict=True))
    return (layers.pop() if layers else None), kind.replace(".weight", "")


def as_json(
    model: Path, chunks: Sequence[Sequence[int]], weights: Sequence[Observed], activations: Sequence[Observed]
) -> str:
    """All tensors."""
    report = {
        "model": str(model),
        "contexts": len(chunks),
        "context_size": len(chunks[0]) if chunks else 0,
        "weights": [_entry(each) for each in weights],
        "activations": [_entry(each) for each in activations],
    }
    return json.dumps(report, indent=1)


def _entry(observed: Observed) -> dict[str, Any]:
    of = observed.spread
    percentiles = zip(PERCENTILES, of.percentiles, strict=True)
    return {
        "tensors": list(observed.tensors),
        "columns": len(of.columns),
        "count": of.count,
        "min": of.least,
        "max": of.most,
        "mean": of.mean,
        "deviation": of.deviation,
        "rms": of.rms,
        "percentiles": {f"{share:g}": value for share, value in percentiles},
        "crest": of.crest,
        "outliers": [{"column": column, "ratio": ratio} for column, ratio in of.outliers()],
        "histogram": of.histogram.tolist(),
    }
