"""A child that was forked while other threads generate."""

import os
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from ggufpy import Llama, convert_checkpoint

SECONDS = 60  # a child that takes longer hangs


@pytest.fixture
def model(shipped_checkpoint: Path, tmp_path: Path) -> Llama:
    return Llama(convert_checkpoint(shipped_checkpoint, tmp_path / "m.gguf", outtype="q8_0")[0], n_ctx=256)


def answer(model: Llama) -> object:
    response = model.create_completion("A river is", max_tokens=6, temperature=0.0)
    return response["choices"][0]["text"]  # type: ignore[index]


def in_child(model: Llama, want: object) -> int:
    """Exit status of a child that completes a text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about forks of threads
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        os._exit(0 if answer(model) == want else 3)
    return os.waitpid(child, 0)[1]


def test_children_of_a_busy_process_use_the_model(model: Llama) -> None:
    want = answer(model)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            list(model.create_completion("Once upon a time " * 12, max_tokens=20, stream=True))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(2)
    try:
        for _ in range(8):
            time.sleep(float(rng.uniform(0, 0.05)))
            assert in_child(model, want) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
