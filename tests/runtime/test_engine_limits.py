"""The engine at its limits: full contexts, interrupts, forks, senseless calls and files."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import random_llama
from random_llama import TOKENS
from steps import step
from test_engine import load, model, prompt_logits

from ggufpy._kernels import lib
from ggufpy.errors import ContextError, FormatError, UnsupportedModelError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.values import Value
from ggufpy.runtime.engine import Engine, Span

__all__ = ["model"]


def test_full_context_changes_nothing(model: Path) -> None:
    engine = load(model, n_ctx=40)
    sequence = engine.new_sequence()
    step(engine, sequence, TOKENS[:30])
    with pytest.raises(ContextError, match="41 tokens do not fit into a context of 40"):
        step(engine, sequence, TOKENS[30:41])
    assert sequence.length == 30
    row = step(engine, sequence, TOKENS[30:40])[-1]
    np.testing.assert_array_equal(row, prompt_logits(load(model), TOKENS[:40])[-1])


def test_interrupt_ends_a_long_prompt(model: Path) -> None:
    engine = load(model, n_batch=128, n_threads=1)
    sequence = engine.new_sequence()
    lib.gg_use_cpu_flags(0)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            while True:  # until it comes, however fast the machine is
                sequence.rewind(0)
                step(engine, sequence, (TOKENS * 60)[:4096])
    finally:
        timer.cancel()
        lib.gg_use_cpu_flags(0xFFFFFFFF)
    assert sequence.length % 128 == 0
    sequence.rewind(0)
    row = step(engine, sequence, TOKENS)[-1]
    np.testing.assert_array_equal(row, prompt_logits(load(model), TOKENS)[-1])


def test_ids_outside_the_vocabulary_are_refused(model: Path) -> None:
    engine = load(model)
    with pytest.raises(ValueError, match="token 128 is not in the vocabulary of 128"):
        step(engine, engine.new_sequence(), [1, 128])


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tensors = random_llama.arrays()
    missing = {name: t for name, t in tensors.items() if name != "blk.1.ffn_up.weight"}
    with pytest.raises(FormatError, match=r"tensor 'blk\.1\.ffn_up\.weight' is missing"):
        load(random_llama.write(tmp_path / "missing.gguf", missing))
    wrong = tensors | {"blk.0.attn_k.weight": tensors["blk.0.attn_q.weight"]}
    with pytest.raises(FormatError, match=r"attn_k\.weight' has shape"):
        load(random_llama.write(tmp_path / "wrong.gguf", wrong))
    extra = tensors | {"blk.0.attn_sinks.weight": tensors["output_norm.weight"]}
    with pytest.raises(UnsupportedModelError, match=r"no place .*'blk\.0\.attn_sinks\.weight'"):
        load(random_llama.write(tmp_path / "extra.gguf", extra))
    with pytest.raises(FormatError, match=r"'llama\.block_count' is 100000"):
        load(random_llama.write(tmp_path / "deep.gguf", tensors, llama__block_count=100000))
    with pytest.raises(
        UnsupportedModelError,
        match=r"arch\.gguf: architecture 'mamba7' is unknown; ggufpy knows: .*bert, .*llama, ",
    ):
        load(random_llama.write(tmp_path / "arch.gguf", tensors, general__architecture="mamba7"))


@pytest.mark.parametrize("interrupts", [1, 3])
def test_impatience_does_no_harm(model: Path, interrupts: int) -> None:
    """A second Ctrl-C comes while C still works on memory of the call."""
    code = f"""
import os, signal, sys, threading, time
sys.path[:] = {sys.path!r}
from test_engine import load
from ggufpy._kernels import lib
from random_llama import TOKENS
from steps import step
engine = load({str(model)!r}, n_batch=2048, n_threads=1)
lib.gg_use_cpu_flags(0)
def interrupt():
    for _ in range({interrupts}):
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
sequence = engine.new_sequence()
try:
    while True:
        sequence.rewind(0)
        step(engine, sequence, (TOKENS * 60)[:4096])
except KeyboardInterrupt:
    print("interrupted", sequence.length % 2048)
for _ in range(3):
    try:
        time.sleep(0.3)
    except KeyboardInterrupt:
        pass
step(engine, sequence, [1, 2, 3])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (result.returncode, result.stdout) == (0, "interrupted 0\n"), result.stderr


@pytest.mark.parametrize("n", [20, 64])
def test_works_after_fork(model: Path, n: int) -> None:
    engine = load(model)
    want = prompt_logits(engine, TOKENS[:n])
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(prompt_logits(engine, TOKENS[:n]), want) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_sequence_counts_once_and_at_home(model: Path) -> None:
    engine = load(model, n_seq=2)
    sequence = engine.new_sequence()
    with pytest.raises(ValueError, match="there twice"):
        engine.step([Span(sequence, [1]), Span(sequence, [2])])
    with pytest.raises(ValueError, match="of another engine"):
        step(load(model), sequence, [1])
    assert sequence.length == 0


def test_what_was_reserved_in_vain_is_given_back(model: Path) -> None:
    engine = load(model, n_ctx=64, n_seq=2)
    first, second, third = (engine.new_sequence() for _ in range(3))
    step(engine, first, TOKENS[:5])
    with pytest.raises(ContextError):
        engine.step([Span(first, TOKENS[:50]), Span(second, TOKENS[:65])])
    assert [len(sequence.holds[0].columns()) for sequence in (first, second)] == [1, 0]
    step(engine, third, TOKENS[:60])
    fork = first.fork()
    step(engine, fork, [7])
    row = step(engine, first, TOKENS[5:20])[-1]
    np.testing.assert_array_equal(row, prompt_logits(load(model), TOKENS[:20])[-1])


def test_forgotten_sequences_give_their_pages_back(model: Path) -> None:
    engine = load(model, n_ctx=64)
    for _ in range(3):
        step(engine, engine.new_sequence(), TOKENS[:64])


@pytest.mark.parametrize(
    "key, value, problem",
    [
        ("rope__freq_base", 0.0, "more than 1"),
        ("rope__freq_base", 1.0, "more than 1"),
        ("rope__dimension_count", 63, "must be even"),
        ("rope__scaling__original_context_length", 2**31, "whole number"),
        ("rope__scaling__yarn_beta_fast", 0.0, "more than 0"),
        ("attention__head_count", True, "one number"),
        ("attention__layer_norm_rms_epsilon", float("nan"), "finite"),
    ],
)
def test_senseless_hyperparameters_are_refused(tmp_path: Path, key: str, value: Value, problem: str) -> None:
    path = random_llama.write(tmp_path / "m.gguf", random_llama.arrays(), **{f"llama__{key}": value})
    with pytest.raises(FormatError, match=problem):
        load(path)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_senseless_rope_factors_are_refused(tmp_path: Path, factor: float) -> None:
    factors = np.full(random_llama.WIDTH // random_llama.HEADS // 2, factor, np.float32)
    tensors = random_llama.arrays() | {"rope_freqs.weight": factors}
    with pytest.raises(FormatError, match=r"'rope_freqs\.weight' has factors"):
        load(random_llama.write(tmp_path / "m.gguf", tensors))


def test_a_huge_context_is_refused_at_once(tmp_path: Path) -> None:
    changed: dict[str, Value] = {"llama__context_length": 2**31 - 1}
    path = random_llama.write(tmp_path / "m.gguf", random_llama.arrays(), **changed)
    with pytest.raises(ContextError, match="no memory for a KV cache of 2147483648 tokens"):
        Engine.load(GGUFFile.open(path))
