"""Texts as the pieces that a model reads: contexts of one length."""

from __future__ import annotations

from collections.abc import Sequence

from ggufpy.tokenizers.tokenizer import Tokenizer


def chunks_of(tokenizer: Tokenizer, tokens: Sequence[int], size: int) -> list[list[int]]:
    """Whole contexts of `size` tokens, each led by BOS in place of its first token where the model wants one.

    What is left over is dropped. Source: llama.cpp tools/imatrix/imatrix.cpp, compute_imatrix(), and
    tools/perplexity/perplexity.cpp, perplexity().
    """
    chunks = [list(tokens[i : i + size]) for i in range(0, len(tokens) - size + 1, size)]
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        for chunk in chunks:
            chunk[0] = tokenizer.bos_id
    return chunks
