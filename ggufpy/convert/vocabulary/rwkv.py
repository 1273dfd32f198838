"""RWKV's vocabularies: in each line an id, a literal of Python, and how many bytes that has.

Tokens, and which of them have a part to play, are as llama.cpp's converter writes them (conversion/rwkv.py).
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

from ggufpy.convert.vocabulary.fast_form import check_bytes
from ggufpy.convert.vocabulary.tables import VocabularyTable
from ggufpy.convert.vocabulary.tokenizer_files import TokenizerFiles
from ggufpy.errors import FormatError
from ggufpy.gguf.values import Value
from ggufpy.tokenizers.types import TokenType

_END = "<s>"  # token 0, which the file does not have: it begins texts, and ends them
_TURN_END = b"\n\n"
_LONGEST = 4096  # bytes of a line


def rwkv_path(folder: Path) -> Path | None:
    """The vocabulary of a checkpoint, if it is RWKV's."""
    return min(folder.glob("rwkv_vocab*.txt"), default=None)


def read_rwkv(files: TokenizerFiles, path: Path) -> VocabularyTable:
    """The vocabulary in a file; raises FormatError, TokenizerError for tokens without a row."""
    tokens = rwkv_tokens(path)
    table = VocabularyTable("rwkv", "", files.vocab_size([0, *tokens.values()]))
    table.put(0, _END, TokenType.CONTROL)
    for token, id in tokens.items():
        table.put(id, rwkv_text(token), TokenType.NORMAL)
    return table


def rwkv_special(table: VocabularyTable) -> dict[str, Value]:
    """The keys of the tokens that end texts, and turns in them."""
    turn_end = rwkv_text(_TURN_END)
    ends = {"bos": 0, "eos": 0} | ({"eot": table.tokens.index(turn_end)} if turn_end in table.tokens else {})
    return {f"tokenizer.ggml.{part}_token_id": id for part, id in ends.items()}


def rwkv_text(token: bytes) -> str:
    """Bytes as the file has them: what is not printable ASCII with a backslash."""
    return repr(token)[2:-1]


def rwkv_tokens(path: Path) -> dict[bytes, int]:
    """The tokens with their ids; raises FormatError."""
    tokens: dict[bytes, int] = {}
    ids = {0}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            with warnings.catch_warnings(action="error"):  # Python's, of escapes that are none
                token, id = _token(line)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
            problem = f"line {number}, {line!r:.60}, is not an id, a text and its length"
            raise FormatError(f"{path}: {problem}; download it again") from exc
        if token in tokens or id in ids:
            raise FormatError(f"{path}: line {number}, {line!r:.60}, is there twice; download it again")
        tokens[token] = id
        ids.add(id)
    check_bytes(tokens, path)
    return tokens


def _token(line: bytes) -> tuple[bytes, int]:
    """A token and its id; raises whatever Python has against its text."""
    if len(line) > _LONGEST:
        raise ValueError("too long")
    id, _, rest = line.decode().partition(" ")
    literal, _, length = rest.rpartition(" ")
    text = ast.literal_eval(literal)
    token = text.encode() if isinstance(text, str) else text
    if not isinstance(token, bytes) or len(token) != int(length) or not 0 < int(id) < 1 << 31:
        raise ValueError("not a token")
    return token, int(id)


def longest_first(tokens: dict[bytes, int], text: str) -> list[int]:
    """The ids of a text as RWKV's own tokenizer gives them: always the longest token that fits."""
    data, most = text.encode(), max(map(len, tokens))
    ids, start = [], 0
    while start < len(data):
        fits = (end for end in range(min(start + most, len(data)), start, -1) if data[start:end] in tokens)
        end = next(fits)
        ids.append(tokens[data[start:end]])
        start = end
    return ids
