"""llama.cpp itself, to compare with: the C API inside the `xllamacpp` wheel, through ctypes.

The structs follow llama.h of October 2026 (wheel 2026.10.11549) and are passed by value, so a wheel of
another date may lay them out differently: `_library` checks every default value and fails loudly then.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_bool, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32, F16 = 0, 1
LOG_ERROR = 4


class ModelParams(ctypes.Structure):
    """struct llama_model_params."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )


class ContextParams(ctypes.Structure):
    """struct llama_context_params."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        # Null by default; the compiled defaults function shows that it is there, public headers do not yet.
        ("unnamed", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )


class Batch(ctypes.Structure):
    """struct llama_batch."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", c_void_p),
        ("n_seq_id", c_void_p),
        ("seq_id", c_void_p),
        ("logits", c_void_p),
    )


class TokenData(ctypes.Structure):
    """struct llama_token_data."""

    _fields_ = (("id", c_int32), ("logit", c_float), ("p", c_float))


class TokenDataArray(ctypes.Structure):
    """struct llama_token_data_array."""

    _fields_ = (("data", POINTER(TokenData)), ("size", c_size_t), ("selected", c_int64), ("sorted", c_bool))


class SamplerChainParams(ctypes.Structure):
    """struct llama_sampler_chain_params."""

    _fields_ = (("no_perf", c_bool),)


class TypeTraits(ctypes.Structure):
    """The head of struct ggml_type_traits."""

    _fields_ = (
        ("type_name", c_char_p),
        ("blck_size", c_int64),
        ("blck_size_interleave", c_int64),
        ("type_size", c_size_t),
        ("is_quantized", c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int64)),
    )


