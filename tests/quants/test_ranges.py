"""Ranges: the formulas, how far scales reach, and what has none."""

from __future__ import annotations

import numpy as np
import pytest
import random_llama
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode, encode
from ggufpy.quants.choice.planning import Planned
from ggufpy.quants.choice.ranging import ranged
from ggufpy.quants.choice.recipe import Decision
from ggufpy.quants.grids import GRIDS, Parts
from ggufpy.quants.ranges import Range, encode_with

Floats = NDArray[np.float32]
FREE = [type for type, grid in GRIDS.items() if not grid.has_powers]
X = np.random.default_rng(5).standard_t(5, (6, 512)).astype(np.float32) + np.float32(0.3)


def parts(type: GGMLType, method: str, granularity: str | None = None, x: Floats = X) -> Parts:
    grid, how = GRIDS[type], Range.named(method, granularity)
    how.check("t", type, x.shape[1])
    return grid.parts(encode_with(x, *how.scales(x, grid), grid))


def error(type: GGMLType, method: str, granularity: str | None = None) -> float:
    return float(((GRIDS[type].values(parts(type, method, granularity)) - X) ** 2).mean())


def as_f16(x: Floats) -> Floats:
    return x.astype(np.float16).astype(np.float32)


def test_absmax() -> None:
    blocks = X.reshape(6, -1, 32)
    for type, last in ((GGMLType.Q4_0, 7), (GGMLType.Q5_0, 15), (GGMLType.Q8_0, 127), (GGMLType.IQ4_NL, 113)):
        of = parts(type, "absmax")
        np.testing.assert_array_equal(of.d, as_f16(np.abs(blocks).max(axis=2) / np.float32(last)))
        if type is not GGMLType.IQ4_NL:
            far = np.abs(GRIDS[type].values(of) - X).reshape(blocks.shape).max(axis=2)
            assert (far <= of.d * 0.51).all()
    of = parts(GGMLType.Q4_1, "absmax")
    np.testing.assert_array_equal(of.m, as_f16(-np.abs(blocks).max(axis=2)))
    np.testing.assert_array_equal(of.d, as_f16(np.abs(blocks).max(axis=2) * np.float32(2) / np.float32(15)))


def test_zero_point() -> None:
    x = X.copy()
    x[:, ::3] = 0
    for type, last in ((GGMLType.Q4_1, 15), (GGMLType.Q5_1, 31)):
        of = parts(type, "zero-point", x=x)
        blocks = x.reshape(6, -1, 32)
        width = np.maximum(blocks.max(axis=2), 0) - np.minimum(blocks.min(axis=2), 0)
        np.testing.assert_array_equal(of.d, as_f16(width / np.float32(last)))
        codes = -of.m / of.d
        np.testing.assert_allclose(codes, np.rint(codes), rtol=1e-3)
        assert np.abs(GRIDS[type].values(of)[:, ::3]).max() < 1e-3 * float(width.max())


def test_percentile() -> None:
    of = parts(GGMLType.Q8_0, "percentile=90", "channel")
    want = np.percentile(np.abs(X), 90, axis=1).astype(np.float32) / np.float32(127)
    np.testing.assert_allclose(of.d[:, 0], as_f16(want), rtol=1e-3)
    assert (parts(GGMLType.Q8_0, "percentile=100").d == parts(GGMLType.Q8_0, "absmax").d).all()
    of = parts(GGMLType.Q4_1, "percentile=90", "channel")
    low, high = np.percentile(X, (10, 90), axis=1)
    np.testing.assert_allclose(of.m[:, 0], low, rtol=1e-3)
    np.testing.assert_allclose(of.d[:, 0], (high - low) / 15, rtol=1e-3)


@pytest.mark.parametrize("type", FREE, ids=lambda type: type.label)
def test_least_error(type: GGMLType) -> None:
    """Of all methods, at any reach; what is left of it on two levels of scales is their rounding."""
    slack = 1.0001 if GRIDS[type].is_flat else 1.05
    for reach in (None, "channel", "tensor"):
        errors = {method: error(type, method, reach) for method in ("absmax", "percentile=99", "mse")}
        assert errors["mse"] <= slack * min(errors.values()), (reach, errors)
    assert error(type, "mse") < error(type, "mse", "tensor")


