"""Vectors and scores of texts, under llama-cpp-python's names: a part of `Llama`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from ggufpy.api.arguments import check_integers, prompts_of
from ggufpy.api.low_level import LowLevel
from ggufpy.embedding.embedder import POOLINGS, Embedder
from ggufpy.embedding.norms import normalized
from ggufpy.embedding.texts import Text
from ggufpy.errors import GgufpyError

Input = str | Sequence[int] | Sequence[str | Sequence[int]]
Vector = list[float] | list[list[float]]


class EmbeddingUsage(TypedDict):
    """Counts of tokens."""

    prompt_tokens: int
    total_tokens: int


class Embedding(TypedDict):
    """A text's vector, or one for each token where the model does not pool; base64: little-endian f32."""

    object: Literal["embedding"]
    embedding: Vector | str
    index: int


class EmbeddingResponse(TypedDict):
    """Vectors in the order of the texts, as OpenAI's API has them."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Rank(TypedDict):
    """How well the document of that number answers."""

    index: int
    relevance_score: float


class RankResponse(TypedDict):
    """Documents, the best first, as Jina's API has them."""

    object: Literal["list"]
    results: list[Rank]
    model: str
    usage: EmbeddingUsage


class Embeddings(LowLevel):
    """What a model opened with `embedding=True` can do."""

    def pooling_type(self) -> int:
        """What is made of a text's tokens, in llama.cpp's numbers: 0 none, 1 mean, 2 cls, 3 last, 4 rank."""
        return POOLINGS.index(self._embedder.pooling)

    def embed(
        self, input: Input, normalize: bool = False, truncate: bool = True, return_count: bool = False
    ) -> Any:
        """The vector of a text, or of a list of tokens; a list of vectors for several of these.

        It is a list of floats, or one for each token if the model does not pool. normalize: to length 1.
        truncate: of texts longer than n_batch, take the beginning. return_count: return the number of tokens,
        too.

        Raises ContextError, a ValueError, for a text that is too long, GgufpyError for one without tokens.
        """
        texts = self._texts_of(input, truncate=truncate)
        rows = self._embedder.embed(texts)
        pools = self._embedder.pooling != "none"
        lists = [normalized(each, 2 if normalize else -1).tolist() for each in rows]
        vectors = [each[0] if pools else each for each in lists]
        single = isinstance(input, str) or (len(input) > 0 and isinstance(input[0], int))
        output = vectors[0] if single else vectors
        return (output, sum(len(text.tokens) for text in texts)) if return_count else output

    def create_embedding(
        self,
        input: Input,
        model: str | None = None,
        *,
        encoding_format: Literal["float", "base64"] = "float",
        dimensions: int | None = None,
    ) -> EmbeddingResponse:
        """Vectors of one or several texts, or lists of tokens, in the form of OpenAI's API.

        They are as the model gives them; with `dimensions` the first so many values, at length 1.
        encoding_format: "base64" for little-endian f32.

        Raises ValueError for a text that is empty, and for more dimensions than there are.
        """
        if encoding_format not in ("float", "base64"):
            raise ValueError(f"encoding_format={encoding_format!r}: must be 'float' or 'base64'")
        check_integers("create_embedding", {"dimensions": dimensions})
        inputs = prompts_of(input, "input")
        if not all(inputs):
            raise ValueError("input: a text is empty, or there is none")
        texts = self._texts_of(inputs, truncate=True)
        pools = self._embedder.pooling != "none"
        data: list[Embedding] = []
        for index, rows in enumerate(self._embedder.embed(texts)):
            rows = _cut(rows, dimensions)
            vector: Any = _base64(rows) if encoding_format == "base64" else rows.tolist()
            vector = vector[0] if pools and encoding_format == "float" else vector
            data.append({"object": "embedding", "embedding": vector, "index": index})
        return {
            "object": "list",
            "data": data,
            "model": model or self.model_path,
            "usage": _usage(texts),
        }

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_n: int | None = None,
        *,
        normalize: bool = False,
        model: str | None = None,
    ) -> RankResponse:
        """How well each document answers a query, the best first, by a model that ranks.

        top_n: so many only. The score is the classifier's first label, as llama.cpp's server gives it;
        normalize: as a share, from 0 to 1. Pairs longer than n_batch are cut at the end of the document.

        Raises ValueError for a model that does not rank, and where there are no documents.
        """
        embedder = self._embedder
        if embedder.pooling != "rank":
            remedy = "open a reranker, or with pooling_type=4 a model that has a classifier"
            raise ValueError(f"rank: this model pools by {embedder.pooling}, it does not rank; {remedy}")
        check_integers("rank", {"top_n": top_n})
        texts_only = all(isinstance(text, str) for text in [query, *documents])
        if not documents or isinstance(documents, str) or not texts_only:
            raise ValueError("rank: query must be a text, documents must be a list of texts, one at least")
        reader, most = embedder.reader, embedder.most
        texts = [reader.shortened(reader.pair(query, document), most) for document in documents]
        rows = [_shares(each[0]) if normalize else each[0] for each in embedder.embed(texts)]
        scores = [float(labels[0]) for labels in rows]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[:top_n]
        results: list[Rank] = [{"index": i, "relevance_score": scores[i]} for i in order]
        return {
            "object": "list",
            "results": results,
            "model": model or self.model_path,
            "usage": _usage(texts),
        }

    @property
    def _embedder(self) -> Embedder:
        if self._embeds is None:
            problem = "Llama model must be created with embedding=True to call this method"
            raise GgufpyError(f"{self.model_path}: {problem}")
        return self._embeds

    def _texts_of(self, input: Any, *, truncate: bool) -> list[Text]:
        reader, most = self._embedder.reader, self._embedder.most
        prompts = [] if input == [] else prompts_of(input, "input")
        texts = [reader.text(each) if isinstance(each, str) else Text(list(each)) for each in prompts]
        return [reader.shortened(text, most) for text in texts] if truncate else texts


def _usage(texts: Sequence[Text]) -> EmbeddingUsage:
    count = sum(len(text.tokens) for text in texts)
    return {"prompt_tokens": count, "total_tokens": count}


def _cut(rows: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
    """The first values of each row, at length 1; raises ValueError for more than there are."""
    if dimensions is None:
        return rows
    if not 0 < dimensions <= rows.shape[1]:
        raise ValueError(f"dimensions={dimensions}: must be from 1 to {rows.shape[1]}")
    return normalized(rows[:, :dimensions], 2)


def _shares(labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax of several labels, unless they are shares; of one label the sigmoid."""
    if len(labels) == 1:
        labels = np.append(labels, np.float32(0))
    elif labels.min() >= 0 and abs(float(labels.sum()) - 1) < 1e-5:
        return labels
    values = np.exp(labels - labels.max())
    shares: NDArray[np.float32] = values / values.sum()
    return shares


def _base64(rows: NDArray[np.float32]) -> str:
    return base64.b64encode(rows.astype("<f4").tobytes()).decode()
