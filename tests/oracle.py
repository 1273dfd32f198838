"""llama.cpp itself, to compare with: tokens, logits, greedy text, sampling, block formats.

Its threads are OpenMP's, which spin: with another program on the same cores they can take minutes for
seconds of work, so one thread is the default here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_int32, c_void_p
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle_library import F16, F32, Batch, ContextParams, TokenData, TokenDataArray, failure, library

needs_oracle = pytest.mark.skipif(
    find_spec("xllamacpp") is None, reason="needs the xllamacpp wheel, which is there for x86-64 Linux only"
)


class Oracle:
    """A GGUF file opened by llama.cpp; every call starts from an empty KV cache unless it says otherwise.

    vocab_only loads the tokenizer alone. kv_f32 keeps keys and values in f32 (llama.cpp's default is f16).
    embeddings: they are computed, no logits. Flash attention is off. Raises RuntimeError with llama.cpp's own
    words if the file does not load.
    """

    def __init__(
        self,
        path: Path,
        n_ctx: int = 512,
        n_threads: int = 1,
        *,
        vocab_only: bool = False,
        kv_f32: bool = False,
        embeddings: bool = False,
    ) -> None:
        self._lib = library()
        self._model: int | None = None
        self._context: int | None = None
        params = self._lib.llama_model_default_params()
        params.vocab_only = vocab_only
        self._model = self._lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise failure(f"cannot load {path}")
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.n_vocab: int = self._lib.llama_vocab_n_tokens(self._vocab)
        if not vocab_only:
            self._context = self._new_context(n_ctx, n_threads, F32 if kv_f32 else F16, embeddings)

    def _new_context(self, n_ctx: int, n_threads: int, kv_type: int, embeddings: bool) -> int:
        params = self._lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = n_ctx
        params.n_outputs_max = params.n_outputs_max_per_seq = n_ctx
        params.n_threads = params.n_threads_batch = n_threads
        params.type_k = params.type_v = kv_type
        params.flash_attn_type = 0
        params.embeddings = embeddings
        self._change(params)
        context: int | None = self._lib.llama_init_from_model(self._model, params)
        if not context:
            raise failure("cannot make a context")
        return context

    def _change(self, params: ContextParams) -> None:
        """For those who want more of a context."""

    def close(self) -> None:
        """Free the model; harmless if done before."""
        if self._context:
            self._lib.llama_free(self._context)
            self._context = None
        if self._model:
            self._lib.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tokenize(self, text: str | bytes, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of `text` (as bytes it may hold incomplete UTF-8)."""
        data = text.encode() if isinstance(text, str) else text
        room = len(data) + 16
        tokens = (c_int32 * room)()
        n = self._lib.llama_tokenize(self._vocab, data, len(data), tokens, room, add_special, parse_special)
        if n < 0:
            raise failure(f"{-n} tokens from {len(data)} bytes")
        return tokens[:n]

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of a token; control tokens have some only with `special`."""
        buffer = ctypes.create_string_buffer(1024)
        n = self._lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if n < 0:
            raise failure(f"token {token} has {-n} bytes")
        return buffer.raw[:n]

    def detokenize(self, tokens: Sequence[int], remove_special: bool = False, special: bool = False) -> bytes:
        """The text of `tokens`, with a leading space removed where the tokenizer added one."""
        ids = (c_int32 * len(tokens))(*tokens)
        room = 64 + 16 * len(tokens)
        while True:
            buffer = ctypes.create_string_buffer(room)
            n = self._lib.llama_detokenize(
                self._vocab, ids, len(tokens), buffer, room, remove_special, special
            )
            if n >= 0:
                return buffer.raw[:n]
            room = -n

    def is_eog(self, token: int) -> bool:
        """Whether generation ends at `token`."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def clear(self) -> None:
        """Forget all tokens in the KV cache."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)

    def decode(self, tokens: Sequence[int], *, all_rows: bool = False) -> NDArray[np.float32]:
        """Append `tokens` to the KV cache; logits of the last row or of all: (rows, n_vocab), a copy."""
        self._decode(tokens, all_rows=all_rows)
        rows = len(tokens) if all_rows else 1
        logits = self._lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(logits, shape=(rows, self.n_vocab)).copy()

    def _decode(self, tokens: Sequence[int], *, all_rows: bool) -> None:
        ids = (c_int32 * len(tokens))(*tokens)
        batch = Batch(n_tokens=len(tokens), token=ids)
        if all_rows:
            wanted = (ctypes.c_int8 * len(tokens))(*[1] * len(tokens))
            batch.logits = ctypes.cast(wanted, c_void_p)
        status = self._lib.llama_decode(self._context, batch)
        if status:
            raise failure(f"llama_decode of {len(tokens)} tokens returned {status}")

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits of every position, in one batch from an empty KV cache: (len(tokens), n_vocab)."""
        self.clear()
        return self.decode(tokens, all_rows=True)

    def embeddings(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Of every token, (len(tokens), width), or what the file makes of these: (1, width or labels)."""
        self.clear()
        self._decode(tokens, all_rows=True)
        pooling = self._lib.llama_pooling_type(self._context)
        rank = pooling == 4
        size = self._lib.llama_model_n_cls_out if rank else self._lib.llama_model_n_embd_out
        if pooling:
            rows = [self._lib.llama_get_embeddings_seq(self._context, 0)]
        else:
            rows = [self._lib.llama_get_embeddings_ith(self._context, i) for i in range(len(tokens))]
        return np.stack([np.ctypeslib.as_array(row, shape=(size(self._model),)) for row in rows])

    def greedy(self, tokens: Sequence[int], n: int) -> list[int]:
        """The `n` most likely tokens after `tokens`, one by one; does not stop at an end token."""
        self.clear()
        last = self.decode(tokens)
        generated: list[int] = []
        while len(generated) < n:
            generated.append(int(last[0].argmax()))
            if len(generated) < n:
                last = self.decode(generated[-1:])
        return generated


def quantize(x: NDArray[np.float32], type_id: int, imatrix: NDArray[np.float32] | None = None) -> bytes:
    """The blocks that llama.cpp makes of `x`: (n,) or (rows, n). imatrix: (n,), the weight of each column."""
    lib = library()
    rows = np.ascontiguousarray(np.atleast_2d(x), np.float32)
    blocks = ctypes.create_string_buffer(rows.shape[0] * lib.ggml_row_size(type_id, rows.shape[1]))
    weights = None if imatrix is None else np.ascontiguousarray(imatrix, np.float32)
    size = lib.ggml_quantize_chunk(
        type_id,
        rows.ctypes.data,
        blocks,
        0,
        rows.shape[0],
        rows.shape[1],
        None if weights is None else weights.ctypes.data,
    )
    assert size == len(blocks)
    return blocks.raw


def dequantize(blocks: bytes | NDArray[np.uint8], type_id: int, n: int) -> NDArray[np.float32]:
    """The `n` floats in `blocks`, as llama.cpp reads them."""
    lib = library()
    data = np.frombuffer(blocks, np.uint8)
    if len(data) != lib.ggml_row_size(type_id, n):
        raise ValueError(f"{n} weights are {lib.ggml_row_size(type_id, n)} bytes, not {len(data)}")
    if type_id == F32:
        return data.view(np.float32).copy()
    out = np.empty(n, np.float32)
    lib.ggml_get_type_traits(type_id).contents.to_float(data.ctypes.data, out.ctypes.data, n)
    return out


@dataclass(frozen=True)
class Chain:
    """llama.cpp's sampler chain in its default order; the defaults here switch every step off."""

    top_k: int = 0
    typical_p: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    temp: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


def oracle_sample(
    logits: NDArray[np.float32], chain: Chain, seed: int, n: int, history: Sequence[int] = ()
) -> list[int]:
    """Draw `n` tokens, each from the same `logits` (n_vocab,), as one sampler with one generator would.

    `history` is what the penalties see first; every token drawn is added to it.
    """
    lib = library()
    sampler = _new_sampler(chain, len(logits), seed)
    try:
        for token in history:
            lib.llama_sampler_accept(sampler, token)
        drawn: list[int] = []
        for _ in range(n):
            candidates = _candidates(logits)
            lib.llama_sampler_apply(sampler, byref(candidates))
            token = candidates.data[candidates.selected].id
            lib.llama_sampler_accept(sampler, token)
            drawn.append(token)
        return drawn
    finally:
        lib.llama_sampler_free(sampler)


def oracle_probabilities(
    logits: NDArray[np.float32], chain: Chain, history: Sequence[int] = ()
) -> dict[int, float]:
    """What `oracle_sample` draws from: the tokens that are left, in its order, with their probabilities."""
    lib = library()
    sampler = _new_sampler(chain, len(logits), 0)
    try:
        for token in history:
            lib.llama_sampler_accept(sampler, token)
        candidates = _candidates(logits)
        lib.llama_sampler_apply(sampler, byref(candidates))
        return {candidates.data[i].id: candidates.data[i].p for i in range(candidates.size)}
    finally:
        lib.llama_sampler_free(sampler)


def _new_sampler(chain: Chain, n_vocab: int, seed: int) -> int:
    lib = library()
    sampler: int = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    penalties = (chain.repeat_last_n, chain.repeat_penalty, chain.frequency_penalty, chain.presence_penalty)
    for step in (
        lib.llama_sampler_init_penalties(n_vocab, *penalties),
        lib.llama_sampler_init_top_k(chain.top_k),
        lib.llama_sampler_init_typical(chain.typical_p, 0),
        lib.llama_sampler_init_top_p(chain.top_p, 0),
        lib.llama_sampler_init_min_p(chain.min_p, 0),
        lib.llama_sampler_init_temp(chain.temp),
        lib.llama_sampler_init_dist(seed),
    ):
        lib.llama_sampler_chain_add(sampler, step)
    return sampler


def _candidates(logits: NDArray[np.float32]) -> TokenDataArray:
    data = (TokenData * len(logits))()
    view = np.ctypeslib.as_array(data)
    view["id"], view["logit"] = np.arange(len(logits)), logits
    return TokenDataArray(data=data, size=len(logits), selected=-1, sorted=False)
