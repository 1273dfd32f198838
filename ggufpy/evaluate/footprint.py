"""What running a model costs: time to load, speed, memory."""

from __future__ import annotations

import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from time import perf_counter

from ggufpy.evaluate.speed import SpeedTest, measure
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine, Span
from ggufpy.tokenizers import load_tokenizer


@dataclass(frozen=True, slots=True)
class Footprint:
    """load: seconds from opening the file to the logits of a first token, vocabulary included.

    prompt, generation: tokens per second; peak: bytes of memory of the whole process, with the part of the
    file that was read.
    """

    load: float
    prompt: float
    generation: float
    peak: int


def footprint(path: Path, prompt: SpeedTest, generation: SpeedTest, repetitions: int) -> Footprint:
    """Measure a model in a process of its own. Raises as `Engine.load` does."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_footprint, path, prompt, generation, repetitions).result()


def _footprint(path: Path, prompt: SpeedTest, generation: SpeedTest, repetitions: int) -> Footprint:
    start = perf_counter()
    with GGUFFile.open(path) as file:
        load_tokenizer(file.metadata)
        engine = Engine.load(
            file,
            n_ctx=prompt.n_tokens + generation.n_tokens,
            n_threads=prompt.n_threads,
            type_k=prompt.type_k,
            type_v=prompt.type_v,
        )
        engine.step([Span(engine.new_sequence(), [0])])
        load = perf_counter() - start
        engine.close()
        prompts, generated = (mean(measure(file, test, repetitions).rates) for test in (prompt, generation))
        return Footprint(load, prompts, generated, _peak())


def _peak() -> int:
    """Bytes. What getrusage says begins, on Linux, with what the process had before it became this one."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    [line] = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
