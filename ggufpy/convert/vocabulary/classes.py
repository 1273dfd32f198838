"""What transformers' tokenizer classes know that the files of a checkpoint need not say.

Only for checkpoints without a tokenizer.json, which says all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What fairseq calls a SentencePiece model, whose ids it changes.
FAIRSEQ_FILE = "sentencepiece.bpe.model"

_GPT2 = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
_ROBERTA: dict[str, Any] = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
    "add_bos_token": True,
    "add_eos_token": True,
}

_BERT = {f"{part}_token": f"[{part.upper()}]" for part in ("unk", "sep", "pad", "cls", "mask")}

# Classes that read vocab.txt as BERT's; there are others, which cut by dictionaries.
BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer")

# What a tokenizer_config.json may leave out.
_DEFAULTS: dict[str, Mapping[str, Any]] = {
    "GPT2Tokenizer": _GPT2,
    "CodeGenTokenizer": _GPT2,
    "RobertaTokenizer": _ROBERTA,
    "XLMRobertaTokenizer": _ROBERTA,
    "Qwen2Tokenizer": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    **dict.fromkeys(BERT_CLASSES, _BERT),
    "T5Tokenizer": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
}

# model_type of config.json, where nothing names a class.
_BY_MODEL = {
    "gpt2": "GPT2Tokenizer",
    "phi": "CodeGenTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen2_moe": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "qwen3_moe": "Qwen2Tokenizer",
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "t5": "T5Tokenizer",
    "mt5": "T5Tokenizer",
    "umt5": "T5Tokenizer",
}


def class_of(folder: Path, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> str:
    """The class of a checkpoint's tokenizer, without "Fast", by its model where it is not named, or ""."""
    name = tokenizer_config.get("tokenizer_class")
    if isinstance(name, str) and name not in ("PreTrainedTokenizerFast", "TokenizersBackend"):
        return name.removesuffix("Fast")
    of_model = _BY_MODEL.get(str(config.get("model_type")), "")
    return "XLMRobertaTokenizer" if not of_model and (folder / FAIRSEQ_FILE).is_file() else of_model


def with_defaults(name: str, tokenizer_config: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer_config.json with what the class adds to it; what is null there is as good as left out."""
    given = {key: value for key, value in tokenizer_config.items() if value is not None}
    return {**_DEFAULTS.get(name, {}), **given}
