"""Unigram models of SentencePiece: T5's, and XLM-RoBERTa's with its ids of fairseq."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tiny_tokenizers import byte_level_json, converted, sentencepiece_model, write_checkpoint

from ggufpy.convert.vocabulary.reading import read_vocabulary
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.tokenizers import Tokenizer, load_tokenizer
from ggufpy.tokenizers.charsmap import SCHEMA

KEY = "tokenizer.ggml."
LETTERS = "abdefhirtw \u2581\n\t\u00fc\u0301\u6587\u7ae0\u3000\ufb01\U0001f600.,1"
TEXTS = st.text(st.sampled_from(LETTERS), max_size=40)
UNKNOWN, CONTROL = 2, 3


def unigram(**options: Any) -> bytes:
    """As T5's: <pad>, </s> and <unk> first, characters in their usual forms, neighbouring spaces merged."""
    of_t5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "byte_fallback": False, "vocab_size": 110}
    normal = {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True, "split_digits": False}
    return sentencepiece_model("unigram", **{**of_t5, **normal, **options})


@pytest.fixture(scope="module")
def model() -> bytes:
    return unigram()


def write(folder: Path, name: str, model: bytes, model_type: str) -> dict[str, Any]:
    write_checkpoint(folder, None, config=f'{{"model_type": "{model_type}"}}')
    (folder / name).write_bytes(model)
    return converted(folder, {"model_type": model_type})


@pytest.fixture(scope="module")
def t5(model: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write(tmp_path_factory.mktemp("t5"), "spiece.model", model, "t5")


@pytest.fixture(scope="module")
def both(model: bytes, t5: dict[str, Any]) -> tuple[SentencePieceProcessor, Tokenizer]:
    return SentencePieceProcessor(model_proto=model), load_tokenizer(t5)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_ids_are_sentencepieces(both: tuple[SentencePieceProcessor, Tokenizer], text: str) -> None:
    processor, ours = both
    assert ours.encode(text) == [*processor.EncodeAsIds(text), 1]


def test_keys_are_llama_cpps(t5: dict[str, Any]) -> None:
    assert [key.removeprefix(KEY) for key in list(t5)[:8]] == [
        *("model", "pre", "tokens", "scores", "token_type"),
        *("add_space_prefix", "remove_extra_whitespaces", "precompiled_charsmap"),
    ]
    assert [t5[KEY + key] for key in ("model", "pre")] == ["t5", "default"]
    assert t5[KEY + "add_space_prefix"] is t5[KEY + "remove_extra_whitespaces"] is True
    assert t5[KEY + "tokens"][:3] == ["<pad>", "</s>", "<unk>"]
    assert t5[KEY + "token_type"][:3] == [CONTROL, CONTROL, UNKNOWN]
    assert t5[KEY + "tokens"][-1] == "<extra_id_0>" and len(t5[KEY + "tokens"]) == 210
    ids = {part: t5[f"{KEY}{part}_token_id"] for part in ("eos", "unknown", "padding")}
    assert ids == {"eos": 1, "unknown": 2, "padding": 0}


def test_extra_ids_are_as_many_as_there_are(tmp_path: Path, model: bytes) -> None:
    for name, config, found in (
        ("none", {"extra_ids": 0}, []),
        ("two", {"extra_ids": 2}, ["<extra_id_1>", "<extra_id_0>"]),
        ("named", {"added_tokens_decoder": {"110": {"content": "<x>", "special": True}}}, ["<x>"]),
    ):
        folder = write_checkpoint(tmp_path / name, None, {"tokenizer_class": "T5Tokenizer", **config})
        (folder / "spiece.model").write_bytes(model)
        assert converted(folder, {"model_type": "t5"})[KEY + "tokens"][110:] == found


def test_fairseqs_ids(tmp_path: Path) -> None:
    usual = {"pad_id": -1, "unk_id": 0, "bos_id": 1, "eos_id": 2}
    model = unigram(**usual)
    metadata = write(tmp_path, "sentencepiece.bpe.model", model, "xlm-roberta")
    tokens, processor = metadata[KEY + "tokens"], SentencePieceProcessor(model_proto=model)
    assert tokens[:4] == ["<s>", "<pad>", "</s>", "<unk>"] and tokens[-1] == "<mask>"
    assert tokens[4:-1] == [processor.IdToPiece(id) for id in range(3, 110)]
    assert metadata[KEY + "token_type"][:4] == [CONTROL, CONTROL, CONTROL, UNKNOWN]
    wanted = [0, *(id + 1 if id else 3 for id in processor.EncodeAsIds("The fox \u2603")), 2]
    assert load_tokenizer(metadata).encode("The fox \u2603") == wanted and 3 in wanted
    assert load_tokenizer(metadata).encode("a  <mask>", parse_special=True)[-2] == 111
    assert metadata["ggufpy.lstrip_token_ids"] == [111]


def test_xlm_roberta_is_what_llama_cpp_writes(tmp_path: Path, shared: Path) -> None:
    with GGUFFile.open(shared / "conformance" / "vocab" / "ggml-vocab-nomic-bert-moe.gguf") as file:
        theirs: dict[str, Any] = {key: file.metadata[key] for key in file.metadata if key.startswith(KEY)}
    charsmap = bytes(theirs[KEY + "precompiled_charsmap"])
    model = SCHEMA.ModelProto(
        normalizer_spec=SCHEMA.NormalizerSpec(precompiled_charsmap=charsmap),
        trainer_spec=SCHEMA.TrainerSpec(model_type=SCHEMA.TrainerSpec.UNIGRAM),
    )
    for text, type in (("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)):
        model.pieces.add(piece=text, score=0, type=type)
    for text, score in zip(theirs[KEY + "tokens"][4:250001], theirs[KEY + "scores"][4:250001], strict=True):
        model.pieces.add(piece=text, score=score)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model.SerializeToString())
    ours: dict[str, Any] = dict(
        read_vocabulary(tmp_path, {"model_type": "xlm-roberta", "vocab_size": 250048})
    )
    ours[KEY + "precompiled_charsmap"] = ours[KEY + "precompiled_charsmap"].value
    del theirs[KEY + "token_type_count"]  # is the network's
    tokens = [metadata.pop(KEY + "tokens")[:250002] for metadata in (ours, theirs)]  # others are padding
    assert tokens[0] == tokens[1]
    assert theirs.items() <= ours.items()


def test_a_tokenizer_json_counts_before_a_unigram_model(tmp_path: Path, model: bytes) -> None:
    folder = write_checkpoint(tmp_path, byte_level_json())
    (folder / "spiece.model").write_bytes(model)
    assert converted(folder)[KEY + "model"] == "gpt2"


def test_what_is_refused(tmp_path: Path, model: bytes) -> None:
    letters = write_checkpoint(
        tmp_path / "letters", sentencepiece_model("char", vocab_size=400, hard_vocab_limit=False)
    )
    with pytest.raises(UnsupportedModelError, match="of kind CHAR; ggufpy converts BPE and UNIGRAM"):
        read_vocabulary(letters, {})
    camembert = write_checkpoint(tmp_path / "c", None, {"tokenizer_class": "CamembertTokenizer"})
    (camembert / "sentencepiece.bpe.model").write_bytes(model)
    with pytest.raises(UnsupportedModelError, match="CamembertTokenizer, whose ids are not known; load it"):
        read_vocabulary(camembert, {})
    (camembert / "sentencepiece.bpe.model").write_bytes(b"x")
    with pytest.raises(FormatError, match="not a SentencePiece model"):
        read_vocabulary(camembert, {})
