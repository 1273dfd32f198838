"""`Llama`: a model from Python, with llama-cpp-python's names and return values.

What differs from llama-cpp-python 0.3: metadata has Python values, not strings; of several stop strings the
one that begins first in the text counts; a BOS that the prompt begins with is not doubled, and chats get one
where the vocabulary asks for it; a vocabulary's EOS is not put behind prompts; logprobs of generated text
need no logits_all; scores has n_tokens rows; streams may run side by side; verbose is off; errors are those
of ggufpy.errors; texts that are cut to be embedded keep the tokens that end them. Not here: grammars, tools
and functions, response_format, Mirostat, suffix, LoRA, saved states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack

from ggufpy.api.arguments import by_position, check_integers, mapping_of, prompts_of, stops_of
from ggufpy.api.embeddings import Embeddings
from ggufpy.api.request import Request
from ggufpy.api.responses import ChatResponse, CompletionResponse, Responses
from ggufpy.errors import ContextError, TemplateError
from ggufpy.generate.completion import encode_prompt, token_bytes
from ggufpy.generate.picking import Criteria, Sampling


class StreamOptions(TypedDict, total=False):
    """What a stream says besides the text."""

    include_usage: bool


class Llama(Embeddings):
    """A GGUF model, ready to complete text.

    n_ctx: tokens of context, 0 or None for as many as the model was made for. n_batch: prompt tokens computed
    at once. n_threads: None for one per physical core. n_gpu_layers is accepted and has no effect: there is
    only the CPU. use_mmap: the file is read where it lies, and has to stay as it is: a completion raises
    FormatError if it was changed; False: it is read into memory. use_mlock: keep the system from paging the
    weights out. logits_all: keep the logits of all tokens in `scores`. embedding: for `embed`,
    `create_embedding` and `rank`, and for nothing else; pooling_type: what is then made of a text's tokens,
    in llama.cpp's numbers, -1 for what the file says. vocab_only: only the tokenizer and the metadata.
    last_n_tokens_size: how far back penalties look. chat_format: None for the file's template, "chatml", or
    the name of another template in the file. verbose: one line with tokens per second on stderr after each
    completion. precision: "fast" (8-bit activations for quantized weights), "int8" (the same, and prompts
    computed bit for bit as generated tokens are) or "exact" (floats). type_k, type_v: what the KV cache
    keeps, "f16" (the default), "f32", "bf16", "q8_0", "q4_0" or ggml's number of one. Other arguments of
    llama-cpp-python are taken as long as they ask for nothing that a CPU or ggufpy cannot do.

    Completions may be called from several threads: they take turns, token by token, each with its own KV
    cache; there is room for four full contexts. The low-level methods (eval, sample, generate, reset, scores)
    share one state, for one thread at a time.

    Raises OSError, FormatError or UnsupportedModelError for a file that cannot be read or run.
    """

    @by_position(
        "prompt suffix max_tokens temperature top_p min_p typical_p logprobs echo stop frequency_penalty "
        "presence_penalty repeat_penalty top_k stream seed"
    )
    def create_completion(
        self,
        prompt: str | Sequence[int] | Sequence[str | Sequence[int]],
        suffix: str | None = None,
        max_tokens: int | None = 16,
        *,
        temperature: float = 0.8,
        logprobs: int | None = None,
        echo: bool = False,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
        stream_options: StreamOptions | None = None,
        seed: int | None = None,
        model: str | None = None,
        stopping_criteria: Criteria | None = None,
        **sampling: Unpack[Sampling],
    ) -> CompletionResponse | Iterator[CompletionResponse]:
        """Continue a text, a list of tokens, or each of several such; with `stream`, in chunks as they come.

        max_tokens: None, 0 or less for as many as the context holds. temperature 0: always the likeliest
        token. logprobs: report log-probabilities, with so many likeliest tokens each. stream_options:
        {"include_usage": True} for a last chunk without choices that counts the tokens. model: the name to
        report. sampling: see `Sampling`. A string gets a BOS token in front if the vocabulary asks for it; a
        list of tokens stays as it is. The choices of several prompts have their numbers as `index`.

        Raises ContextError, which is a ValueError, if a prompt leaves no room in the context.
        """
        responses = self._responses(
            prompt,
            suffix=suffix,
            max_tokens=max_tokens,
            temperature=temperature,
            logprobs=logprobs,
            echo=echo,
            stop=stop,
            seed=seed,
            model=model,
            stopping_criteria=stopping_criteria,
            **sampling,
        )
        if stream:
            return responses.completion_chunks(_include_usage(stream_options))
        return responses.completion()

    __call__ = create_completion

    def _responses(
        self,
        prompt: str | Sequence[int] | Sequence[str | Sequence[int]],
        *,
        max_tokens: int | None,
        temperature: float,
        logprobs: int | None,
        stop: str | Sequence[str] | None,
        seed: int | None,
        model: str | None,
        suffix: str | None = None,
        echo: bool = False,
        stopping_criteria: Criteria | None = None,
        **sampling: Unpack[Sampling],
    ) -> Responses:
        check_integers("create_completion", {"max_tokens": max_tokens, "logprobs": logprobs, "seed": seed})
        if logprobs is not None and logprobs < 0:
            raise ValueError(f"logprobs={logprobs}: must be 0 or more")
        if suffix is not None:
            raise ValueError("suffix: filling in the middle is not supported; pass a prompt only")
        if logprobs is not None and echo and not self._logits_all:
            raise ValueError(
                "logprobs with echo need the prompt's logits: open the model with logits_all=True"
            )
        if seed is not None:
            self.set_seed(seed)
        requests = []
        for each in prompts_of(prompt):
            tokens = self._prompt_tokens(each)
            room = self.n_ctx() - len(tokens)
            if room <= 0:
                raise ContextError(
                    f"Requested tokens ({len(tokens)}) exceed context window of {self.n_ctx()}"
                )
            requests.append(
                Request(
                    tokenizer=self._tokenizer,
                    text=each
                    if isinstance(each, str)
                    else self.detokenize(tokens).decode("utf-8", "replace"),
                    prompt=tokens,
                    pick=self._pick(temperature, stopping_criteria, **sampling),
                    stop=stops_of(stop),
                    max_tokens=min(max_tokens, room) if max_tokens is not None and max_tokens > 0 else room,
                    echo=echo,
                    logprobs=logprobs,
                    verbose=self.verbose,
                    texts=self._texts,
                )
            )
        names = partial(token_bytes, self._tokenizer, special=True)
        return Responses(requests, model or self.model_path, names)

    @by_position(
        "messages temperature top_p top_k min_p typical_p stream stop seed max_tokens presence_penalty "
        "frequency_penalty repeat_penalty"
    )
    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        temperature: float = 0.2,
        stream: bool = False,
        stream_options: StreamOptions | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **sampling: Unpack[Sampling],
    ) -> ChatResponse | Iterator[ChatResponse]:
        """Answer the last of `messages` (each with "role" and "content"), by the model's chat template.

        The other arguments are those of `create_completion`; logprobs: report log-probabilities, with
        top_logprobs likeliest tokens each. chat_template_kwargs: variables for the template, as
        enable_thinking.

        Raises TemplateError if the template refuses the messages, ContextError if they leave no room.
        """
        if not messages:
            raise TemplateError("there are no messages to answer")
        variables = mapping_of("chat_template_kwargs", chat_template_kwargs)
        if "messages" in variables:
            raise ValueError("chat_template_kwargs: messages are an argument of their own")
        responses = self._responses(
            encode_prompt(self._tokenizer, self._template.render(messages, **variables)),
            max_tokens=max_tokens,
            temperature=temperature,
            logprobs=(top_logprobs or 0) if logprobs else None,
            stop=stop,
            seed=seed,
            model=model,
            **sampling,
        )
        return responses.chat_chunks(_include_usage(stream_options)) if stream else responses.chat()

    def _prompt_tokens(self, prompt: str | Sequence[int]) -> list[int]:
        if isinstance(prompt, str):
            bos = self._tokenizer.bos_id
            return encode_prompt(self._tokenizer, prompt) or ([] if bos is None else [bos])
        return list(prompt)


def _include_usage(options: StreamOptions | None) -> bool:
    return bool(mapping_of("stream_options", options).get("include_usage"))
