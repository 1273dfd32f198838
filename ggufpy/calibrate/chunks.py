"""Which chunks of texts a model is calibrated on."""

from __future__ import annotations

from collections.abc import Sequence

from ggufpy.errors import GgufpyError


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


def spread(chunks: Sequence[list[int]], most: int) -> list[list[int]]:
    """At most so many chunks, evenly from the first to the last."""
    count = min(most, len(chunks))
    return [chunks[(2 * i + 1) * len(chunks) // (2 * count)] for i in range(count)]
