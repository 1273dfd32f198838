"""Small tokenizers, trained here in a moment, as the checkpoints that they would belong to."""

from __future__ import annotations

import io
import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from ggufpy.convert.vocabulary.reading import check_vocabulary, read_vocabulary
from ggufpy.gguf.values import Typed
from ggufpy.tokenizers.pretokenizers import LLAMA3

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind at all.",
    "I'm sure that they'll say it's fine; we've seen 1234 of them since 2019.",
    "def function(argument):\n    return argument + 1  # a comment\n\n\tif not argument:\n        pass",
    "Wer reitet so sp\u00e4t durch Nacht und Wind? Es ist der Vater mit seinem Kind.",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3002 \u4f60\u597d\uff0c\u4e16\u754c\uff01"
    " \u041f\u0440\u0438\u0432\u0435\u0442",
    "aaaa bbbb  cccc   dddd    eeee 11 222 3333 44444 ... !!! ??? === ((( )))",
)
SPECIALS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")


def byte_level_json(
    regexes: Sequence[str] = (LLAMA3,), *, vocab_size: int = 400, specials: Sequence[str] = SPECIALS
) -> dict[str, Any]:
    """A byte-level BPE tokenizer.json; the special tokens come behind the others."""
    splits = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in regexes]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens(list(specials))
    return _json(tokenizer)


def spaces_json(*, prefix: bool = True, vocab_size: int = 400, all_merges: bool = True) -> dict[str, Any]:
    """A tokenizer.json of BPE with byte tokens that writes spaces as U+2581, as Llama 2's was converted.

    all_merges: each way to make a token is a merge, as where it comes from SentencePiece.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", "\u2581")]
    if prefix:
        steps.insert(0, normalizers.Prepend("\u2581"))
    tokenizer.normalizer = normalizers.Sequence(steps)
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size + 256,
        show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>", *byte_tokens],
    )
    tokenizer.train_from_iterator(SENTENCES[:3], trainer)
    result = _json(tokenizer)
    result["added_tokens"] = [token for token in result["added_tokens"] if token["id"] < 3]
    if all_merges:
        made = ["".join(merge) for merge in result["model"]["merges"]]
        result["model"]["merges"] = [
            merge for token in made for merge in _ways(token, result["model"]["vocab"])
        ]
    return result


def json_of_sentencepiece(model: bytes) -> dict[str, Any]:
    """The tokenizer.json that a SentencePiece model of BPE becomes, as transformers 4 converts Llama's."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocab = {processor.IdToPiece(id): id for id in range(processor.vocab_size())}
    made = sorted(
        (token for token in vocab if len(token) > 1), key=lambda token: -processor.GetScore(vocab[token])
    )
    result = spaces_json()
    result["model"] |= {"vocab": vocab, "merges": [merge for token in made for merge in _ways(token, vocab)]}
    return result


def _ways(token: str, vocab: Container[str]) -> list[list[str]]:
    """The pairs of tokens that make a token."""
    pairs = [[token[:i], token[i:]] for i in range(1, len(token))]
    return [pair for pair in pairs if pair[0] in vocab and pair[1] in vocab]


def sentencepiece_model(kind: str = "bpe", **options: Any) -> bytes:
    """A SentencePiece model as llama's are made, changed by `options` of its trainer."""
    model = io.BytesIO()
    defaults: dict[str, Any] = {
        "vocab_size": 400,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=model,
        model_type=kind,
        **{**defaults, **options},
    )
    return model.getvalue()


def write_checkpoint(
    folder: Path,
    tokenizer: dict[str, Any] | bytes | None,
    tokenizer_config: dict[str, Any] | None = None,
    **files: str,
) -> Path:
    """Put a tokenizer into `folder`: a dict as tokenizer.json, bytes as tokenizer.model; `files` are JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, bytes):
        (folder / "tokenizer.model").write_bytes(tokenizer)
    elif tokenizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config or {}), "utf-8")
    for stem, text in files.items():
        (folder / f"{stem}.json").write_text(text, "utf-8")
    return folder


def _json(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(tokenizer.to_str())
    return result


def converted(folder: Path, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """The metadata, plain values; it must pass the check that conversions make."""
    metadata = read_vocabulary(folder, config or {})
    check_vocabulary(folder, metadata)
    return {key: value.value if isinstance(value, Typed) else value for key, value in metadata.items()}


def spm_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a SentencePiece vocabulary whose last token is <|im_end|>."""
    added = {"400": {"content": "<|im_end|>", "special": True}}
    config = {"bos_token": "<s>", "eos_token": "</s>", "added_tokens_decoder": added}
    return dict(read_vocabulary(write_checkpoint(folder, sentencepiece_model(), config), {}))


def bpe_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a byte-level vocabulary whose last token is <|im_end|>."""
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    return dict(read_vocabulary(write_checkpoint(folder, byte_level_json(), config), {}))
