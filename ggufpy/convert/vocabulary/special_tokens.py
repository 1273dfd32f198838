"""Which tokens begin, end, pad and fill in, and whether the model wants the first two added to a text.

The order in which sources count is llama.cpp's (gguf-py/gguf/vocab.py, SpecialVocab), except that what a
checkpoint adds to a text is found by encoding one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers

from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.tokenizers.special import BY_TEXT

# The part a token plays in a checkpoint: in the keys of GGUF.
_PARTS = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}


def special_tokens(
    files: TokenizerFiles, encoder: tokenizers.Tokenizer | None, tokens: list[str], adds_bos: bool
) -> dict[str, int | bool]:
    """The tokenizer.ggml.*_token_id and add_*_token keys.

    encoder is the checkpoint's tokenizer.json at work, if it has one; adds_bos is what readers of the file
    will do if it does not say.
    """
    by_text = {text: id for id, text in enumerate(tokens)}
    ids = _ids(files, by_text)
    flags = _flags(files)
    if encoder and files.tokenizer.get("post_processor"):
        flags |= _seen(encoder, ids, flags)
    elif encoder and adds_bos:
        flags.setdefault("bos", False)
    for part, texts in BY_TEXT.items():
        id = next((by_text[text] for text in texts if text in by_text), None)
        if id is not None and id != ids.get("eos"):
            ids[part] = id
    return {f"tokenizer.ggml.{part}_token_id": id for part, id in ids.items()} | {
        f"tokenizer.ggml.add_{part}_token": value for part, value in flags.items()
    }


def _ids(files: TokenizerFiles, by_text: Mapping[str, int]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for name, part in _PARTS.items():
        text = files.special_text(name)
        if text is not None and text in by_text:
            ids[part] = by_text[text]
    for source in (files.config, files.generation_config):
        for name, part in _PARTS.items():
            id: Any = source.get(f"{name}_token_id")
            if isinstance(id, list) and id:
                id = id[0]
            if isinstance(id, int) and not isinstance(id, bool) and 0 <= id < len(by_text):
                ids.setdefault(part, id)
    return ids


def _flags(files: TokenizerFiles) -> dict[str, bool]:
    values = {part: files.tokenizer_config.get(f"add_{part}_token") for part in ("bos", "eos")}
    return {part: value for part, value in values.items() if isinstance(value, bool)}


def _seen(encoder: tokenizers.Tokenizer, ids: dict[str, int], flags: Mapping[str, bool]) -> dict[str, bool]:
    """What the post-processor adds to a text; a token in front that nothing names is the BOS token."""
    plain = encoder.encode("a", add_special_tokens=False).ids
    full = encoder.encode("a").ids
    first, last = full[:1] != plain[:1], full[-1:] != plain[-1:]
    if first:
        ids.setdefault("bos", full[0])
    seen = {"bos": first and full[0] == ids["bos"]}
    if last or "eos" in flags:
        seen["eos"] = last and full[-1] == ids.get("eos")
    return seen
