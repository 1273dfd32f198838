"""What a file's tokenizer and its tensors must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ggufpy.errors import FormatError

if TYPE_CHECKING:
    from ggufpy.gguf.reader import GGUFFile
    from ggufpy.runtime.engine import Engine
    from ggufpy.tokenizers import Tokenizer


def check_vocabulary(file: GGUFFile, tokenizer: Tokenizer, engine: Engine) -> None:
    """Raise FormatError if a token of `tokenizer` cannot be read or chosen, or a chosen one not be read.

    More rows than tokens are padding, which some models have.
    """
    embeddings, tokens = engine.n_embeddings, tokenizer.n_vocab
    if embeddings < tokens:
        problem = f"token_embd.weight has {embeddings} rows for a vocabulary of {tokens} tokens"
    elif engine.n_vocab < tokens:
        problem = f"the output has {engine.n_vocab} rows for a vocabulary of {tokens} tokens"
    elif embeddings < engine.n_vocab:
        problem = f"token_embd.weight has {embeddings} rows, the output {engine.n_vocab}"
    else:
        return
    raise FormatError(f"{file.path}: {problem}; the model was converted wrongly, convert or download it anew")
