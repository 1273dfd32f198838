"""How `ggufpy embed` prints vectors: for people, as JSON, or as bare numbers, as llama-embedding does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ggufpy.embedding.norms import similarities

Floats = NDArray[np.float32]

FORMATS = ("array", "json", "json+", "raw")

_SHOWN = 16  # values of each of several vectors, for people
_AT_EACH_END = 3  # of tokens' vectors


def formatted(rows: Floats, format: str, *, whole: bool = False) -> str:
    """Rows (n, width) in one of FORMATS; whole: numbers without decimals."""
    digits = 0 if whole else 7
    lists = [[f"{value:.{digits}f}" for value in row] for row in rows]
    if format == "raw":
        return "\n".join(map(" ".join, lists))
    arrays = [f"[{','.join(row)}]" for row in lists]
    if format == "array":
        return f"[{','.join(arrays)}]"
    data = ",\n".join(
        f'    {{\n      "object": "embedding",\n      "index": {i},\n      "embedding": {array}\n    }}'
        for i, array in enumerate(arrays)
    )
    cosines = ""
    if format == "json+" and len(rows) > 1:
        lines = ",\n".join(f"    [{', '.join(f'{x:6.2f}' for x in row)} ]" for row in similarities(rows))
        cosines = f',\n  "cosineSimilarity": [\n{lines}\n  ]'
    return f'{{\n  "object": "list",\n  "data": [\n{data}\n  ]{cosines}\n}}'


def readable(rows: Floats, prompts: Sequence[str], *, whole: bool = False) -> str:
    """The vector of one text, or the beginnings of several, and how alike they are."""
    shown = rows[:, :_SHOWN] if len(prompts) > 1 else rows
    lines = [f"embedding {i}: {_values(row, whole)}" for i, row in enumerate(shown)]
    if len(prompts) > 1:
        lines += ["", "cosine similarity matrix:", "", "".join(f"{prompt[:6]:>6} " for prompt in prompts)]
        for prompt, row in zip(prompts, similarities(rows), strict=True):
            lines.append("".join(f"{x:6.2f} " for x in row) + prompt[:10])
    return "\n".join(lines)


def readable_tokens(rows: Floats, *, whole: bool = False) -> str:
    """Beginning and end of each token's vector."""
    ends = (slice(_AT_EACH_END), slice(-_AT_EACH_END, None))
    return "\n".join(
        f"embedding {i}: {_values(row[ends[0]], whole)} ... {_values(row[ends[1]], whole)}"
        for i, row in enumerate(rows)
    )


def readable_scores(rows: Floats, labels: Sequence[str]) -> str:
    """The score of each text, or one for each label."""
    lines: list[str] = []
    for i, row in enumerate(rows):
        names = labels if len(labels) == len(row) else [str(label) for label in range(len(row))]
        endings = [""] if len(row) == 1 else [f" [{name}]" for name in names]
        lines += [f"rerank score {i}: {x:8.3f}{end}" for x, end in zip(row, endings, strict=True)]
    return "\n".join(lines)


def _values(row: Iterable[np.float32], whole: bool) -> str:
    return "".join(f"{value:6.0f} " if whole else f"{value:9.6f} " for value in row)
