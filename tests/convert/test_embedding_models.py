"""Checkpoints of encoders: what stands beside the weights, and what old and own code calls things."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conversion import logits
from oracle import Oracle
from random_llama import nmse
from tiny_checkpoints import FOLDER, TOKENS, Floats, Model

from ggufpy.architectures import nomic_bert
from ggufpy.convert import rerankers
from ggufpy.convert.pipeline import convert_checkpoint, plan_conversion
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.floats import decode
from ggufpy.gguf.reader import GGUFFile

Write = Callable[..., Path]


def check_with_llama_cpp(path: Path) -> None:
    """What llama.cpp makes of a text is what we make of it, where it is there."""
    if find_spec("xllamacpp"):
        with Oracle(path, n_ctx=64, kv_f32=True, embeddings=True) as oracle:
            want = oracle.embeddings(TOKENS)
        assert nmse(logits(path, TOKENS, "embeddings")[-1:], want) < 1e-6


@pytest.fixture
def write(tmp_path: Path, shipped_checkpoint: Path) -> Write:
    """Writes a checkpoint like one of `models/`, with other settings or tensors."""

    def make(
        name: str, changes: Mapping[str, Any] | None = None, weights: Mapping[str, Floats] | None = None
    ) -> Path:
        model = Model(FOLDER / f"{name}.json", "")
        tiny.write(tmp_path, shipped_checkpoint, {**model.config, **(changes or {})})
        tiny.save(tmp_path, weights or model.weights())
        return tmp_path

    return make


def modules(folder: Path, *kinds: str, **settings: Any) -> None:
    """A modules.json that names these behind the network; settings: of all of them."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for i, kind in enumerate(kinds, 1):
        listed.append({"idx": i, "name": f"{i}", "path": f"{i}_{kind}", "type": f"a.models.{kind}"})
        (folder / f"{i}_{kind}").mkdir()
        (folder / f"{i}_{kind}" / "config.json").write_text(json.dumps(settings))
    (folder / "modules.json").write_text(json.dumps(listed))


def keys_of(folder: Path) -> dict[str, Any]:
    return dict(plan_conversion(folder, outtype="f32").metadata)


# ---- Modules of sentence-transformers ----


@pytest.mark.parametrize(
    ("name", "settings", "pooling"),
    [
        ("bert", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, 1),
        ("bert", {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, 2),
        ("qwen3", {"pooling_mode_lasttoken": True, "include_prompt": True}, 3),
        ("qwen3", {"pooling_mode": "mean"}, 1),
    ],
    ids=str,
)
def test_pooling_is_read(write: Write, name: str, settings: dict[str, Any], pooling: int) -> None:
    folder = write(name)
    modules(folder, "Pooling", **settings)
    (path,) = convert_checkpoint(folder, outtype="f32")
    with GGUFFile.open(path) as file:
        assert file.metadata[f"{name}.pooling_type"] == pooling
    check_with_llama_cpp(path)


def test_a_norm_behind_is_noted(write: Write) -> None:
    folder = write("bert")
    modules(folder, "Pooling", "Normalize", pooling_mode_cls_token=True)
    assert plan_conversion(folder).notes == ["embeddings are to be normalized: embed(..., normalize=True)"]


@pytest.mark.parametrize(
    ("kinds", "settings", "message"),
    [
        (["Pooling"], {"pooling_mode_max_tokens": True}, "pooling of tokens by max_tokens is not supported"),
        (["Pooling"], {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "by cls_token and"),
        (["Pooling"], {}, "pooling of tokens by none"),
        (["Pooling"], {"pooling_mode": ["mean"]}, r"by \['mean'\] is not supported"),
        (["WeightedLayerPooling"], {}, "module 'WeightedLayerPooling' is not supported"),
        (["Dense"], {}, "module 'Dense' is not supported for this architecture"),
    ],
    ids=str,
)
def test_modules_that_cannot_be_said(
    write: Write, kinds: list[str], settings: dict[str, Any], message: str
) -> None:
    folder = write("bert")
    modules(folder, *kinds, **settings)
    with pytest.raises(UnsupportedModelError, match=message):
        plan_conversion(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "not a list of JSON objects"),
        ('[{"type": "a.Pooling", "path": "../x"}]', r"names '\.\./x', which is not a folder beside it"),
        ('[{"type": "a.Pooling", "path": ""}]', "names '', which is not a folder"),
        (f'[{{"type": "a.Pooling", "path": "{"x" * 300}"}}]', "names 'x{80}', which is not a folder"),
        ('[{"type": "a.Pooling", "path": "1_Pooling"}]', r"1_Pooling/config\.json: missing"),
        ('[{"type": 7}]', "module '7' is not supported"),
    ],
)
def test_damaged_modules(write: Write, text: str, message: str) -> None:
    folder = write("bert")
    (folder / "modules.json").write_text(text)
    with pytest.raises((FormatError, UnsupportedModelError), match=message):
        plan_conversion(folder)


