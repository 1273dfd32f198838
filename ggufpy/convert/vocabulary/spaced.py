"""BPE of a tokenizer.json that writes spaces as U+2581: Llama's and Gemma's.

GGUF has two kinds for it. "llama" is SentencePiece's, which merges by scores any two neighbours that make a
token, and may put a space in front of a text. The other merges by a list, as `tokenizers` does, for what
scores do not say: "gemma4" for the architecture of that name, as it always starts a text with BOS, and else
"gpt2" with the name of Sarvam's. Where both would be needed, it is "llama", and the merges have our own key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import tokenizers

from ggufpy.convert.vocabulary.normalizing import normalizer_key, normalizer_steps
from ggufpy.convert.vocabulary.pre_tokenizer import NO_STEPS, steps_of
from ggufpy.convert.vocabulary.scoring import scores_of, scores_say
from ggufpy.convert.vocabulary.tables import ADDED_SCORE, VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import AddedToken, TokenizerFiles
from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.escaped import SPACE
from ggufpy.tokenizers.libraries import errors_of_rust
from ggufpy.tokenizers.special import ADDED_KEY, FUSE_UNKNOWN_KEY, MERGES_KEY, PRE_TOKENIZER_KEY
from ggufpy.tokenizers.types import BYTE, TokenType

_PARTS = ("normalizer", "pre_tokenizer", "decoder")

_ESCAPE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREFIX = {"type": "Prepend", "prepend": SPACE}

Merges = Sequence[tuple[str, str]]


def read_spaced(
    files: TokenizerFiles,
    encoder: tokenizers.Tokenizer,
    vocab: Mapping[str, int],
    merges: Merges,
    pieces: Mapping[str, float],
) -> VocabularyTable:
    """The vocabulary; pieces: the scores of a SentencePiece model beside it.

    Raises UnsupportedModelError for a tokenizer that does not write spaces so.
    """
    if SPACE not in json.dumps([files.tokenizer.get(part) for part in _PARTS], ensure_ascii=False):
        problem = "BPE that writes neither bytes as letters nor spaces as U+2581"
        raise UnsupportedModelError(f"{files.path}: {problem}, which GGUF cannot express")
    table = VocabularyTable("llama", "default", files.vocab_size(vocab.values()))
    _put_trained(table, files, vocab)
    made = {text for text, id in vocab.items() if table.types[id] == TokenType.NORMAL}
    added = files.added_tokens().values()
    _put_added(table, files.added_tokens())
    with errors_of_rust(f"{files.path}: not a tokenizer", "download it again"):
        first = encoder.encode("a", add_special_tokens=False).tokens[:1]
    table.add_space_prefix = any(token.startswith(SPACE) for token in first)
    cut_out = {
        token.text for token in added if not (token.normalized or token.single_word or _is_spaced(token))
    }
    scores = _scores(made | {token.text for token in added if _is_spaced(token)}, merges, pieces, cut_out)
    is_gemma4 = str(files.config.get("model_type")).startswith("gemma4")
    if is_gemma4 or not _is_sentencepieces(table, merges, scores):
        table.kind, table.pre = ("gemma4", "") if is_gemma4 else ("gpt2", "sarvam-moe")
        _list_merges(table, merges)
    else:
        _put_scores(table, scores or scores_of(table.tokens, merges))
        table.own_keys |= {} if scores else {MERGES_KEY: _written(merges)}
    if not _is_plain(files, table.merges):
        table.own_keys |= normalizer_key(files.tokenizer) | _cutting(files, at_lines=bool(table.merges))
    if table.unknown_id is not None and not files.tokenizer["model"].get("fuse_unk"):
        table.own_keys |= _apart(table)
    return table


def _apart(table: VocabularyTable) -> dict[str, Value]:
    """The key for unknown characters that are a token each; none if bytes stand for all of them."""
    return {} if table.types.count(TokenType.BYTE) == 256 else {FUSE_UNKNOWN_KEY: False}


def _put_trained(table: VocabularyTable, files: TokenizerFiles, vocab: Mapping[str, int]) -> None:
    model = files.tokenizer["model"]
    for text, id in vocab.items():
        if text == model.get("unk_token"):
            table.put(id, text, TokenType.UNKNOWN)
            table.unknown_id = id
        elif model.get("byte_fallback") and BYTE.fullmatch(text):
            table.put(id, text, TokenType.BYTE)
        else:
            table.put(id, text, TokenType.NORMAL)


def _put_added(table: VocabularyTable, added: Mapping[int, AddedToken]) -> None:
    """U+2581 is a space in ordinary tokens only, so added ones that have it are ordinary, and get a key."""
    table.put_added({id: token for id, token in added.items() if not _is_spaced(token)})
    spaced = sorted(id for id, token in added.items() if _is_spaced(token) and id < table.size)
    for id in spaced:
        table.put(id, added[id].text, TokenType.NORMAL, ADDED_SCORE)
    if spaced:
        table.own_keys[ADDED_KEY] = spaced


def _is_spaced(token: AddedToken) -> bool:
    return SPACE in token.text and not token.special


def _scores(
    made: set[str], merges: Merges, pieces: Mapping[str, float], cut_out: set[str]
) -> Mapping[str, float] | None:
    """Scores by which merging makes the same as the merges; None if there are no such scores.

    pieces: scores that are preferred. made: what merging by scores may make.
    """
    for scores in (pieces, scores_of(made, merges)):
        if scores.keys() >= made:
            scores = {text: scores[text] for text in made}
            if scores_say(merges, scores, cut_out):
                return scores
    return None


def _put_scores(table: VocabularyTable, scores: Mapping[str, float]) -> None:
    for id, (text, type) in enumerate(zip(table.tokens, table.types, strict=True)):
        if type == TokenType.NORMAL:
            table.scores[id] = scores[text]


def _is_sentencepieces(table: VocabularyTable, merges: Merges, scores: Mapping[str, float] | None) -> bool:
    """Whether its kind is nearest: the only one that puts a space in front, and needs an unknown token."""
    return table.unknown_id is not None and (scores is not None or (table.add_space_prefix and bool(merges)))


def _list_merges(table: VocabularyTable, merges: Merges) -> None:
    """Make it a vocabulary whose scores say nothing."""
    table.scores = [ADDED_SCORE] * table.size
    table.merges = _written(merges)
    if table.unknown_id is not None:
        table.types[table.unknown_id] = TokenType.CONTROL


def _written(merges: Merges) -> list[str]:
    """As files have them, without those of spaces, which are written as U+2581 before."""
    return [f"{left} {right}" for left, right in merges if " " not in left + right]


def _is_plain(files: TokenizerFiles, merges: Sequence[str]) -> bool:
    """Whether spaces are treated as readers of the file do without being told.

    merges: as written, of the kind that cuts texts at ends of lines, which are not in its tokens then.
    """
    steps = normalizer_steps(files.tokenizer)
    cuts = steps_of(files.tokenizer.get("pre_tokenizer"))
    at_spaces = all(cut.get("type") == "Split" and cut.get("pattern") == {"String": " "} for cut in cuts)
    if any("\n" in merge and merge.strip("\n ") for merge in merges):
        return False
    if merges and not files.tokenizer["model"].get("byte_fallback"):
        return False  # they know bytes by their texts
    return at_spaces and steps in ([_ESCAPE], [_ESCAPE] if merges else [_PREFIX, _ESCAPE])


def _cutting(files: TokenizerFiles, *, at_lines: bool) -> dict[str, Value]:
    """The key for the pre_tokenizer; at_lines: without it, readers cut at ends of lines."""
    block = files.tokenizer.get("pre_tokenizer") or (NO_STEPS if at_lines else None)
    return {PRE_TOKENIZER_KEY: json.dumps(block, ensure_ascii=False)} if block else {}
