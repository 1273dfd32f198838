"""Tokens, logits and sampling under llama-cpp-python's names: the lower half of `Llama`."""

from __future__ import annotations

import os
import random
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from ggufpy.api.arguments import (
    OF_THE_MODEL,
    by_position,
    causality_of,
    check_absent,
    check_integers,
    pooling_of,
)
from ggufpy.embedding.embedder import Embedder
from ggufpy.errors import GgufpyError
from ggufpy.generate.completion import END
from ggufpy.generate.picking import Criteria, Pick, Sampling, make_pick
from ggufpy.generate.pool import TranscriptPool
from ggufpy.gguf.memory import lock_weights
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.check import check_vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ggufpy.chat.templates import ChatTemplate

RANDOM_SEED = 0xFFFFFFFF  # llama.cpp's "choose one"

_INTEGERS = (
    *("n_gpu_layers", "seed", "n_ctx", "n_batch", "n_threads", "last_n_tokens_size"),
    *("pooling_type", "attention_type"),
)

# Completions that can run at once with a full context each; their memory is taken when it is first used.
_SEQUENCES = 4


class LowLevel:
    """One model and the state that eval, sample, generate, reset and scores share; see `Llama`."""

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        n_gpu_layers: int = 0,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        seed: int = RANDOM_SEED,
        n_ctx: int | None = 512,
        n_batch: int = 512,
        n_threads: int | None = None,
        logits_all: bool = False,
        embedding: bool = False,
        pooling_type: int | None = -1,
        attention_type: int | None = -1,
        last_n_tokens_size: int = 64,
        chat_format: str | None = None,
        verbose: bool = False,
        precision: str = "fast",
        type_k: str | int | None = None,
        type_v: str | int | None = None,
        **others: Any,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__", "others")}
        self._opened_with = given
        title = type(self).__name__
        check_integers(title, {name: given[name] for name in _INTEGERS})
        if n_ctx is not None and n_ctx < 0:
            raise ValueError(f"n_ctx={n_ctx}: a number of tokens, or 0 for the model's own context")
        self.model_path = os.fspath(model_path)
        self.chat_format = chat_format
        self.verbose = verbose
        self._logits_all = logits_all
        self._last_n = last_n_tokens_size
        self._file = GGUFFile.open(Path(model_path), use_mmap=use_mmap)
        check_absent(title, others, {**OF_THE_MODEL, "rope_freq_base": (None, 0, self._rope_freq_base)})
        self._tokenizer = load_tokenizer(self._file.metadata)
        self._pool: TranscriptPool | None = None
        self._embeds: Embedder | None = None
        options: dict[str, Any] = {
            "n_ctx": n_ctx or None,
            "n_threads": n_threads,
            "n_batch": n_batch,
            "precision": precision,
            "type_k": type_k,
            "type_v": type_v,
        }
        if embedding and not vocab_only:
            pooling, causal = pooling_of(pooling_type), causality_of(attention_type)
            self._embeds = Embedder(self._file, self._tokenizer, pooling=pooling, causal=causal, **options)
        elif not vocab_only:
            engine = Engine.load(self._file, n_seq=_SEQUENCES, **options)
            check_vocabulary(self._file, self._tokenizer, engine)
            self._pool = TranscriptPool(engine, keep_logits=logits_all, room_for=_SEQUENCES)
        if use_mlock and not vocab_only:
            lock_weights(self._file)
        self.set_seed(seed)
        if chat_format is not None:
            _ = self._template  # an unknown name is an error here

    def close(self) -> None:
        """Give memory and file back; the object, its streams and generators cannot be used any more."""
        if self._pool is not None:
            self._pool.close()
        if self._embeds is not None:
            self._embeds.close()
        self._pool = self._embeds = None
        self._file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, or what was pickled, opens the file again; texts and their state do not come along.
        return _open, (type(self), self._opened_with)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The file's metadata, as Python values."""
        return self._file.metadata

    def n_ctx(self) -> int:
        """Tokens of context."""
        return self._embeds.n_ctx if self._embeds else self._texts.engine.n_ctx

    def n_embd(self) -> int:
        """Width of the embeddings."""
        return int(self.metadata[f"{self.metadata['general.architecture']}.embedding_length"])

    def n_vocab(self) -> int:
        """Number of tokens in the vocabulary."""
        return self._tokenizer.n_vocab

    def token_bos(self) -> int:
        """Id of the token that begins a text, -1 if there is none."""
        return -1 if self._tokenizer.bos_id is None else self._tokenizer.bos_id

    def token_eos(self) -> int:
        """Id of the token that ends a text, -1 if there is none."""
        return -1 if self._tokenizer.eos_id is None else self._tokenizer.eos_id

    def token_nl(self) -> int:
        """Id of the token for a line end, -1 if there is none."""
        return (self._tokenizer.encode("\n", add_special=False) or [-1])[-1]

    def tokenize(self, text: bytes | str, add_bos: bool = True, special: bool = False) -> list[int]:
        """Token ids of text, UTF-8 if it is bytes. special: read the names of special tokens as such."""
        if not isinstance(text, str):
            text = bytes(text).decode("utf-8", errors="replace")
        return self._tokenizer.encode(text, add_special=add_bos, parse_special=special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """Bytes of tokens that follow `prev_tokens`; one space behind a leading BOS is left out.

        Raises TokenizerError for ids outside the vocabulary.
        """
        before = list(prev_tokens or [])
        return self._bytes([*before, *tokens], special)[len(self._bytes(before, special)) :]

    def _bytes(self, tokens: Sequence[int], special: bool) -> bytes:
        text = b"".join([self._tokenizer.token_bytes(token, special=special) for token in tokens])
        after_bos = bool(tokens) and tokens[0] == self._tokenizer.bos_id
        return text[1:] if after_bos and text.startswith(b" ") else text

    @property
    def n_tokens(self) -> int:
        """How many tokens have been evaluated since the last reset."""
        return len(self._texts.shared().tokens)

    @property
    def eval_tokens(self) -> list[int]:
        """The tokens evaluated since the last reset."""
        return list(self._texts.shared().tokens)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Logits, (n_tokens, n_vocab); without logits_all only the last row is filled."""
        texts = self._texts
        with texts.lock:
            return texts.shared().scores

    @property
    def eval_logits(self) -> list[list[float]]:
        """`scores` as lists; without logits_all only the last row."""
        rows: list[list[float]] = self.scores[0 if self._logits_all else -1 :].tolist()
        return rows

    def set_seed(self, seed: int) -> None:
        """Seed the choices from here on; -1: another way each time."""
        self._random = random.Random(None if seed in (-1, RANDOM_SEED) else seed)

    def reset(self) -> None:
        """Forget all tokens."""
        texts = self._texts
        with texts.lock:
            texts.writable().truncate(0)

    def eval(self, tokens: Sequence[int]) -> None:
        """Compute more tokens. Raises ContextError, and changes nothing, if they do not fit.

        One token alone is computed as a generated one.
        """
        texts = self._texts
        if not tokens:
            return
        with texts.lock:
            text = texts.writable()
            if len(tokens) == 1:
                text.append(tokens[0])
            else:
                text.extend(tokens)

    @by_position("top_k top_p min_p typical_p temp repeat_penalty frequency_penalty presence_penalty")
    def sample(self, *, temp: float = 0.8, **sampling: Unpack[Sampling]) -> int:
        """Choose the next token. Penalties have nothing to look at: use `generate`."""
        pick = self._pick(temp, **sampling)
        texts = self._texts
        with texts.lock:
            return pick(texts.shared())

    @by_position(
        "tokens top_k top_p min_p typical_p temp repeat_penalty reset frequency_penalty presence_penalty"
    )
    def generate(
        self,
        tokens: Sequence[int],
        *,
        temp: float = 0.8,
        reset: bool = True,
        stopping_criteria: Criteria | None = None,
        **sampling: Unpack[Sampling],
    ) -> Generator[int, Sequence[int] | None, None]:
        """Yield tokens that continue `tokens`, end tokens among them, until `stopping_criteria` or forever.

        reset: begin anew (what the state already holds of `tokens` is not computed again); otherwise go on
        from it. Tokens that are sent to the generator follow the one it yielded. Raises ContextError when the
        context is full.
        """
        pick = self._pick(temp, stopping_criteria, **sampling)
        texts = self._texts
        with texts.lend(copy=True) as text:
            with texts.lock:
                if reset:
                    text.prefill(tokens)
                else:
                    text.extend(tokens)
                token = pick(text)
            while token != END:
                sent = yield token
                with texts.lock:
                    text.append(token)
                    text.extend(sent or [])
                    token = pick(text)

    @cached_property
    def _template(self) -> ChatTemplate:
        # Completions without a chat need no Jinja.
        from ggufpy.chat.templates import ChatTemplate

        return ChatTemplate.from_metadata(self.metadata, self.chat_format)

    @property
    def _rope_freq_base(self) -> Any:
        return self.metadata.get(f"{self.metadata.get('general.architecture')}.rope.freq_base", 10000)

    def _pick(
        self, temp: float, stopping_criteria: Criteria | None = None, **sampling: Unpack[Sampling]
    ) -> Pick:
        return make_pick(
            self._texts.engine.n_vocab,
            temp=temp,
            repeat_last_n=self._last_n,
            seed=self._random.getrandbits(32),
            stopping_criteria=stopping_criteria,
            **sampling,
        )

    @property
    def _texts(self) -> TranscriptPool:
        if self._pool is None:
            how = "with embedding=True" if self._embeds else "with vocab_only=True"
            problem = f"{self.model_path}: opened {how}, or closed"
            raise GgufpyError(f"{problem}; open it anew to run it")
        return self._pool


def _open(kind: type[LowLevel], arguments: dict[str, Any]) -> LowLevel:
    return kind(**arguments)
