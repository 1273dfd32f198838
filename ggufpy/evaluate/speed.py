"""How fast a model runs, measured as llama-bench does, and how near that comes to what the machine can do.

A generated token needs every weight of its linears once, and the KV cache of the tokens before it: the limit
is memory. The tokens of a prompt share the weights: the limit is arithmetic. Its multiply-adds are those of
the linears that are computed: none of attention, and after the last attention only those of the last token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from statistics import mean, median, stdev
from time import perf_counter_ns

import numpy as np

from ggufpy._kernels import lib
from ggufpy.evaluate.probes import ARITHMETIC, PeakProbe, ReadProbe
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import FEW_TOKENS, Engine, Span
from ggufpy.runtime.state import Sequence as Tokens


@dataclass(frozen=True, slots=True)
class SpeedTest:
    """A prompt of n_prompt tokens or n_gen generated ones, after n_depth tokens that are not timed.

    type_k, type_v: of the KV cache.
    """

    n_prompt: int
    n_gen: int
    n_depth: int
    n_threads: int
    type_k: str = "f16"
    type_v: str = "f16"

    @property
    def n_tokens(self) -> int:
        """Tokens that are timed."""
        return self.n_prompt + self.n_gen

    @property
    def label(self) -> str:
        """llama-bench's name: ``"pp512"``, ``"tg128 @ d4096"``."""
        name = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{name} @ d{self.n_depth}" if self.n_depth else name


@dataclass(frozen=True, slots=True)
class Speed:
    """The result of a test.

    work: what a repetition has to do at least, and limits: what the machine did per second right after each;
    in bytes read if arithmetic is None, else in multiply-adds of that kind.
    """

    test: SpeedTest
    n_batch: int
    time: datetime
    nanoseconds: tuple[int, ...]
    arithmetic: str | None
    work: int
    limits: tuple[float, ...]

    @property
    def rates(self) -> list[float]:
        """Tokens per second, of each repetition."""
        return [1e9 * self.test.n_tokens / each for each in self.nanoseconds]

    @property
    def limit(self) -> float:
        """What the machine did per second, the median."""
        return median(self.limits)

    @property
    def share(self) -> float:
        """The part of what the machine can do that was put to use: the median over repetitions."""
        shares = zip(self.nanoseconds, self.limits, strict=True)
        return median(1e9 * self.work / each / limit for each, limit in shares)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, which of one value is 0."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def measure(
    file: GGUFFile, test: SpeedTest, repetitions: int, *, on_run: Callable[[], None] | None = None
) -> Speed:
    """Run `test` so many times, after once that does not count; after each run the machine is measured.

    on_run is told after each run. Raises as `Engine.load` does.
    """
    n_ctx = test.n_depth + test.n_tokens
    engine = Engine.load(file, n_ctx=n_ctx, n_threads=test.n_threads, type_k=test.type_k, type_v=test.type_v)
    bench = _Bench(engine, test)
    probe = _probe(engine, file, test)
    time = datetime.now(UTC)
    samples: list[tuple[int, float]] = []
    for _ in range(repetitions + 1):
        samples.append((bench.run(), probe.rate()))
        if on_run is not None:
            on_run()
    nanoseconds, limits = zip(*samples[1:], strict=True)
    arithmetic = probe.arithmetic if isinstance(probe, PeakProbe) else None
    return Speed(test, engine.n_batch, time, nanoseconds, arithmetic, _work(engine, file, test), limits)


def read_bytes(engine: Engine, file: GGUFFile) -> int:
    """Bytes of weights that a generated token needs."""
    return sum(int(file.tensors[name].n_bytes * part) for name, _, part in engine.linears)


def multiply_adds(engine: Engine, file: GGUFFile, n_tokens: int) -> int:
    """Multiply-adds of the linears for a prompt of which the last token's logits are wanted."""
    return sum(
        int(prod(file.tensors[name].shape) * part) * (1 if wanted_only else n_tokens)
        for name, wanted_only, part in engine.linears
    )


def prompt_arithmetic(engine: Engine, file: GGUFFile) -> str:
    """What most multiply-adds of a prompt are done in, a key of ARITHMETIC."""
    names = {operand: name for name, operand in ARITHMETIC.items()}
    weights = Counter[str]()
    for name, wanted_only, _ in engine.linears:
        if not wanted_only:
            tensor = file.tensors[name]
            weights[names[lib.gg_wide_operand(tensor.type)]] += prod(tensor.shape)
    return weights.most_common(1)[0][0]


class _Bench:
    """A test at work; tokens are random, their ids decide nothing."""

    def __init__(self, engine: Engine, test: SpeedTest) -> None:
        self._engine, self._test = engine, test
        self._random = np.random.default_rng(0)
        self._sequence: Tokens = engine.new_sequence()
        if test.n_depth:
            engine.step([Span(self._sequence, self._tokens(test.n_depth), logits="none")])

    def run(self) -> int:
        """Nanoseconds of the tokens that count."""
        start = perf_counter_ns()
        if self._test.n_prompt:
            n_prompt = self._test.n_prompt
            self._engine.step([Span(self._sequence, self._tokens(n_prompt), n_prompt < FEW_TOKENS)])
        for token in self._tokens(self._test.n_gen):
            self._engine.step([Span(self._sequence, [token], generating=True)])
        nanoseconds = perf_counter_ns() - start
        self._sequence.rewind(self._test.n_depth)
        return nanoseconds

    def _tokens(self, n: int) -> list[int]:
        return [int(token) for token in self._random.integers(0, self._engine.n_embeddings, n)]


def _probe(engine: Engine, file: GGUFFile, test: SpeedTest) -> ReadProbe | PeakProbe:
    if test.n_prompt:
        return PeakProbe(prompt_arithmetic(engine, file), test.n_threads)
    return ReadProbe((file.tensors[name] for name, *_ in engine.linears), test.n_threads)


def _work(engine: Engine, file: GGUFFile, test: SpeedTest) -> int:
    """Multiply-adds of a prompt, or bytes of generation, for all its tokens."""
    if test.n_prompt:
        return multiply_adds(engine, file, test.n_prompt)
    kept = sum(map(engine.bytes_read, range(test.n_depth, test.n_depth + test.n_gen)))
    return test.n_gen * read_bytes(engine, file) + kept
