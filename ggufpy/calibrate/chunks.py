"""Which chunks of texts a model is calibrated on."""

from __future__ import annotations

from collections.abc import Sequence

from ggufpy.errors import GgufpyError

_JUDGES = 16


def mixed(kinds: Sequence[list[list[int]]], weights: Sequence[float]) -> list[list[int]]:
    """Chunks of all kinds of text, as many of each as the weights say of the whole, spread evenly.

    As many as the scarcest kind allows. Raises GgufpyError if that is none.
    """
    shares = [weight / max(weights) for weight in weights]
    scale = min(len(chunks) / max(share, 1e-300) for chunks, share in zip(kinds, shares, strict=True))
    counts = [int(scale * share + 1e-9) for share in shares]
    if not all(counts):
        few = min(range(len(kinds)), key=lambda i: counts[i])
        raise GgufpyError(
            f"text {few + 1} has {len(kinds[few])} chunks, too few for its share; give more text"
        )
    places = [
        ((number + 0.5) / count, kind, number) for kind, count in enumerate(counts) for number in range(count)
    ]
    return [kinds[kind][number] for _, kind, number in sorted(places)]


def held_back(chunks: Sequence[list[int]], most: int) -> tuple[list[list[int]], list[list[int]]]:
    """At most so many chunks, evenly spread, and others to judge by: an eighth of what there is, at most 16.

    Raises GgufpyError for a single chunk.
    """
    if len(chunks) < 2:
        raise GgufpyError("the text is one context, and what is made by one is judged by another; give more")
    count = min(_JUDGES, max(1, len(chunks) // 8))
    places = {(2 * i + 1) * len(chunks) // (2 * count) for i in range(count)}
    rest = [chunk for place, chunk in enumerate(chunks) if place not in places]
    return spread(rest, most), [chunks[place] for place in sorted(places)]


def spread(chunks: Sequence[list[int]], most: int) -> list[list[int]]:
    """At most so many chunks, evenly from the first to the last."""
    count = min(most, len(chunks))
    return [chunks[(2 * i + 1) * len(chunks) // (2 * count)] for i in range(count)]
