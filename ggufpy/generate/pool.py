"""The transcripts of one engine: the one that low-level methods share, those that texts are generated in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

from ggufpy.errors import GgufpyError
from ggufpy.generate.transcript import Transcript
from ggufpy.runtime.locks import ForkableLock

if TYPE_CHECKING:
    from ggufpy.runtime.engine import Engine


class TranscriptPool:
    """Hands out transcripts, so that whoever generates a text has one that nobody else changes.

    They are repeatable: the same call gives the same text, whatever was asked before.

    keep_logits, room_for: as for `Transcript`. lock: to be held while a transcript is used.
    Its methods raise GgufpyError once it is closed.
    """

    def __init__(self, engine: Engine, *, keep_logits: bool, room_for: int) -> None:
        self.engine = engine
        self.lock = ForkableLock()
        self._keep_logits = keep_logits
        self._room_for = room_for
        self._closed = False
        self._shared: Transcript | None = None
        self._all: WeakSet[Transcript] = WeakSet()

    def shared(self) -> Transcript:
        """The transcript that was used last, to be read."""
        with self.lock:
            return self._shared or self._share(self._new())

    def writable(self) -> Transcript:
        """The transcript that was used last, to be changed: a copy of it while a text is generated in it."""
        with self.lock:
            transcript = self.shared()
            return self._share(transcript.fork()) if transcript.busy else transcript

    @contextmanager
    def lend(self, *, copy: bool = False) -> Iterator[Transcript]:
        """Lend the transcript that was used last, or while a text is generated in it a new one, or a copy.

        Afterwards it is the shared one, unless a newer one is.
        """
        with self.lock:
            transcript = self.writable() if copy else self.shared()
            if transcript.busy:
                transcript = self._share(self._new())
            transcript.busy = True
        try:
            yield transcript
        finally:
            with self.lock:
                transcript.busy = False
                if transcript is not self._shared:
                    transcript.close()

    def close(self) -> None:
        """Close all transcripts, those that are lent too, and the engine."""
        with self.lock:
            for transcript in self._all:
                transcript.close()
            self._shared, self._closed = None, True
            self.engine.close()

    def _new(self) -> Transcript:
        if self._closed:
            raise GgufpyError("the model was closed; open it anew")
        return Transcript(
            self.engine, keep_logits=self._keep_logits, room_for=self._room_for, repeatable=True
        )

    def _share(self, transcript: Transcript) -> Transcript:
        self._all.add(transcript)
        self._shared = transcript
        return transcript
