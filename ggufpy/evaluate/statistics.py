"""llama-perplexity's statistics of a model against another, and two more: the worst token, and a capped mean.

Source: llama.cpp tools/perplexity/perplexity.cpp, kl_divergence().
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.evaluate.against_base import AgainstBase, Floats

# Percentiles that are told; 0 is the minimum, 50 the median, 100 the maximum.
KL_PERCENTILES = (100, 99.9, 99, 95, 90, 50, 10, 5, 1, 0.1, 0)
DELTA_P_PERCENTILES = (100, 99.9, 99, 95, 90, 75, 50, 25, 10, 5, 1, 0.1, 0)

CAP = 3.0  # nats: one broken token alone can cost 10, and make a good file's mean


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or what follows from one, and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Worst:
    """The token whose prediction is furthest from the base's: which of those predicted, and its KL."""

    number: int
    kl: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """A model against its base. Divergences in nats, probabilities from 0 to 1.

    log_ratio: of perplexities, ln(model / base), ratio and difference likewise; correlation: of the two
    models' losses; kl_capped: the mean if no token counts for more than CAP.
    """

    n_tokens: int
    perplexity: Estimate
    base_perplexity: Estimate
    correlation: float
    log_ratio: Estimate
    ratio: Estimate
    difference: Estimate
    kl: Estimate
    kl_capped: Estimate
    kl_percentiles: Mapping[float, float]
    worst: Worst
    delta_p: Estimate
    delta_p_percentiles: Mapping[float, float]
    delta_p_rms: Estimate
    same_top: Estimate


def statistics(found: AgainstBase) -> Statistics:
    """Sum up what the tokens came to."""
    ln_model, ln_base = mean(found.losses), mean(found.base_losses)
    log_ratio = mean(found.losses - found.base_losses)
    model, base, ratio = _exp(ln_model), _exp(ln_base), _exp(log_ratio)
    covariance = _covariance(found.losses, found.base_losses)
    square = mean(np.square(found.delta_p))
    rms = math.sqrt(square.value)
    worst = int(found.kl.argmax())
    return Statistics(
        n_tokens=len(found.kl),
        perplexity=model,
        base_perplexity=base,
        correlation=_quotient(covariance, ln_model.error * ln_base.error),
        log_ratio=log_ratio,
        ratio=ratio,
        difference=Estimate(
            model.value - base.value,
            math.sqrt(max(0.0, model.error**2 + base.error**2 - 2 * model.value * base.value * covariance)),
        ),
        kl=mean(found.kl),
        kl_capped=mean(np.minimum(found.kl, CAP)),
        kl_percentiles=_percentiles(found.kl, KL_PERCENTILES),
        worst=Worst(worst, float(found.kl[worst])),
        delta_p=mean(found.delta_p),
        delta_p_percentiles=_percentiles(found.delta_p, DELTA_P_PERCENTILES),
        delta_p_rms=Estimate(rms, _quotient(square.error, 2 * rms)),
        same_top=mean(found.same_top),
    )


def mean(values: Floats) -> Estimate:
    """The mean of values, (n,), and its standard error, which is 0 for one value."""
    error = values.std() / math.sqrt(max(1, len(values) - 1))
    return Estimate(float(values.mean()), float(error))


def _exp(of: Estimate) -> Estimate:
    with np.errstate(over="ignore"):
        value = float(np.exp(of.value))
    return Estimate(value, value * of.error)


def _covariance(a: Floats, b: Floats) -> float:
    """Of the means of a and b."""
    products: NDArray[np.float64] = (a - a.mean()) * (b - b.mean())
    return float(products.mean()) / max(1, len(a) - 1)


def _quotient(a: float, b: float) -> float:
    return a / b if b else 0.0


def _percentiles(values: Floats, wanted: tuple[float, ...]) -> dict[float, float]:
    return dict(zip(wanted, np.percentile(values, wanted).tolist(), strict=True))
