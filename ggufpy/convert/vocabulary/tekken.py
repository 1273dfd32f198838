"""Mistral's tekken.json: ranks of bytes as tiktoken's, with the special tokens in front of them."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.json_files import read_json
from ggufpy.convert.vocabulary.fast_form import FastForm, byte_level, recovered, split_steps
from ggufpy.convert.vocabulary.tokenizer_files import AddedToken
from ggufpy.errors import FormatError

# Of files that list none. Source: mistral-common 1.13, Tekkenizer.id_to_piece.
_SPECIAL = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]"),
    *("[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)
_NAMES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "add_bos_token": True,
}
_MOST, _MOST_SPECIAL = 1 << 22, 1 << 16  # tokens


def read_tekken(path: Path) -> FastForm:
    """The vocabulary in a tekken.json; raises FormatError."""
    data = read_json(path)
    try:
        config = data["config"]
        n_special, n_vocab = config["default_num_special_tokens"], config["default_vocab_size"]
        pattern = config["pattern"]
        if not (isinstance(pattern, str) and 0 < n_special <= _MOST_SPECIAL and n_special < n_vocab <= _MOST):
            raise ValueError(f"{n_special} special tokens of {n_vocab}")
        special = _special(data.get("special_tokens"), n_special)
        rows = data["vocab"][: n_vocab - n_special]
        ranks = {b64decode(row["token_bytes"], validate=True): n_special + row["rank"] for row in rows}
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise FormatError(f"{path}: not Mistral's ({exc!r:.100}); download it again") from exc
    if sorted(ranks.values()) != list(range(n_special, n_vocab)):
        problem = f"there are not {n_vocab - n_special} tokens, all different"
        raise FormatError(f"{path}: {problem}; download it again")
    vocab, merges = recovered(ranks, path)
    added = {id: AddedToken(text, special=True) for id, text in special.items()}
    steps = split_steps([pattern])
    return FastForm(path, byte_level(vocab, merges, steps, added, ignore_merges=True), _NAMES)


def _special(given: Any, count: int) -> dict[int, str]:
    """The special tokens by id; those that nothing names are fillers."""
    named = dict(enumerate(_SPECIAL)) if given is None else {row["rank"]: row["token_str"] for row in given}
    if not all(type(id) is int and isinstance(text, str) for id, text in named.items()):
        raise TypeError("special_tokens")
    return {id: named.get(id, f"<SPECIAL_{id}>") for id in range(count)}
