"""Vectors and scores through `Llama`, in llama-cpp-python's shapes."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_bert
import random_llama
from random_bert import CLS, END, LAST, MEAN, NONE, PLACES, RANK, START, WIDTH
from random_llama import nmse

from ggufpy import GgufpyError, Llama
from ggufpy.errors import ContextError, UnsupportedModelError


def open_bert(folder: Path, pooling: int = MEAN, head: str = "", **options: Any) -> Llama:
    path = random_bert.write(folder / "bert.gguf", pooling, head)
    return Llama(path, **{"embedding": True, "precision": "exact", "n_threads": 2, **options})


def test_one_text_or_several(tmp_path: Path) -> None:
    llm = open_bert(tmp_path)
    one, several = llm.embed("abc"), llm.embed(["abc", "de"])
    assert len(one) == WIDTH and all(isinstance(x, float) for x in one)
    assert several[0] == one and several[1] != one and len(several) == 2
    assert llm.embed([]) == []
    tokens = llm.tokenize(b"abc")
    mixed: Any = ["de", tokens]
    assert llm.embed(tokens) == one and llm.embed(mixed) == several[::-1]
    assert llm.embed("abc", return_count=True) == (one, len(tokens))
    assert llm.embed(["abc", "abc"], return_count=True)[1] == 2 * len(tokens)
    assert tokens[0] == START and tokens[-1] == END


def test_pooling_is_the_files_or_the_callers(tmp_path: Path) -> None:
    llm = open_bert(tmp_path, CLS)
    assert (llm.pooling_type(), llm.n_ctx(), llm.n_embd()) == (CLS, PLACES, WIDTH)
    rows = np.array(open_bert(tmp_path, CLS, pooling_type=NONE).embed("abc"))
    assert rows.shape == (len(llm.tokenize(b"abc")), WIDTH)
    for pooling, want in ((CLS, rows[0]), (LAST, rows[-1]), (MEAN, rows.mean(axis=0))):
        got = open_bert(tmp_path, NONE, pooling_type=pooling).embed("abc")
        assert nmse(np.array(got), want) < 1e-12
    assert nmse(np.array(llm.embed("abc")), rows[0]) < 1e-12


def test_normalize_gives_length_one(tmp_path: Path) -> None:
    plain, unit = (np.array(open_bert(tmp_path).embed("abc", normalize)) for normalize in (False, True))
    assert np.linalg.norm(unit) == pytest.approx(1) and np.linalg.norm(plain) > 2
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain), rtol=1e-5)
    rows = np.array(open_bert(tmp_path, NONE).embed("abc", normalize=True))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


def test_long_texts(tmp_path: Path) -> None:
    """Are cut, but for what ends them, or refused."""
    llm = open_bert(tmp_path, n_batch=20)
    tokens = llm.tokenize(b"x" * 50)
    output, count = llm.embed("x" * 50, return_count=True)
    assert count == 20 and output == llm.embed([*tokens[:19], END])
    with pytest.raises(ValueError, match=rf"Requested tokens \({len(tokens)}\) exceed batch size of 20"):
        llm.embed("x" * 50, truncate=False)
    with pytest.raises(ContextError):
        open_bert(tmp_path).embed("x" * 90, truncate=False)


def test_create_embedding(tmp_path: Path) -> None:
    llm = open_bert(tmp_path)
    tokens = llm.tokenize(b"de")
    mixed: Any = ["abc", tokens]
    response = llm.create_embedding(mixed, model="m")
    vectors = [llm.embed("abc"), llm.embed("de")]
    count = len(llm.tokenize(b"abc")) + len(tokens)
    assert response == {
        "object": "list",
        "data": [
            {"object": "embedding", "embedding": vector, "index": index}
            for index, vector in enumerate(vectors)
        ],
        "model": "m",
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }
    assert llm.create_embedding("abc")["data"][0]["embedding"] == vectors[0]
    assert llm.create_embedding("abc")["model"] == llm.model_path
    (item,) = llm.create_embedding("abc", encoding_format="base64")["data"]
    assert isinstance(item["embedding"], str)
    assert np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist() == vectors[0]
    (item,) = llm.create_embedding("abc", dimensions=5)["data"]
    part = np.array(vectors[0][:5])
    np.testing.assert_allclose(np.array(item["embedding"]), part / np.linalg.norm(part), rtol=1e-5)


@pytest.mark.parametrize("value", ["", [], [""], ["a", ""], [[]]], ids=str)
def test_nothing_to_embed(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="input: a text is empty, or there is none"):
        open_bert(tmp_path).create_embedding(value)


def test_bad_arguments(tmp_path: Path) -> None:
    llm: Any = open_bert(tmp_path)
    for call, message in (
        (lambda: llm.create_embedding("a", dimensions=65), "dimensions=65: must be from 1 to 64"),
        (lambda: llm.create_embedding("a", dimensions=0), "dimensions=0: must be from 1"),
        (lambda: llm.create_embedding("a", encoding_format="hex"), "encoding_format='hex': must be"),
        (lambda: llm.embed([5, 128]), "token 128 is not in the vocabulary of 128"),
        (lambda: llm.rank("a", ["b"]), "pools by mean, it does not rank; open a reranker"),
        (lambda: open_bert(tmp_path, pooling_type=7), r"pooling_type=7: must be -1 .* 4 \(rank\)"),
        (lambda: open_bert(tmp_path, attention_type=2), "attention_type=2: must be -1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call, message in (
        (lambda: llm.embed([b"a"]), "the input is bytes"),
        (lambda: llm.embed(None), "the input is None: must be text, or a list of tokens"),
        (lambda: llm.embed(iter(["a"])), "the input is <list_iterator .*: must be text"),
        (lambda: llm.create_embedding("a", dimensions=1.5), "dimensions=1.5"),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(UnsupportedModelError, match="has no classifier"):
        open_bert(tmp_path, pooling_type=RANK)


def test_what_a_model_was_not_opened_for(tmp_path: Path) -> None:
    path = random_llama.write(tmp_path / "llama.gguf", random_llama.arrays())
    with pytest.raises(GgufpyError, match="must be created with embedding=True to call this method"):
        Llama(path).embed("a")
    llm = Llama(path, embedding=True, n_ctx=0)
    assert len(llm.embed("a")[0]) == random_llama.WIDTH and llm.n_ctx() == random_llama.CONTEXT
    assert Llama(path, embedding=True, n_ctx=32).embed("x" * 99) == llm.embed(llm.tokenize(b"x" * 99)[:32])
    with pytest.raises(GgufpyError, match="opened with embedding=True, or closed"):
        llm("a")
    with pytest.raises(UnsupportedModelError, match=r"no logits; it gives embeddings: ask ggufpy embed"):
        open_bert(tmp_path, embedding=False)
    copy = pickle.loads(pickle.dumps(llm))
    assert copy.embed("a") == llm.embed("a")
    llm.close()
    with pytest.raises(GgufpyError, match="created with embedding=True"):
        llm.embed("a")


# ---- Ranking ----

DOCUMENTS = ["a document", "b", "another one", "x" * 99]


def test_rank(tmp_path: Path) -> None:
    llm = open_bert(tmp_path, RANK, "one label")
    response = llm.rank("query", DOCUMENTS, model="m")
    query, *texts = (llm.tokenize(text.encode())[1:-1] for text in ("query", *DOCUMENTS))
    pairs = [[START, *query, END, END, *text, END] for text in texts]
    pairs[3] = [*pairs[3][: PLACES - 1], END]
    scores = [score for (score,) in llm.embed(pairs)]
    order = np.argsort(scores)[::-1].tolist()
    count = sum(map(len, pairs))
    assert response == {
        "object": "list",
        "results": [{"index": i, "relevance_score": scores[i]} for i in order],
        "model": "m",
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }
    assert llm.rank("query", DOCUMENTS, 2)["results"] == response["results"][:2]
    shares = [each["relevance_score"] for each in llm.rank("query", DOCUMENTS, normalize=True)["results"]]
    np.testing.assert_allclose(shares, 1 / (1 + np.exp([-scores[i] for i in order])), rtol=1e-5)
    nothing: tuple[Any, ...] = ([], "abc")
    for documents in nothing:
        with pytest.raises(ValueError, match="documents must be a list of texts"):
            llm.rank("query", documents)


def test_shares_of_several_labels(tmp_path: Path) -> None:
    llm = open_bert(tmp_path, RANK, "a projection")
    (result,) = llm.rank("query", ["text"], normalize=True)["results"]
    query, text = (llm.tokenize(text)[1:-1] for text in (b"query", b"text"))
    labels = np.array(llm.embed([START, *query, END, END, *text, END]))
    assert result["relevance_score"] == pytest.approx(np.exp(labels[0]) / np.exp(labels).sum(), rel=1e-5)