def test_least_error_is_below_the_reference() -> None:
    for type in (GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q8_0, GGMLType.IQ4_NL):
        reference = float(((decode(encode(X, type), type).reshape(X.shape) - X) ** 2).mean())
        assert error(type, "mse") < reference


@pytest.mark.parametrize("type", [GGMLType.Q4_0, GGMLType.Q5_1, GGMLType.Q3_K, GGMLType.Q4_K])
def test_scales_are_repeated(type: GGMLType) -> None:
    grid = GRIDS[type]
    for reach, width in (("group=64", 64), ("channel", 512), ("tensor", X.size)):
        of = parts(type, "mse", reach)
        step = np.repeat(of.d, grid.block // grid.sub, 1) * of.s
        groups = step.reshape(-1, width // grid.sub)
        if grid.is_flat or reach != "group=64":  # else blocks round them
            assert (groups == groups[:, :1]).all()
        assert len(np.unique(of.d)) > 1 or reach == "tensor"


def test_nothing_but_zeros() -> None:
    zeros = np.zeros((2, 256), np.float32)
    for type in FREE:
        grid = GRIDS[type]
        for method in ("absmax", "percentile=99", "mse"):
            assert not grid.values(parts(type, method, x=zeros)).any(), (type, method)
    assert not GRIDS[GGMLType.Q4_1].values(parts(GGMLType.Q4_1, "zero-point", x=zeros)).any()


def planned(array: Floats, type: GGMLType) -> Planned:
    source = random_llama.source("a.weight", array)
    return Planned(source, TensorSource(source.name, source.shape, type, source.read), Decision(type, type))


def test_rows_on_demand() -> None:
    """As all at once; each expert's matrix has a scale of its own."""
    array = X.reshape(2, 3, 512) * np.array([1, 9], np.float32)[:, None, None]
    for granularity in (None, "group=128", "channel", "tensor"):
        how = Range.named("mse", granularity)
        (each,) = ranged([planned(array, GGMLType.Q4_0)], how, 2)
        whole = each.tensor.read(0, 6)
        assert (np.concatenate([each.tensor.read(0, 2), each.tensor.read(2, 6)]) == whole).all()
        grid = GRIDS[GGMLType.Q4_0]
        apart = [encode_with(x, *how.scales(x, grid), grid) for x in array]
        assert (np.concatenate(apart) == whole).all()


def test_what_no_type_can_hold() -> None:
    for value, problem in ((np.nan, "tensor 'a.weight' has NaN or Inf"), (1e6, r"tensor 'a.weight': 1e\+06")):
        array = X.copy()
        array[1, 1] = value
        (each,) = ranged([planned(array, GGMLType.Q8_0)], Range.named("absmax"), 1)
        with pytest.raises(FormatError, match=problem):
            each.tensor.read(0, 6)


@pytest.mark.parametrize(
    ("method", "granularity", "type", "problem"),
    [
        (
            "absmax",
            None,
            GGMLType.IQ2_XS,
            "tensor 't': iq2_xs has no free scale for absmax; choose a type of",
        ),
        ("mse", None, GGMLType.MXFP4, "mxfp4 has no free scale"),
        ("zero-point", None, GGMLType.Q4_0, "q4_0 has no free zero-point; choose q4_1 or q5_1"),
        (
            "mse",
            "group=48",
            GGMLType.Q4_0,
            "groups of 48 do not fit q4_0, a scale per 32 weights, in rows of 576",
        ),
        ("mse", "group=128", GGMLType.Q8_0, "choose a multiple of 32 that divides 576"),
    ],
)
def test_what_does_not_fit(method: str, granularity: str | None, type: GGMLType, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        Range.named(method, granularity).check("t", type, 576)


def test_names() -> None:
    assert Range.named("percentile=99.90", "group=64").names == ("percentile=99.9", "group=64")
    assert Range.named("mse").names == ("mse",)
    assert Range.named("absmax", "channel").names == ("absmax", "channel")
    for method in ("percentile", "percentile=50", "percentile=101", "percentile=x", "percentile=1e1"):
        with pytest.raises(FormatError, match="P above 50 and at most 100"):
            Range.named(method)
    with pytest.raises(FormatError, match="method 'min' is unknown; known are absmax, zero-point"):
        Range.named("min")
    for granularity in ("row", "group", "group=0", "group=-4"):
        with pytest.raises(FormatError, match=r"is unknown; known are tensor, channel, group=N"):
            Range.named("mse", granularity)
