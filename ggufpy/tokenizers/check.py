"""What a vocabulary and the network that runs with it must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ggufpy.errors import FormatError

if TYPE_CHECKING:
    from ggufpy.gguf.reader import GGUFFile
    from ggufpy.tokenizers.tokenizer import Tokenizer


class Network(Protocol):
    """Rows of the embeddings, and of the output; 0 if that is not computed."""

    n_embeddings: int
    n_vocab: int


def check_vocabulary(file: GGUFFile, tokenizer: Tokenizer, network: Network) -> None:
    """Raise FormatError if a token of `tokenizer` cannot be read or chosen, or a chosen one not be read.

    More rows than tokens are padding, which some models have.
    """
    embeddings, tokens = network.n_embeddings, tokenizer.n_vocab
    if embeddings < tokens:
        problem = f"token_embd.weight has {embeddings} rows for a vocabulary of {tokens} tokens"
    elif 0 < network.n_vocab < tokens:
        problem = f"the output has {network.n_vocab} rows for a vocabulary of {tokens} tokens"
    elif embeddings < network.n_vocab:
        problem = f"token_embd.weight has {embeddings} rows, the output {network.n_vocab}"
    else:
        return
    raise FormatError(f"{file.path}: {problem}; the model was converted wrongly, convert or download it anew")
