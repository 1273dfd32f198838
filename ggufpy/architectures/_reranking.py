"""Language models that rank texts by how likely "yes" is after them, and "no".

GGUF has the rows of these two tokens apart, as cls.output. Source: llama.cpp's converter, conversion/qwen.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures._conversion import Config, Metadata, check_supported, class_of, count
from ggufpy.architectures._names import Place, Way, when
from ggufpy.architectures._names import rows as rows_of
from ggufpy.architectures._pooling import RANK
from ggufpy.gguf import sources
from ggufpy.gguf.floats import decode
from ggufpy.gguf.tensors import TensorSource

# Added to a configuration, as it is not there: ids of "yes" and "no" in a model that is a reranker.
RERANKER_TOKENS = "reranker_token_ids"


def ranking_keys(config: Config) -> Metadata:
    """That a model ranks texts, and by what; raises UnsupportedModelError for other labels than yes."""
    is_classifier = class_of(config).endswith("ForSequenceClassification")
    if not is_classifier and RERANKER_TOKENS not in config:
        return {}
    if is_classifier:
        names = config.get("id2label")
        labels = len(names) if isinstance(names, dict) else count(config, "num_labels", 2)
        check_supported({"num_labels": labels}, "Qwen3 classifying", num_labels=(1,))
    return {"pooling_type": RANK, "classifier.output_labels": ["yes", "no"]}


def yes_and_no(head: str) -> Way:
    """Their rows of a head, (2, width), in a model that is a reranker."""

    def ids(place: Place) -> NDArray[np.int64]:
        return np.array(place.config[RERANKER_TOKENS], np.int64)

    return when(lambda place: RERANKER_TOKENS in place.config, rows_of(head, ids))


def score(name: str) -> Way:
    """A head with one row, which says by how much "yes" is ahead of "no": with zeros as that of "no"."""

    def make(place: Place, found: list[TensorSource]) -> TensorSource | None:
        (source,) = found
        if source.rows != 1:
            return source
        row = decode(source.read(0, 1), source.type)
        return sources.constant("", np.concatenate([row, np.zeros_like(row)]))

    return Way(lambda place: [place.filled(name)], make)
