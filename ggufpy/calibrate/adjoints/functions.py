"""The functions of nodes, and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ggufpy.calibrate.adjoints.passed import Array
from ggufpy.graph.values import Function

_FROM_LINEAR = 20.0  # where softplus is x, as ggml has it
_GELU, _CUBE, _QUICK = math.sqrt(2 / math.pi), 0.044715, 1.702


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), of any x."""
    y: Array = 0.5 * (1 + np.tanh(0.5 * x))
    return y


def softmax(x: Array) -> Array:
    """Over the last axis; -inf gives 0."""
    y: Array = x - x.max(axis=-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y


def _normal(x: Array) -> Array:
    """The normal distribution's share below x, within 1e-7: Abramowitz and Stegun, 7.1.26."""
    z = np.abs(x) * math.sqrt(0.5)
    t = 1 / (1 + 0.3275911 * z)
    series: Array = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + factor) * t
    above = 0.5 * series * np.exp(-z * z)
    return np.where(x < 0, above, 1 - above)


def _tanh_of_gelu(x: Array) -> Array:
    y: Array = np.tanh(_GELU * x * (1 + _CUBE * x * x))
    return y


def _silu_slope(x: Array) -> Array:
    s = sigmoid(x)
    slope: Array = s * (1 + x * (1 - s))
    return slope


def _gelu_slope(x: Array) -> Array:
    t = _tanh_of_gelu(x)
    slope: Array = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * _GELU * (1 + 3 * _CUBE * x * x)
    return slope


def _gelu_erf_slope(x: Array) -> Array:
    return _normal(x) + x * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def _gelu_quick_slope(x: Array) -> Array:
    s = sigmoid(_QUICK * x)
    slope: Array = s * (1 + _QUICK * x * (1 - s))
    return slope


def _sigmoid_slope(x: Array) -> Array:
    s = sigmoid(x)
    slope: Array = s * (1 - s)
    return slope


def _tanh_slope(x: Array) -> Array:
    t = np.tanh(x)
    slope: Array = 1 - t * t
    return slope


def _softplus(x: Array) -> Array:
    return np.where(x > _FROM_LINEAR, x, np.log1p(np.exp(np.minimum(x, _FROM_LINEAR))))


FUNCTIONS: dict[Function, Callable[[Array], Array]] = {
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + _tanh_of_gelu(x)),
    "gelu_erf": lambda x: x * _normal(x),
    "gelu_quick": lambda x: x * sigmoid(_QUICK * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "sigmoid": sigmoid,
    "softplus": _softplus,
    "tanh": np.tanh,
}

SLOPES: dict[Function, Callable[[Array], Array]] = {
    "silu": _silu_slope,
    "gelu": _gelu_slope,
    "gelu_erf": _gelu_erf_slope,
    "gelu_quick": _gelu_quick_slope,
    "relu": lambda x: (x > 0).astype(x.dtype),
    "relu2": lambda x: 2 * np.maximum(x, 0),
    "sigmoid": _sigmoid_slope,
    "softplus": lambda x: np.where(x > _FROM_LINEAR, 1, sigmoid(x)),
    "tanh": _tanh_slope,
}
