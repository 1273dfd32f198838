"""The table of `ggufpy compare`, in Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufpy.commands.markdown import markdown, short_names
from ggufpy.commands.perplexity_output import estimate_record
from ggufpy.evaluate.footprint import Footprint
from ggufpy.evaluate.statistics import Statistics


@dataclass(frozen=True, slots=True)
class Row:
    """A model with one type of KV cache; n_bytes: of its tensors."""

    model: Path
    cache: str
    n_bytes: int
    n_parameters: int
    quality: Statistics
    cost: Footprint

    @property
    def bits_per_weight(self) -> float:
        """Scales and all."""
        return 8 * self.n_bytes / max(1, self.n_parameters)


def as_markdown(rows: Sequence[Row]) -> str:
    """A table; the column of cache types is there if there are several."""
    names = short_names([row.model for row in rows])
    cells = [_cells(name, row) for name, row in zip(names, rows, strict=True)]
    if len({row.cache for row in rows}) == 1:
        for row in cells:
            del row["KV cache"]
    n_left = sum(name in ("model", "KV cache") for name in cells[0])
    return "\n".join(markdown(list(cells[0]), [list(row.values()) for row in cells], n_left))


def _cells(name: str, row: Row) -> dict[str, str]:
    of, cost = row.quality, row.cost
    return {
        "model": name,
        "KV cache": row.cache,
        "bits/weight": f"{row.bits_per_weight:.2f}",
        "size": _size(row.n_bytes),
        "PPL": f"{of.perplexity.value:.3f}",
        "mean KL": f"{max(0.0, of.kl.value):.5f} ± {of.kl.error:.5f}",
        "99.9 % KL": f"{of.kl_percentiles[99.9]:.3f}",
        "max KL": f"{of.kl_percentiles[100]:.3f}",
        "same top": f"{100 * of.same_top.value:.2f} %",
        "prompt t/s": f"{cost.prompt:.0f}",
        "generated t/s": f"{cost.generation:.0f}",
        "memory": _size(cost.peak),
        "load": f"{cost.load:.2f} s",
    }


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"


def as_json(rows: Sequence[Row]) -> str:
    """A list of objects; bytes, seconds, nats, parts of 1."""
    return json.dumps([_record(row) for row in rows], indent=2)


def _record(row: Row) -> dict[str, Any]:
    of = row.quality
    estimates = ("perplexity", "kl", "kl_capped", "delta_p_rms", "same_top")
    return {
        "model": str(row.model),
        "cache_type": row.cache,
        "bytes": row.n_bytes,
        "parameters": row.n_parameters,
        "bits_per_weight": row.bits_per_weight,
        "n_tokens": of.n_tokens,
        **{name: estimate_record(getattr(of, name)) for name in estimates},
        "kl_99.9": of.kl_percentiles[99.9],
        "kl_max": of.kl_percentiles[100],
        "prompt_tokens_per_second": row.cost.prompt,
        "generated_tokens_per_second": row.cost.generation,
        "peak_memory_bytes": row.cost.peak,
        "load_seconds": row.cost.load,
    }