def test_dense_layers(write: Write) -> None:
    """EmbeddingGemma's, behind the mean of all tokens."""
    folder = write("gemma-embedding")
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((2, 80, 64), np.float32) / 8
    modules(folder, "Pooling", pooling_mode_mean_tokens=True)
    listed = json.loads((folder / "modules.json").read_text())
    for i, matrix in ((2, dense[0]), (3, dense[1].T)):
        sizes = {"in_features": matrix.shape[1], "out_features": matrix.shape[0]}
        (folder / f"{i}_Dense").mkdir()
        (folder / f"{i}_Dense" / "config.json").write_text(json.dumps(sizes))
        tiny.save(folder / f"{i}_Dense", {"linear.weight": np.ascontiguousarray(matrix)})
        listed.append({"type": "a.Dense", "path": f"{i}_Dense"})
    (path,) = convert_checkpoint(folder, outtype="f32")
    plain = logits(path, TOKENS, "embeddings")
    (folder / "modules.json").write_text(json.dumps(listed))
    (path,) = convert_checkpoint(folder, outtype="f32")
    with GGUFFile.open(path) as file:
        keys = {key: value for key, value in file.metadata.items() if "_feat_" in key}
    assert list(keys.values()) == [64, 80, 80, 64]
    check_with_llama_cpp(path)
    want = plain.astype(np.float64) @ dense[0].T @ dense[1]
    assert nmse(logits(path, TOKENS, "embeddings"), want) < 1e-10

    for settings, message in (
        (
            {"activation_function": "torch.nn.modules.activation.Tanh"},
            r"activation '.*Tanh' is not supported",
        ),
        ({"in_features": 0, "out_features": 64}, "in_features is 0, it must be a positive number"),
        ({"in_features": 64, "out_features": 32}, r"'dense_2\.linear\.weight' has shape"),
    ):
        (folder / "2_Dense" / "config.json").write_text(json.dumps(settings))
        with pytest.raises((FormatError, UnsupportedModelError), match=message):
            plan_conversion(folder)
    (folder / "modules.json").write_text(json.dumps([*listed[:2], *[listed[3]] * 3]))
    with pytest.raises(UnsupportedModelError, match="a dense layer too many"):
        plan_conversion(folder)


# ---- Rerankers ----


