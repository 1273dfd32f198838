"""A model opened for `ggufpy run`, and writing its answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ggufpy.commands.console import one_line, visible
from ggufpy.commands.run_options import context_size, sampling_params, trained_context
from ggufpy.commands.shipped import shipped_model
from ggufpy.errors import GgufpyError
from ggufpy.generate.completion import Completion, encode_prompt
from ggufpy.generate.picking import sampling
from ggufpy.generate.sampler import Sampler, bias_row
from ggufpy.generate.transcript import Transcript
from ggufpy.generate.writer import Writer
from ggufpy.gguf.memory import lock_weights
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.check import check_vocabulary

if TYPE_CHECKING:
    from ggufpy.chat.chat import Chat
    from ggufpy.chat.templates import ChatTemplate
    from ggufpy.commands.texts import Texts


class Session:
    """A model with its tokenizer, and what the command line says about the answers."""

    def __init__(self, arguments: argparse.Namespace, texts: Texts, file: GGUFFile) -> None:
        self.name = one_line(str(file.metadata.get("general.name", file.path.stem)))
        self.tokenizer = load_tokenizer(file.metadata)
        self.engine = Engine.load(
            file,
            n_ctx=context_size(arguments, file.metadata),
            n_threads=max(arguments.threads or 0, 0),
            type_k=arguments.cache_type_k,
            type_v=arguments.cache_type_v,
            huge_pages=arguments.huge_pages,
        )
        if arguments.mlock:
            lock_weights(file)
        check_vocabulary(file, self.tokenizer, self.engine)
        self.params = sampling_params(arguments, file.metadata)
        self._arguments, self._texts = arguments, texts
        self._metadata = file.metadata
        self._max_tokens = arguments.predict if arguments.predict > 0 else None
        ends = self.tokenizer.eog_ids if arguments.ignore_eos else ()
        self._bias = bias_row(self.engine.n_vocab, dict.fromkeys(ends, float("-inf"))) if ends else None
        trained = trained_context(file.metadata)
        if trained is not None and self.engine.n_ctx > trained:
            beyond = f"the context has {self.engine.n_ctx} tokens, the model was made for {trained}"
            note(f"{beyond}; longer texts may come out worse")

    @classmethod
    @contextmanager
    def open(cls, arguments: argparse.Namespace, texts: Texts) -> Iterator[Session]:
        """Open the model of the command line, or the shipped one."""
        with GGUFFile.open(arguments.model or shipped_model(), use_mmap=not arguments.no_mmap) as file:
            yield cls(arguments, texts, file)

    def chat(self) -> Chat:
        """A new conversation."""
        from ggufpy.chat.chat import Chat

        return Chat(
            self.engine,
            self.tokenizer,
            self._template(),
            self.params,
            system=self._texts.system,
            max_tokens=self._max_tokens,
            stop=self._texts.stop,
            bias=self._bias,
        )

    def _template(self) -> ChatTemplate:
        """The template of the command line, else the file's, else ChatML."""
        from ggufpy.chat.templates import ChatTemplate, has_template, special_tokens

        given = self._texts.template
        if given is not None and ("{" in given or self._arguments.chat_template_file):
            return ChatTemplate(given, special_tokens(self._metadata))
        if given is None and not has_template(self._metadata):
            note("the file has no chat template; ChatML is used. -no-cnv completes a text without one")
        return ChatTemplate.from_metadata(self._metadata, given)

    def answer(self, prompt: str) -> None:
        """Answer one message on stdout."""
        chat = self.chat()
        show(chat.ask(prompt))
        self.report_chat(chat)

    def complete(self, prompt: str) -> None:
        """Write a text and its continuation to stdout."""
        tokens = encode_prompt(self.tokenizer, prompt)
        sampler = Sampler(self.params, bias=self._bias)
        for token in tokens:
            sampler.accept(token)
        completion = Completion(self.tokenizer, stop=self._texts.stop, max_tokens=self._max_tokens)
        if self._arguments.display_prompt:
            write(prompt)
        show(Writer(completion, Transcript(self.engine), sampling(sampler)).run(tokens))
        self.report(completion)

    def report_chat(self, chat: Chat) -> None:
        """What happened while a message was answered, in a line or two."""
        if chat.dropped:
            note(f"the context was full: forgot the oldest {chat.dropped} turn{'s' * (chat.dropped > 1)}")
        if chat.completion is not None:
            self.report(chat.completion)

    def report(self, completion: Completion) -> None:
        """One line about an answer: tokens, tokens per second, and whether the context cut it short."""
        said = [completion.report()] if self._arguments.perf else []
        if completion.finish_reason == "length" and len(completion.tokens) != self._max_tokens:
            said.append(f"stopped: the context of {self.engine.n_ctx} is full")
        if said:
            note("; ".join(said))


def show(pieces: Generator[str, None, None]) -> None:
    """Write text as it comes, and a line end if it did not fail before the first of it."""
    begun = False
    try:
        for piece in pieces:
            write(piece)
            begun = True
    except GgufpyError:
        if begun:
            write("\n")
        raise
    except KeyboardInterrupt:
        pieces.close()  # if it was not at work just then
        write("\n")
        raise
    write("\n")


def write(text: str) -> None:
    """Write to stdout at once; a terminal gets no control characters."""
    if text:
        sys.stdout.write(visible(text, sys.stdout))
        sys.stdout.flush()


def note(text: str) -> None:
    """A line beside the result."""
    print(visible(f"[{text}]", sys.stderr), file=sys.stderr, flush=True)
