"""What can be compared: each takes a file and the command line, and makes one row of the table."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

from contestants import PROMPT, LlamaCpp, Memory, Ours, Peak, Peer
from turns import Row, Times, rates, ratio, ratios, take_turns

from ggufpy.errors import GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Span

T = TypeVar("T")


def compare_generation(path: Path, args: argparse.Namespace) -> Row:
    """Tokens one by one, beside a probe of the memory."""
    n_ctx = len(PROMPT) + args.tokens
    with GGUFFile.open(path) as file:
        ours = Ours(file, n_ctx, args.threads)
        memory = Memory(ours.engine, file)
        contestants = {"ggufpy": ours.generate, "probe": memory.generate}
        if args.llama_cpp:
            contestants["llama.cpp"] = LlamaCpp(path, n_ctx, args.threads).generate
        if args.peer:
            contestants[args.peer.name] = Peer(args.peer, path, args.threads).generate
        times = take_turns(_with(contestants, args.tokens), args.rounds)
    row = {"GB": f"{memory.n_bytes / 1e9:.3f}", **rates(times, args.tokens)}
    for name in ("ggufpy", "probe"):
        row[f"{name} GB/s"] = f"{args.tokens * memory.n_bytes / median(times[name]) / 1e9:.1f}"
    return row | ratios(times)


def compare_prompt(path: Path, args: argparse.Namespace) -> Row:
    """A prompt in batches of 512, beside a probe of the arithmetic that it is read with."""
    tokens = [100 + i % 3000 for i in range(args.tokens)]
    with GGUFFile.open(path) as file:
        ours = Ours(file, args.tokens, args.threads)
        peak = Peak(ours.engine, file, args.tokens)
        readers = {"ggufpy": ours.read_prompt}
        if args.llama_cpp:
            readers["llama.cpp"] = LlamaCpp(path, args.tokens, args.threads).read_prompt
        if args.peer:
            readers[args.peer.name] = Peer(args.peer, path, args.threads).read_prompt
        times = take_turns({**_with(readers, tokens), peak.name: peak.read_prompt}, args.rounds)
    return rates(times, args.tokens) | ratios(times)


def compare_sequences(path: Path, args: argparse.Namespace) -> Row:
    """Several sequences that generate together, beside one."""
    together = f"{args.sequences} together"
    with GGUFFile.open(path) as file:
        ours = Ours(file, len(PROMPT) + args.tokens, args.threads, n_seq=args.sequences)
        times = take_turns(
            {
                "one": lambda: ours.generate(args.tokens),
                together: lambda: ours.generate(args.tokens, args.sequences),
            },
            args.rounds,
        )
    return {
        "one tok/s": rates(times, args.tokens)["one tok/s"],
        f"{together} tok/s": rates(times, args.tokens * args.sequences)[f"{together} tok/s"],
        f"{together} / one": ratio(times, "one", together, args.sequences),
    }


def compare_depth(path: Path, args: argparse.Namespace) -> Row:
    """A token after many, beside 1.3 times one after none and reading the KV cache at the probe's pace."""
    row: Row = {}
    for kv in args.kv:
        with GGUFFile.open(path) as file:
            times, kv_bytes = _depth_times(file, kv, args)
        row |= {
            f"{kv} KV GB": f"{kv_bytes / 1e9:.3f}",
            f"{kv} ms at 0": f"{1e3 * median(times['shallow']) / args.tokens:.1f}",
            f"{kv} ms at {args.depth}": f"{1e3 * median(times['deep']) / args.tokens:.1f}",
            f"{kv} deep / allowed": ratio(times, "deep", "allowed"),
        }
    return row


def _depth_times(file: GGUFFile, kv: str, args: argparse.Namespace) -> tuple[Times, int]:
    engine = Ours(file, args.depth + args.tokens, args.threads, n_seq=2, kv=kv).engine
    memory = Memory(engine, file)
    deep, shallow = engine.new_sequence(), engine.new_sequence()
    print(f"reading {args.depth} tokens", file=sys.stderr)
    engine.step([Span(deep, [100 + i % 3000 for i in range(args.depth)], logits="none")])
    kv_bytes = engine.bytes_read(args.depth - 1)

    def generate(depth: int) -> float:
        sequence = deep if depth else shallow
        start = perf_counter()
        for i in range(args.tokens):
            engine.step([Span(sequence, [100 + i % 3000], generating=True)])
        seconds = perf_counter() - start
        sequence.rewind(depth)
        return seconds

    times = take_turns(
        {
            "shallow": lambda: generate(0),
            "deep": lambda: generate(args.depth),
            "probe": lambda: memory.generate(args.tokens),
        },
        args.rounds,
    )
    times["allowed"] = [
        1.3 * shallow + probe * kv_bytes / memory.n_bytes
        for shallow, probe in zip(times["shallow"], times["probe"], strict=True)
    ]
    return times, kv_bytes


def compare_neighbour(path: Path, args: argparse.Namespace) -> Row:
    """Generation while another process keeps one of the CPUs busy, beside generation alone."""
    with GGUFFile.open(path) as file:
        ours = Ours(file, len(PROMPT) + args.tokens, args.threads)

        def with_neighbour() -> float:
            cpu = max(os.sched_getaffinity(0))
            code = f"import os; os.sched_setaffinity(0, {{{cpu}}}); print(flush=True)\nwhile True: pass"
            with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as neighbour:
                try:
                    assert neighbour.stdout
                    neighbour.stdout.read(1)
                    return ours.generate(args.tokens)
                finally:
                    neighbour.kill()

        contestants = {"alone": lambda: ours.generate(args.tokens), "with neighbour": with_neighbour}
        times = take_turns(contestants, args.rounds)
    return rates(times, args.tokens) | {"with neighbour / alone": ratio(times, "alone", "with neighbour")}


def compare_start(path: Path, args: argparse.Namespace) -> Row:
    """A fresh process: seconds to its first token, and the most memory it had resident."""
    options = ["-m", str(path), "-p", "hi", "-n", "1", "-t", str(args.threads)]
    resident: list[int] = []

    def start() -> float:
        begin = perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "ggufpy.run", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout
        with process.stdout as out:
            out.read(1)  # or its end, if the token is no text
            seconds = perf_counter() - begin
            out.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise GgufpyError(f"ggufpy.run: exit status {process.returncode}")
        resident.append(usage.ru_maxrss * 1024)
        return seconds

    times = take_turns({"ggufpy": start}, args.rounds)["ggufpy"]
    size = path.stat().st_size
    return {
        "seconds to the first token": f"{median(times):.2f} ({min(times):.2f} to {max(times):.2f})",
        "file MB": f"{size / 1e6:.0f}",
        "resident MB": f"{max(resident) / 1e6:.0f}",
        "resident / file": f"{max(resident) / size:.2f}",
    }


def _with(runs: Mapping[str, Callable[[T], float]], argument: T) -> dict[str, Callable[[], float]]:
    return {name: partial(run, argument) for name, run in runs.items()}


# Name: how to measure it, and how many tokens if nothing else is asked for.
MODES: dict[str, tuple[Callable[[Path, argparse.Namespace], Row], int]] = {
    "generation": (compare_generation, 32),
    "prompt": (compare_prompt, 512),
    "sequences": (compare_sequences, 32),
    "depth": (compare_depth, 16),
    "neighbour": (compare_neighbour, 64),
    "start": (compare_start, 1),
}
