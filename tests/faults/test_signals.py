"""Whatever a signal handler raises, and whenever: the work has ended when the call returns."""

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import random_llama
from engines import append, load, prompt_logits

from ggufpy._kernels import ffi
from ggufpy.errors import GgufpyError
from ggufpy.generate.transcript import Transcript
from ggufpy.runtime.engine import Engine, Span

TOKENS = [int(t) for t in np.random.default_rng(3).integers(0, random_llama.VOCAB, 300)]


Alarm = Callable[..., None]


ENDED, GIVEN_UP = 2, 3  # of gg_call


class OutOfTime(BaseException):
    """What a handler raises."""


@pytest.fixture
def engine(small: Path) -> Engine:
    return load(small, n_batch=128, n_ctx=512)


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    left = 0

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OutOfTime

    def set_alarm(seconds: float, again: float = 0.0) -> None:
        nonlocal left
        left = 2  # a third one would come out of the tests themselves
        signal.setitimer(signal.ITIMER_REAL, seconds, again)

    before = signal.signal(signal.SIGALRM, ring)
    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted(text: Transcript, alarm: Alarm, seconds: float, again: float = 0.0) -> bool:
    """Read a prompt, with an alarm after `seconds` and again, maybe; whether it came."""
    try:
        alarm(seconds, again)
        text.prefill(TOKENS)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except OutOfTime:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return True
    return False


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each gg_call that is made from here on."""
    made: list[Any] = []

    class Recorder:
        """cffi, but for that."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ffi, name)

        def new(self, *arguments: Any) -> Any:
            new = ffi.new(*arguments)
            if arguments[0] == "gg_call *":
                made.append(new)
            return new

    monkeypatch.setattr("ggufpy.runtime.engine.ffi", Recorder())
    return made


@pytest.mark.parametrize("again", [0.0, 3e-4])
def test_an_alarm_at_any_moment(again: float, engine: Engine, alarm: Alarm, calls: list[Any]) -> None:
    want = prompt_logits(engine, TOKENS)[-1]
    start = time.perf_counter()
    prompt_logits(engine, TOKENS)
    seconds = time.perf_counter() - start
    rng = np.random.default_rng(1)
    text = Transcript(engine)
    came = 0
    for _ in range(100):
        try:
            text.truncate(int(rng.integers(0, 40)))
            came += interrupted(text, alarm, float(rng.uniform(1e-5, seconds)), again)
        except OutOfTime:  # the second alarm came behind the first
            came += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert {call.state for call in calls} <= {ENDED, GIVEN_UP}
        text.prefill(TOKENS)
        np.testing.assert_array_equal(text.logits(), want)
    assert came > 10


def test_work_that_begins_late(
    small: Path, alarm: Alarm, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(small, n_batch=128, n_ctx=len(TOKENS))  # as many pages as a text needs: all are used again
    append(engine, sequence := engine.new_sequence(), TOKENS[:0:-1], logits="none")
    want = append(engine, sequence, TOKENS[:1], generating=True)[0]
    sequence.close()
    start = _thread.start_new_thread

    def start_late(run: Callable[[], object], arguments: tuple[()]) -> int:
        def later() -> None:
            time.sleep(0.02)
            run()

        return start(later, arguments)

    monkeypatch.setattr(_thread, "start_new_thread", start_late)
    text = Transcript(engine)
    assert interrupted(text, alarm, 0.005)
    assert text.tokens == []
    monkeypatch.setattr(_thread, "start_new_thread", start)
    text.prefill(TOKENS[:0:-1])  # goes where the other would have gone
    time.sleep(0.05)  # the work that was given up would have begun by now
    assert GIVEN_UP in {call.state for call in calls}
    text.extend(TOKENS[:1])
    np.testing.assert_array_equal(text.logits(), want)


def test_beside_busy_threads(engine: Engine) -> None:
    want = prompt_logits(engine, TOKENS)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    busy = [threading.Thread(target=spin) for _ in range(6)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(5):
            np.testing.assert_array_equal(prompt_logits(engine, TOKENS), want)
    finally:
        stop.set()


def test_without_a_thread(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    want = prompt_logits(engine, TOKENS)

    def start(run: Callable[[], object], arguments: tuple[()]) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", start)
    np.testing.assert_array_equal(prompt_logits(engine, TOKENS), want)


def test_a_handler_cannot_use_what_it_interrupts(engine: Engine) -> None:
    problems: list[str] = []

    def use(number: int, frame: FrameType | None) -> None:
        try:
            append(engine, engine.new_sequence(), TOKENS[:1])
        except GgufpyError as exc:
            problems.append(str(exc))

    before = signal.signal(signal.SIGALRM, use)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
        while not problems:
            engine.step([Span(engine.new_sequence(), TOKENS)])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "a signal handler cannot use what it interrupts" in problems[0]
