"""tokenizer.json of encoders: unigram in the forms of T5, XLM-RoBERTa and ALBERT, and WordPiece."""

from __future__ import annotations

import base64
import json
from typing import Any

from tiny_tokenizers import SENTENCES, sentencepiece_model

from ggufpy.tokenizers.charsmap import SCHEMA

FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


def metaspace(scheme: str = "always") -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": True}


def sequence(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: [*steps]}


def replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def template(*texts: str, ids: dict[str, int]) -> dict[str, Any]:
    single = [{"SpecialToken": {"id": text, "type_id": 0}} if text != "$A" else TEXT for text in texts]
    special = {text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in texts if text != "$A"}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
SPLIT = {"type": "WhitespaceSplit"}
CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "MAP"}  # of the model
# Normalizer and pre_tokenizer; whether a space is put in front, and whether neighbouring ones are merged.
FORMS: dict[str, tuple[Any, Any, bool, bool]] = {
    "T5": (CHARSMAP, sequence("pretokenizers", SPLIT, metaspace()), True, True),
    "XLM-RoBERTa": (sequence("normalizers", CHARSMAP, replace(" {2,}", " ")), metaspace(), True, True),
    "ALBERT": (
        sequence("normalizers", replace("``", '"'), {"type": "NFKD"}, {"type": "Lowercase"}, CHARSMAP),
        metaspace("first"),
        True,
        False,
    ),
    "bare": (None, metaspace("never"), False, False),
    "uncut": (replace(" ", "\u2581"), None, False, False),
}


def unigram(form: str, *, bytes_: bool = False) -> dict[str, Any]:
    """A tokenizer.json of SentencePiece's model, as transformers converts T5's."""
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": 3}
    size = {"vocab_size": 370 if bytes_ else 110, "byte_fallback": bytes_}
    model = sentencepiece_model("unigram", normalization_rule_name="nmt_nfkc", **size, **ids)
    proto = SCHEMA.ModelProto.FromString(model)
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    blocks = json.dumps(FORMS[form][:2]).replace("MAP", charsmap)
    normalizer, pre_tokenizer = json.loads(blocks)
    vocab = [[piece.piece, piece.score] for piece in proto.pieces]
    names = {"<pad>": 0, "</s>": 1, "<unk>": 2, "<s>": 3, "<mask>": len(vocab)}
    added = [{"id": id, "content": text, "special": True, **FLAGS} for text, id in names.items()]
    added[-1]["lstrip"] = True
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": template("<s>", "$A", "</s>", ids=names),
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": bytes_},
    }


NAMES = {"bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>", "pad_token": "<pad>"}


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}


def word_pieces(continues: str = "##") -> dict[str, Any]:
    """A tokenizer.json as BERT's."""
    words = " ".join(SENTENCES).split()
    letters = sorted({letter for word in words for letter in word + word.lower()})
    texts = [*SPECIAL, *letters, *(continues + letter for letter in letters), *dict.fromkeys(words)]
    vocab = {text: id for id, text in enumerate(dict.fromkeys(texts))}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": continues}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": id, "content": text, "special": True, **FLAGS} for id, text in enumerate(SPECIAL)
        ],
        "normalizer": {**BERT, "strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template("[CLS]", "$A", "[SEP]", ids=vocab),
        "decoder": None,
        "model": {**model, "max_input_chars_per_word": 100, "vocab": vocab},
    }
