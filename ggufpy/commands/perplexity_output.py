"""Results of `ggufpy perplexity`: lines as llama-perplexity's, tables of several models, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufpy.commands.markdown import markdown, short_names
from ggufpy.evaluate.perplexity import Perplexity
from ggufpy.evaluate.statistics import CAP, Estimate, Statistics

_NAMES: Mapping[float, str] = {100: "Maximum", 50: "Median ", 0: "Minimum"}


@dataclass(frozen=True, slots=True)
class PerplexityResult:
    """A model's perplexity, in contexts of n_ctx."""

    model: Path
    found: Perplexity
    n_ctx: int


@dataclass(frozen=True, slots=True)
class Place:
    """A token of a text: its chunk, from 1, its position there, from 0, its text, and the text before."""

    chunk: int
    position: int
    token: str
    before: str


@dataclass(frozen=True, slots=True)
class KlResult:
    """A model against its base."""

    model: Path
    found: Statistics
    n_chunks: int
    worst: Place
    seconds: float


Result = PerplexityResult | KlResult


def show(results: Sequence[Result], output: str) -> None:
    """Print one result, or a table of several; all are of one kind."""
    if output == "json":
        records = [_record(result) for result in results]
        print(json.dumps(records if len(records) > 1 else records[0]))
        return
    if len(results) > 1:
        names = short_names([result.model for result in results])
        rows = [{"model": name} | _row(result) for name, result in zip(names, results, strict=True)]
        lines = markdown(list(rows[0]), [list(row.values()) for row in rows])
    else:
        [result] = results
        lines = _block(result) if isinstance(result, KlResult) else iter([_line(result.found, result.n_ctx)])
    for line in lines:
        print(line)


def _line(result: Perplexity, n_ctx: int) -> str:
    counted = f"{result.n_tokens} tokens in {result.n_chunks} chunks of {n_ctx}"
    return f"PPL = {result.value:.4f} +/- {result.error:.5f} ({counted}, {result.seconds:.1f} s)"


def _row(result: Result) -> dict[str, str]:
    """Column: cell, but for the model's name."""
    if isinstance(result, PerplexityResult):
        ppl, error = result.found.value, result.found.error
        return {
            "PPL": f"{ppl:.4f} ± {error:.4f}",
            "tokens": f"{result.found.n_tokens:,}",
            "s": f"{result.found.seconds:.1f}",
        }
    found = result.found
    return {
        "PPL": _pair(found.perplexity, 4),
        "ln ratio": _pair(found.log_ratio, 5),
        "mean KL": _pair(found.kl, 6),
        f"capped at {CAP:g}": f"{found.kl_capped.value:.6f}",
        "median": f"{found.kl_percentiles[50]:.6f}",
        "99 %": f"{found.kl_percentiles[99]:.4f}",
        "99.9 %": f"{found.kl_percentiles[99.9]:.4f}",
        "max": f"{found.kl_percentiles[100]:.4f}",
        "Δp RMS": f"{100 * found.delta_p_rms.value:.3f} %",
        "same top": f"{100 * found.same_top.value:.3f} %",
    }


def _block(result: KlResult) -> Iterator[str]:
    """llama-perplexity's lines, and the worst token."""
    found = result.found
    yield "====== Perplexity statistics ======"
    for name, estimate in (
        ("Mean PPL(Q)", found.perplexity),
        ("Mean PPL(base)", found.base_perplexity),
        ("Mean ln(PPL(Q)/PPL(base))", found.log_ratio),
        ("Mean PPL(Q)/PPL(base)", found.ratio),
        ("Mean PPL(Q)-PPL(base)", found.difference),
    ):
        yield f"{name:<30}: {estimate.value:10.6f} ± {estimate.error:10.6f}"
        if estimate is found.base_perplexity:
            yield f"Cor(ln(PPL(Q)), ln(PPL(base))): {100 * found.correlation:6.2f}%"
    yield "\n====== KL divergence statistics ======"
    yield f"Mean    KLD: {found.kl.value:10.6f} ± {found.kl.error:10.6f}"
    for percent, value in found.kl_percentiles.items():
        yield f"{_name(percent)} KLD: {value:10.6f}"
    yield f"Mean    KLD, a token at most {CAP:g}: {_pair(found.kl_capped, 6)}"
    place = result.worst
    where = f"chunk {place.chunk}, position {place.position}"
    yield f"Maximum KLD at: {where}: {place.token!r} after {place.before!r}"
    yield "\n====== Token probability statistics ======"
    yield f"Mean    Δp: {_percent(found.delta_p)}"
    for percent, value in found.delta_p_percentiles.items():
        yield f"{_name(percent)} Δp: {100 * value:6.3f}%"
    yield f"RMS Δp    : {_percent(found.delta_p_rms)}"
    yield f"Same top p: {_percent(found.same_top)}"


def _name(percent: float) -> str:
    return _NAMES.get(percent, f"{percent:4.1f}%  ")


def _pair(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} ± {estimate.error:.{digits}f}"


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:6.3f} ± {100 * estimate.error:5.3f} %"


def _record(result: Result) -> dict[str, Any]:
    """Ready for JSON, which has no infinity and no nan: those are null."""
    if isinstance(result, PerplexityResult):
        value, error = result.found.value, result.found.error
        n_tokens, n_chunks, seconds = result.found.n_tokens, result.found.n_chunks, result.found.seconds
    else:
        value, error = result.found.perplexity.value, result.found.perplexity.error
        n_tokens, n_chunks, seconds = result.found.n_tokens, result.n_chunks, result.seconds
    return {
        "model": str(result.model),
        "perplexity": _number(value),
        "stderr": _number(error),
        "n_tokens": n_tokens,
        "n_chunks": n_chunks,
        "seconds": round(seconds, 3),
    } | (_against_base(result) if isinstance(result, KlResult) else {})


def _against_base(result: KlResult) -> dict[str, Any]:
    found, place = result.found, result.worst
    names = ("base_perplexity", "log_ratio", "ratio", "difference", "kl", "kl_capped")
    record: dict[str, Any] = {
        name: estimate_record(getattr(found, name)) for name in (*names, "delta_p", "delta_p_rms", "same_top")
    }
    for name in ("kl_percentiles", "delta_p_percentiles"):
        record[name] = {f"{percent:g}": value for percent, value in getattr(found, name).items()}
    at = {"chunk": place.chunk, "position": place.position, "token": place.token, "before": place.before}
    return record | {"correlation": found.correlation, "worst": {"kl": found.worst.kl, **at}}


def estimate_record(of: Estimate) -> dict[str, float | None]:
    """Ready for JSON."""
    return {"value": _number(of.value), "stderr": _number(of.error)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