def test_qwen3_reranker(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of the head, and the template, if the model says what it is."""
    folder = write("qwen3", {"_name_or_path": "Qwen/Qwen3-Reranker-0.6B"})
    with pytest.raises(FormatError, match="no tokens 'yes' and 'no'"):
        plan_conversion(folder)
    monkeypatch.setattr(rerankers, "_ANSWERS", ("5", "4"))
    (path,) = convert_checkpoint(folder, outtype="f32")
    with GGUFFile.open(path) as file:
        head, rows = (
            decode(source.read(0, source.rows), source.type)
            for source in (file.tensors[name].source() for name in ("output.weight", "cls.output.weight"))
        )
        tokens: Any = file.metadata["tokenizer.ggml.tokens"]
        yes, no = tokens.index("5"), tokens.index("4")
        np.testing.assert_array_equal(rows, head[[yes, no]])
        assert file.metadata["qwen3.pooling_type"] == 4
        assert file.metadata["qwen3.classifier.output_labels"] == ["yes", "no"]
        assert file.metadata["tokenizer.chat_template.rerank"] == rerankers.TEMPLATE
        assert file.metadata["tokenizer.chat_templates"] == ["rerank"]
    scores = logits(path, TOKENS, "embeddings")[-1]
    of_tokens = logits(path, TOKENS)[-1][[yes, no]].astype(np.float64)
    shares = np.exp(of_tokens) / np.exp(of_tokens).sum()
    assert nmse(scores, shares) < 1e-10
    check_with_llama_cpp(path)


def test_other_qwen3_is_no_reranker(write: Write) -> None:
    assert not any("rerank" in key or "pooling" in key for key in keys_of(write("qwen3")))


def test_qwen3_with_one_label(write: Write) -> None:
    """Which llama.cpp has as the first of two, so that softmax makes the sigmoid of it."""
    row = np.random.default_rng(1).standard_normal((1, 64), np.float32)
    weights = Model(FOLDER / "qwen3.json", "").weights()
    del weights["lm_head.weight"]
    changes = {
        "architectures": ["Qwen3ForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "tie_word_embeddings": True,
    }
    folder = write("qwen3", changes, {**weights, "score.weight": row})
    (path,) = convert_checkpoint(folder, outtype="f32")
    check_with_llama_cpp(path)
    scores = logits(path, TOKENS, "embeddings")[-1]
    bare = write("qwen3", {"architectures": ["Qwen3Model"], "tie_word_embeddings": True}, weights)
    (path,) = convert_checkpoint(bare, outtype="f32")
    score = float(logits(path, TOKENS, "embeddings")[-1].astype(np.float64) @ row[0])
    assert scores[0] == pytest.approx(1 / (1 + np.exp(-score)), abs=1e-5) and scores.sum() == pytest.approx(1)


def test_more_labels_of_a_language_model_are_refused(write: Write) -> None:
    changes = {"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 3}
    with pytest.raises(UnsupportedModelError, match="num_labels 3 is not supported"):
        plan_conversion(write("qwen3", changes))


def test_is_causal_is_written(write: Write) -> None:
    """Of a language model that was made an encoder."""
    (path,) = convert_checkpoint(write("qwen3", {"is_causal": False}), outtype="f32")
    rows = logits(path, TOKENS)
    other = logits(path, [*TOKENS[:-1], 3])
    assert nmse(other[:1], rows[:1]) > 1e-6  # the first token sees the last


# ---- Other words ----


def test_nomics_own_words() -> None:
    config = Model(FOLDER / "nomic-bert.json", "").config
    want = nomic_bert.metadata({**config, "max_position_embeddings": 2048})
    for theirs, ours in nomic_bert.OWN.items():
        config[ours] = config.pop(theirs, None)
    config |= {"n_positions": 8192, "max_trained_positions": 2048, "rotary_emb_base": 1000}
    config |= {"prenorm": False, "causal": False, "rotary_emb_fraction": 1.0, "activation_function": "swiglu"}
    assert nomic_bert.metadata({**config, "rope_parameters": None}) == want


def same_model(write: Write, name: str, changes: dict[str, Any], rename: Callable[[str], str]) -> None:
    weights = Model(FOLDER / f"{name}.json", "").weights()
    contents = []
    for settings, tensors in (({}, weights), (changes, {rename(key): x for key, x in weights.items()})):
        with GGUFFile.open(convert_checkpoint(write(name, settings, tensors), outtype="f32")[0]) as file:
            found = {tensor: info.data.tobytes() for tensor, info in file.tensors.items()}
            contents.append((dict(file.metadata), found))
    assert contents[0] == contents[1]


def test_norms_that_came_from_tensorflow(write: Write) -> None:
    def rename(name: str) -> str:
        return "bert." + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")

    same_model(write, "bert", {"architectures": ["BertForMaskedLM"]}, rename)


def test_adapted_jina(write: Write) -> None:
    """The model's own code keeps adapters for tasks beside each matrix."""

    def rename(name: str) -> str:
        is_adapted = name.endswith(".weight") and "norm" not in name and "_ln" not in name
        stem = name.removesuffix(".weight")
        return "roberta." + (f"{stem}.parametrizations.weight.original" if is_adapted else name)

    changes = {
        "architectures": ["XLMRobertaModel"],
        "lora_adaptations": ["retrieval.query"],
        "position_embedding_type": "rotary",
        "rotary_emb_base": 20000.0,
        "rope_parameters": None,
    }
    same_model(write, "jina-bert-v3", changes, rename)
    weights = Model(FOLDER / "jina-bert-v3.json", "").weights()
    lora = "roberta.encoder.layers.0.mlp.fc1.parametrizations.weight.0.lora_A"
    tensors = {rename(key): x for key, x in weights.items()} | {lora: np.zeros((1, 4, 64), np.float32)}
    (note,) = plan_conversion(write("jina-bert-v3", changes, tensors)).notes
    assert note.startswith(f"tensor '{lora[:80]}' left out")
