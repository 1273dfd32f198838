"""A byte-level BPE vocabulary of any size, with as many merges as Llama 3's has for its.

Its tokens are the parts of one random text: whatever a token is cut into, the pieces are tokens again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from ggufpy.gguf.values import Typed, Value
from ggufpy.tokenizers.types import TokenType

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = 280147 / 128000  # for each token, in Llama 3's vocabulary
LONGEST = 12
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def random_vocabulary(n_tokens: int) -> dict[str, Value | Typed]:
    """Every tokenizer.* key; the same for the same size, which is 300 at least."""
    letters = _byte_letters()
    words = list(islice(_parts(n_tokens), n_tokens - len(letters) - len(SPECIAL)))
    tokens = [*SPECIAL, *letters, *words]
    types = [TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(tokens) - len(SPECIAL))
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(type) for type in types],
        "tokenizer.ggml.merges": list(islice(_merges(words), int(len(words) * MERGES))),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def _parts(n_tokens: int) -> Iterator[str]:
    """All different parts of a random text, of two letters or more, the short ones first."""
    alphabet = np.array([*"aaabcdeeeefghiiijklmnnooopqrrssstttuvwxyz", *"\u0120" * 8])
    size = n_tokens // 4 + 100  # a text of this many letters has more parts of LONGEST letters or fewer
    text = "".join(np.random.Generator(np.random.PCG64(0)).choice(alphabet, size))
    for length in range(2, LONGEST + 1):
        yield from dict.fromkeys(text[i : i + length] for i in range(size - length + 1))


def _merges(words: list[str]) -> Iterator[str]:
    """For each word: all but its last letter and that, then other cuts, as far as they are wanted."""
    for offset in range(1, LONGEST):
        for word in words:
            cut = len(word) - offset
            if cut > 0:
                yield f"{word[:cut]} {word[cut:]}"


def _byte_letters() -> list[str]:
    """A printable character for each byte, as GPT-2 chose them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [256 + i for i in range(256 - len(printable))]
    return [chr(code) for code in chain(printable, others)]
