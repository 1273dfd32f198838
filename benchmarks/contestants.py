"""Those whose speed is compared: our engine, llama.cpp, and probes of what the machine can do at most."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from ggufpy.errors import GgufpyError
from ggufpy.evaluate.probes import PeakProbe, ReadProbe
from ggufpy.evaluate.speed import multiply_adds, prompt_arithmetic, read_bytes
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine, Span

HERE = Path(__file__).resolve().parent
PROMPT = tuple(range(100, 108))


class Ours:
    """ggufpy's engine; kv: type of its KV cache."""

    def __init__(
        self, file: GGUFFile, n_ctx: int, n_threads: int, *, n_seq: int = 1, kv: str = "f16"
    ) -> None:
        types: dict[str, Any] = {} if kv == "f16" else {"type_k": kv, "type_v": kv}  # f16 is the default
        self.engine = Engine.load(file, n_ctx=n_ctx, n_threads=n_threads, n_seq=n_seq, **types)

    def generate(self, n_tokens: int, n_sequences: int = 1) -> float:
        """Seconds for `n_tokens` one by one in each sequence, after prompts that are not timed."""
        sequences = [self.engine.new_sequence() for _ in range(n_sequences)]
        for sequence in sequences:
            self.engine.step([Span(sequence, PROMPT)])
        start = perf_counter()
        for i in range(n_tokens):
            self.engine.step([Span(sequence, [100 + i % 3000], generating=True) for sequence in sequences])
        seconds = perf_counter() - start
        for sequence in sequences:
            sequence.close()
        return seconds

    def read_prompt(self, tokens: Sequence[int]) -> float:
        """Seconds for `tokens` in one batch, with the logits of the last."""
        sequence = self.engine.new_sequence()
        start = perf_counter()
        self.engine.step([Span(sequence, tokens)])
        seconds = perf_counter() - start
        sequence.close()
        return seconds


class LlamaCpp:
    """llama.cpp from the `xllamacpp` wheel (AVX2), without flash attention."""

    def __init__(self, path: Path, n_ctx: int, n_threads: int) -> None:
        sys.path.append(str(HERE.parent / "tests"))
        from oracle import Oracle

        self._oracle = Oracle(path, n_ctx, n_threads)

    def generate(self, n_tokens: int) -> float:
        """Seconds for `n_tokens` one by one, after a prompt that is not timed."""
        self._oracle.clear()
        self._oracle.decode(PROMPT)
        start = perf_counter()
        for i in range(n_tokens):
            self._oracle.decode([100 + i % 3000])
        return perf_counter() - start

    def read_prompt(self, tokens: Sequence[int]) -> float:
        """Seconds for `tokens` in one batch, with the logits of the last."""
        self._oracle.clear()
        start = perf_counter()
        self._oracle.decode(tokens)
        return perf_counter() - start


class Peer:
    """A llama-bench binary, started for each measurement."""

    def __init__(self, binary: Path, path: Path, n_threads: int) -> None:
        self._binary = binary
        self._command = [str(binary), "-m", str(path), "-t", str(n_threads), "-r", "1", "-o", "json"]

    def generate(self, n_tokens: int) -> float:
        """Seconds for `n_tokens`, one by one."""
        return self._seconds("-p", "0", "-n", str(n_tokens))

    def read_prompt(self, tokens: Sequence[int]) -> float:
        """Seconds for as many tokens in one batch."""
        return self._seconds("-p", str(len(tokens)), "-n", "0")

    def _seconds(self, *options: str) -> float:
        done = subprocess.run([*self._command, *options], capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise GgufpyError(f"{self._binary}: exit status {done.returncode}: {last:.200}")
        try:
            [result] = json.loads(done.stdout)
            return float(result["avg_ns"]) / 1e9
        except (ValueError, TypeError, KeyError):
            raise GgufpyError(f"{self._binary}: printed no result of one test as llama-bench does") from None


class Memory:
    """A probe that reads the bytes that a token needs, from the same mapping, with as many threads.

    n_bytes: of the weights that a token needs, of experts those of the used ones.
    """

    def __init__(self, engine: Engine, file: GGUFFile) -> None:
        self._probe = ReadProbe((file.tensors[name] for name, *_ in engine.linears), engine.n_threads)
        self._probe.read()
        self.n_bytes = read_bytes(engine, file)

    def generate(self, n_tokens: int) -> float:
        """Seconds for the bytes of as many tokens."""
        done, wanted, start = 0, n_tokens * self.n_bytes, perf_counter()
        while done < wanted:
            done += self._probe.read()
        return (perf_counter() - start) * wanted / done


class Peak:
    """A probe that multiplies and adds in registers; name: what it multiplies."""

    def __init__(self, engine: Engine, file: GGUFFile, n_tokens: int) -> None:
        self._probe = PeakProbe(prompt_arithmetic(engine, file), engine.n_threads)
        self._multiply_adds = multiply_adds(engine, file, n_tokens)
        self.name = f"{self._probe.arithmetic} peak"

    def read_prompt(self) -> float:
        """Seconds that the prompt's multiply-adds take."""
        return self._multiply_adds / self._probe.rate()
