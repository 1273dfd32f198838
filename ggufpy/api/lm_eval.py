"""A GGUF model for lm-evaluation-harness, which calls it "ggufpy" once this module is imported.

Source: lm-evaluation-harness 0.4.13, lm_eval/api/model.py (LM, TemplateLM) and models/huggingface.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from ggufpy.api.llama import Llama
from ggufpy.errors import ContextError, GgufpyError
from ggufpy.evaluate.continuations import continuations, text_loss
from ggufpy.generate.completion import encode_prompt

_AT_ONCE = 3  # continuations, since a Llama has room for four texts
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class Request(Protocol):
    """What lm-evaluation-harness asks for."""

    args: tuple[Any, ...]


@register_model("ggufpy")
class GgufpyLM(LM):
    """A GGUF file, from `lm_eval --model ggufpy --model_args pretrained=FILE`.

    pretrained: the file; max_length: tokens of context, None for the model's own; max_gen_toks: how many are
    generated unless the task says; n_threads, precision, type_k, type_v: as for `Llama`. What
    lm-evaluation-harness always says, batch_size, max_batch_size and device, has no effect.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        n_threads: int | None = None,
        precision: str = "fast",
        type_k: str | None = None,
        type_v: str | None = None,
        batch_size: object = None,
        max_batch_size: object = None,
        device: object = None,
    ) -> None:
        super().__init__()
        self._llama = Llama(
            pretrained,
            n_ctx=max_length,
            n_threads=n_threads,
            precision=precision,
            type_k=type_k,
            type_v=type_v,
        )
        self._engine = self._llama._texts.engine
        self._tokenizer = self._llama._tokenizer
        self._max_gen_toks = max_gen_toks

    @property
    def tokenizer_name(self) -> str:
        """What caches of requests call the tokenizer."""
        return Path(self._llama.model_path).name

    @property
    def max_length(self) -> int:
        """Tokens of context."""
        return self._engine.n_ctx

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The source of the template, which caches of requests are named after."""
        return str(self._llama.metadata.get("tokenizer.chat_template", "")) if chat_template else ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as a prompt."""
        return self._llama._template.render(chat_history, add_generation_prompt=add_generation_prompt)

    def loglikelihood(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Of each (context, continuation): ln of its probability, and whether it is the likeliest one."""
        pairs = [self._pair(*request.args) for request in requests]
        found: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        order = sorted(range(len(pairs)), key=pairs.__getitem__)
        with tqdm(total=len(requests), desc="loglikelihood", disable=disable_tqdm) as bar:
            for context, group in groupby(order, key=lambda i: pairs[i][0]):
                numbers = list(group)
                rests = [pairs[i][1] for i in numbers]
                each = continuations(self._engine, context, rests, _AT_ONCE)
                for i, of in zip(numbers, each, strict=True):
                    found[i] = -float(of.losses.sum()), bool(of.likeliest.all())
                    self.cache_hook.add_partial("loglikelihood", requests[i].args, found[i])
                bar.update(len(numbers))
        return found

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both, cut as they are in one text; the end of a long context is kept."""
        stem = context.rstrip()
        rest = context[len(stem) :] + continuation
        if stem:
            tokens = self._encode(stem)
            following = self._encode(stem + rest)[len(tokens) :]
        else:
            tokens, following = [self._prefix()], self._tokenizer.encode(rest, add_special=False)
            if following[:1] == tokens:
                tokens, following = following[:1], following[1:]
        if not following:
            raise GgufpyError(f"the continuation {continuation[:60]!r} has no tokens of its own")
        room = self.max_length + 1 - len(following)
        if room < 1:
            problem = f"a continuation has {len(following)} tokens, the context {self.max_length}"
            raise ContextError(f"{problem}; raise max_length")
        return tokens[-room:], following

    def loglikelihood_rolling(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[float]:
        """Of each (text,): ln of its probability, behind BOS, or EOS where there is none."""
        found = []
        for request in self._told(requests, "loglikelihood_rolling", disable_tqdm):
            tokens = self._tokenizer.encode(request.args[0], add_special=False)
            found.append(-text_loss(self._engine, tokens, self._prefix()))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def generate_until(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[str]:
        """Of each (context, options): what follows, up to the first of options["until"]."""
        found = []
        for request in self._told(requests, "generate_until", disable_tqdm):
            context, given = request.args
            options = dict(given)
            stop = options.pop("until", None) or []
            lengths = [options.pop(name, None) for name in _LENGTHS]
            length = next((each for each in lengths if each is not None), self._max_gen_toks)
            if not options.pop("do_sample", False):
                options["temperature"] = 0.0
            tokens = self._encode(context) or [self._prefix()]
            room = self.max_length - length
            if room < 1:
                raise ContextError(f"max_gen_toks={length}: the context has {self.max_length} tokens")
            answer = self._llama.create_completion(tokens[-room:], max_tokens=length, stop=stop, **options)
            assert isinstance(answer, dict)
            found.append(answer["choices"][0]["text"])
            self.cache_hook.add_partial("generate_until", request.args, found[-1])
        return found

    def _told(self, requests: Iterable[Request], what: str, disable: bool) -> Iterable[Request]:
        told: Iterable[Request] = tqdm(requests, desc=what, disable=disable)
        return told

    def _encode(self, text: str) -> list[int]:
        return encode_prompt(self._tokenizer, text)

    def _prefix(self) -> int:
        """What comes before a text of which nothing is known."""
        for token in (self._tokenizer.bos_id, self._tokenizer.eos_id):
            if token is not None:
                return token
        raise GgufpyError(f"{self._llama.model_path}: has neither BOS nor EOS to put before a text")
