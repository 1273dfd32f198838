"""Plots of `ggufpy calibrate`: histograms, rms of channels, and the channels that stand out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ggufpy.calibrate.observing import Observed
from ggufpy.calibrate.tally import BINS, OUTLIER, Spread
from ggufpy.commands.calibrate_output import layer_and_kind
from ggufpy.commands.console import printable

# Spreads of the same kind of tensor and width, by layer; -1 where it is in none.
Kinds = Mapping[str, Mapping[int, Spread]]

_HARDEST = 24  # channels of a heat map
_COLORS = colormaps["viridis"]


def plots(folder: Path, weights: Sequence[Observed], activations: Sequence[Observed]) -> list[Path]:
    """Write PNG files into a folder, and return them."""
    written = []
    for name, observed in (("weights", weights), ("activations", activations)):
        if not observed:
            continue
        kinds = _kinds(observed)
        figures = {
            f"{name}-histograms": _panels(f"Histograms of {name}", kinds, _histogram),
            f"{name}-channels": _panels(f"Channels of {name}, sorted", kinds, _channels),
            f"{name}-outliers": _heat_maps(f"Hardest channels of {name}", kinds),
        }
        for stem, figure in figures.items():
            path = folder / f"{stem}.png"
            figure.savefig(path, dpi=110)
            written.append(path)
    return written


def _kinds(observed: Sequence[Observed]) -> dict[str, dict[int, Spread]]:
    kinds: dict[str, dict[int, Spread]] = {}
    for each in observed:
        layer, kind = layer_and_kind(each.tensors)
        title = f"{printable(kind)} ({len(each.spread.columns)})"
        kinds.setdefault(title, {})[-1 if layer is None else layer] = each.spread
    return kinds


def _panels(title: str, kinds: Kinds, draw: Callable[[Axes, Spread, object], None]) -> Figure:
    """A panel for each kind, a line for each layer."""
    last = max(max(layers) for layers in kinds.values())
    colors = ScalarMappable(Normalize(0, max(last, 1)), _COLORS)
    figure, axes = _grid(title, len(kinds))
    for axis, (kind, layers) in zip(axes, kinds.items(), strict=False):
        axis.set_title(kind, fontsize=10)
        for layer, spread in layers.items():
            draw(axis, spread, "black" if layer < 0 else _COLORS(layer / max(last, 1)))
        axis.grid(alpha=0.3)
    if last > 0:
        figure.colorbar(colors, ax=axes, label="layer", fraction=0.03)
    return figure


def _grid(title: str, count: int) -> tuple[Figure, list[Axes]]:
    across = 2 if count == 4 else min(count, 3)
    down = -(-count // across)
    figure = Figure(figsize=(4.2 * across + 0.8, 2.8 * down + 0.6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes


def _histogram(axis: Axes, spread: Spread, color: object) -> None:
    size = spread.rms or 1.0
    edges = np.linspace(spread.least / size, spread.most / size, BINS + 1)
    axis.stairs(spread.histogram / spread.count, edges, color=color, linewidth=0.9)
    axis.set_yscale("log")
    axis.set_xlabel("value / rms", fontsize=8)
    axis.set_ylabel("share", fontsize=8)


def _channels(axis: Axes, spread: Spread, color: object) -> None:
    ratios = np.sort(spread.ratios())[::-1]
    axis.plot(np.linspace(0, 100, len(ratios)), ratios, color=color, linewidth=0.9)
    axis.axhline(OUTLIER, color="red", linestyle=":", linewidth=0.9)
    axis.set_yscale("log")
    axis.set_ylim(0.125, max(8.0, ratios[0] * 1.2, axis.get_ylim()[1]))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_locator(LogLocator(2))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("% of channels", fontsize=8)
    axis.set_ylabel("rms / median", fontsize=8)


def _heat_maps(title: str, kinds: Kinds) -> Figure:
    """For each kind the channels that stand out most in any layer, and how far in which."""
    figure, axes = _grid(f"{title}: rms / median", len(kinds))
    norm = LogNorm(0.25, 16, clip=True)
    for axis, (kind, layers) in zip(axes, kinds.items(), strict=False):
        ratios = np.array([spread.ratios() for spread in layers.values()])
        hardest = np.argsort(-ratios.max(axis=0), kind="stable")[:_HARDEST]
        axis.imshow(ratios[:, hardest], norm=norm, cmap="magma", aspect="auto", interpolation="nearest")
        axis.set_title(kind, fontsize=10)
        axis.set_xticks(range(len(hardest)), [str(column) for column in hardest], rotation=90, fontsize=6)
        numbers = list(layers)
        step = -(-len(numbers) // 12)
        labels = ["" if number < 0 else str(number) for number in numbers[::step]]
        axis.set_yticks(range(0, len(numbers), step), labels, fontsize=7)
        axis.set_xlabel("channel", fontsize=8)
        axis.set_ylabel("layer", fontsize=8)
    ticks = [0.25, 0.5, 1, 2, 4, 8, 16]
    figure.colorbar(
        ScalarMappable(norm, "magma"), ax=axes, fraction=0.03, extend="both", ticks=ticks, format="{x:g}"
    ).minorticks_off()
    return figure
