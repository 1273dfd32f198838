"""Texts and pairs of texts, as they reach the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import random_bert
import random_llama
from random_bert import END, MEAN, NONE, PLACES, RANK, START
from random_llama import nmse
from reference import Text as ReferenceText
from reference import decoded

from ggufpy.embedding.embedder import Embedder
from ggufpy.embedding.texts import Text
from ggufpy.errors import ContextError, GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import trace
from ggufpy.tokenizers import load_tokenizer

OPTIONS: dict[str, Any] = {"precision": "exact", "n_threads": 2, "n_ctx": PLACES}


def open_bert(folder: Path, pooling: int = MEAN, head: str = "", **options: Any) -> Embedder:
    file = GGUFFile.open(random_bert.write(folder / "bert.gguf", pooling, head))
    return Embedder(file, load_tokenizer(file.metadata), **{**OPTIONS, **options})


def tokens(text: str) -> list[int]:
    """Of a vocabulary of bytes; a space stands in front."""
    return [3 + byte for byte in text.encode()]


def test_many_texts_are_as_alone(tmp_path: Path) -> None:
    """Bit for bit, in their order, however they are grouped; there is no room for all at once."""
    embedder = open_bert(tmp_path)
    rng = np.random.default_rng(0)
    texts = [Text(rng.integers(0, 128, n).tolist()) for n in [*rng.integers(1, 9, 150), 80, 41, 41, 1]]
    together = embedder.embed(texts)
    for text, rows in zip(texts, together, strict=True):
        np.testing.assert_array_equal(embedder.embed([text])[0], rows)


def test_a_text_that_does_not_fit(tmp_path: Path) -> None:
    embedder = open_bert(tmp_path, n_batch=30)
    with pytest.raises(ContextError, match=r"Requested tokens \(31\) exceed batch size of 30; shorten"):
        embedder.embed([Text([5] * 31)])
    with pytest.raises(GgufpyError, match="text 2 of 2 has no tokens"):
        embedder.embed([Text([5]), Text([])])
    long = Text([START, *range(5, 50), END])
    assert embedder.reader.shortened(long, 30).tokens == [START, *range(5, 33), END]
    assert embedder.reader.shortened(Text(list(range(5, 50))), 30).tokens == list(range(5, 35))
    assert embedder.reader.shortened(Text([5] * 30), 30).tokens == [5] * 30


def test_pairs(tmp_path: Path) -> None:
    """As XLM-RoBERTa's: <s> a </s></s> b </s>."""
    embedder = open_bert(tmp_path, RANK, "one label")
    first, second = (embedder.reader.text(text).tokens[1:-1] for text in ("ab", "c"))
    pair = embedder.reader.pair("ab", "c")
    assert pair.tokens == [START, *first, END, END, *second, END]
    assert pair.second == len(first) + 3


def test_pairs_by_template(tmp_path: Path) -> None:
    """What stands in a text is not replaced."""
    template = "<s>q: {query} d: {document}</s>"
    path = random_llama.write(
        tmp_path / "m.gguf", random_llama.arrays(), tokenizer__chat_template__rerank=template
    )
    file = GGUFFile.open(path)
    tokenizer = load_tokenizer(file.metadata)
    embedder = Embedder(file, tokenizer, **{**OPTIONS, "n_ctx": 128})
    want = tokenizer.encode("<s>q: {document} d: x</s>", add_special=False, parse_special=True)
    assert embedder.reader.pair("{document}", "x").tokens == want
    assert want[0] == 1 and want[-1] == 2


class BertFile:
    """A file whose vocabulary tells a second text apart."""

    def __init__(self, file: GGUFFile) -> None:
        self._file = file
        self.metadata: Mapping[str, Any] = {**file.metadata, "tokenizer.ggml.model": "bert"}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_second_text_has_the_second_type(tmp_path: Path) -> None:
    """As in transformers; llama.cpp takes both for a first one."""
    file = GGUFFile.open(random_bert.write(tmp_path / "bert.gguf", NONE))
    tokenizer = load_tokenizer(file.metadata)
    embedder = Embedder(cast(GGUFFile, BertFile(file)), tokenizer, **OPTIONS)
    pair = Text(tokens("query and text"), second=6)
    graph, outputs = trace(file)
    tensors = decoded(file.tensors)
    types = tensors["token_types.weight"]
    rows = tensors["token_embd.weight"][pair.tokens]
    rows[6:] += types[1] - types[0]
    text = ReferenceText(tensors, [-1] * len(rows), given=rows)
    text.run(graph.nodes)
    assert nmse(embedder.embed([pair])[0], text[outputs["embeddings"]].astype(np.float32)) < 1e-10
    assert nmse(embedder.embed([Text(pair.tokens)])[0], text[outputs["embeddings"]].astype(np.float32)) > 1e-4


def test_attention_can_be_changed(tmp_path: Path) -> None:
    first = [
        open_bert(tmp_path, NONE, causal=causal).embed([Text([5, n])])[0][0]
        for causal in (None, True)
        for n in (6, 7)
    ]
    assert nmse(first[0], first[1]) > 1e-4
    np.testing.assert_array_equal(first[2], first[3])