# name: (result, arguments)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (c_void_p, c_void_p)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_sampler_chain_default_params": (SamplerChainParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, ModelParams)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_vocab_is_eog": (c_bool, (c_void_p, c_int32)),
    "llama_tokenize": (c_int32, (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool)),
    "llama_detokenize": (c_int32, (c_void_p, POINTER(c_int32), c_int32, c_char_p, c_int32, c_bool, c_bool)),
    "llama_token_to_piece": (c_int32, (c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_decode": (c_int32, (c_void_p, Batch)),
    "llama_get_logits": (POINTER(c_float), (c_void_p,)),
    "llama_sampler_chain_init": (c_void_p, (SamplerChainParams,)),
    "llama_sampler_chain_add": (None, (c_void_p, c_void_p)),
    "llama_sampler_init_penalties": (c_void_p, (c_int32, c_int32, c_float, c_float, c_float)),
    "llama_sampler_init_top_k": (c_void_p, (c_int32,)),
    "llama_sampler_init_top_p": (c_void_p, (c_float, c_size_t)),
    "llama_sampler_init_min_p": (c_void_p, (c_float, c_size_t)),
    "llama_sampler_init_temp": (c_void_p, (c_float,)),
    "llama_sampler_init_dist": (c_void_p, (c_uint32,)),
    "llama_sampler_apply": (None, (c_void_p, POINTER(TokenDataArray))),
    "llama_sampler_accept": (None, (c_void_p, c_int32)),
    "llama_sampler_free": (None, (c_void_p,)),
    "ggml_quantize_chunk": (c_size_t, (c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "ggml_row_size": (c_size_t, (c_int32, c_int64)),
    "ggml_get_type_traits": (POINTER(TypeTraits), (c_int32,)),
}

_MODEL_DEFAULTS = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "main_gpu": 0,
    "kv_overrides": None,
    "vocab_only": False,
    "check_tensors": False,
    "use_extra_bufts": True,
    "no_host": False,
    "no_alloc": False,
    "load_mtp": False,
}
_CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_rs_seq": 0,
    "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1,
    "n_threads": 4,
    "n_threads_batch": 4,
    "ctx_type": 0,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": -1,
    "rope_freq_base": 0.0,
    "yarn_ext_factor": -1.0,
    "yarn_orig_ctx": 0,
    "defrag_thold": -1.0,
    "cb_eval": None,
    "type_k": F16,
    "type_v": F16,
    "unnamed": None,
    "embeddings": False,
    "offload_kqv": True,
    "no_perf": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
    "samplers": None,
    "n_samplers": 0,
    "ctx_other": None,
}

_errors: list[str] = []


@ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
def _log(level: int, text: bytes, _data: int) -> None:
    if level == LOG_ERROR:
        _errors.append(text.decode(errors="replace").strip())


def _check_defaults(params: ctypes.Structure, expected: dict[str, Any]) -> None:
    found = {name: getattr(params, name) for name in expected}
    wrong = {name: value for name, value in found.items() if value != expected[name]}
    if wrong:
        raise RuntimeError(f"{type(params).__name__} is laid out differently in this xllamacpp wheel: {wrong}")


@cache
def _library() -> Any:
    """llama.cpp, silenced, with signatures set and struct layouts checked."""
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the xllamacpp wheel is not installed (pip install --group dev)")
    (path,) = Path(spec.origin).parent.glob("xllamacpp*.so")
    lib = ctypes.CDLL(str(path))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    _check_defaults(lib.llama_model_default_params(), _MODEL_DEFAULTS)
    _check_defaults(lib.llama_context_default_params(), _CONTEXT_DEFAULTS)
    lib.llama_log_set(_log, None)
    lib.llama_backend_init()
    return lib


def _failure(what: str) -> RuntimeError:
    reasons = "; ".join(_errors[-3:])
    _errors.clear()
    return RuntimeError(f"llama.cpp: {what}: {reasons}")


class Oracle:
    """A GGUF file opened by llama.cpp; every call starts from an empty KV cache unless it says otherwise.

    vocab_only loads the tokenizer alone. kv_f32 keeps keys and values in f32 (llama.cpp's default is f16).
    Flash attention is off. Raises RuntimeError with llama.cpp's own words if the file does not load.
    """

    def __init__(
        self,
        path: Path,
        n_ctx: int = 512,
        n_threads: int = 2,
        *,
        vocab_only: bool = False,
        kv_f32: bool = False,
    ) -> None:
        self._lib = _library()
        self._model: int | None = None
        self._context: int | None = None
        params = self._lib.llama_model_default_params()
        params.vocab_only = vocab_only
        self._model = self._lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise _failure(f"cannot load {path}")
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.n_vocab: int = self._lib.llama_vocab_n_tokens(self._vocab)
        if not vocab_only:
            self._context = self._new_context(n_ctx, n_threads, F32 if kv_f32 else F16)

    def _new_context(self, n_ctx: int, n_threads: int, kv_type: int) -> int:
        params = self._lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = n_ctx
        params.n_outputs_max = params.n_outputs_max_per_seq = n_ctx
        params.n_threads = params.n_threads_batch = n_threads
        params.type_k = params.type_v = kv_type
        params.flash_attn_type = 0
        context: int | None = self._lib.llama_init_from_model(self._model, params)
        if not context:
            raise _failure("cannot make a context")
        return context

    def close(self) -> None:
        """Free the model; harmless if done before."""
        if self._context:
            self._lib.llama_free(self._context)
            self._context = None
        if self._model:
            self._lib.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Oracle:
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
            raise _failure(f"{-n} tokens from {len(data)} bytes")
        return tokens[:n]

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of a token; control tokens have some only with `special`."""
        buffer = ctypes.create_string_buffer(1024)
        n = self._lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if n < 0:
            raise _failure(f"token {token} has {-n} bytes")
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
        """Append `tokens` to the KV cache in one batch; logits of the last row or all: (rows, n_vocab), a copy."""
        ids = (c_int32 * len(tokens))(*tokens)
        batch = Batch(n_tokens=len(tokens), token=ids)
        if all_rows:
            wanted = (ctypes.c_int8 * len(tokens))(*[1] * len(tokens))
            batch.logits = ctypes.cast(wanted, c_void_p)
        status = self._lib.llama_decode(self._context, batch)
        if status:
            raise _failure(f"llama_decode of {len(tokens)} tokens returned {status}")
        rows = len(tokens) if all_rows else 1
        logits = self._lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(logits, shape=(rows, self.n_vocab)).copy()

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits of every position, in one batch from an empty KV cache: (len(tokens), n_vocab)."""
        self.clear()
        return self.decode(tokens, all_rows=True)

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
    lib = _library()
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
    lib = _library()
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
    lib = _library()
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
    lib = _library()
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
    lib = _library()
    sampler: int = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    penalties = (chain.repeat_last_n, chain.repeat_penalty, chain.frequency_penalty, chain.presence_penalty)
    for step in (
        lib.llama_sampler_init_penalties(n_vocab, *penalties),
        lib.llama_sampler_init_top_k(chain.top_k),
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
