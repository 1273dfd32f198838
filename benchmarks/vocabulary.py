"""Speed of tokenizers: ours, that of `tokenizers`, and llama.cpp's.

    python benchmarks/vocabulary.py -m llama-bpe.gguf -f english.txt [--rounds 5] [--llama-cpp]

A text of a file as one string, in MB/s; a text of 1 MB without a space, and opening a vocabulary of 150,000
random tokens, in seconds. All take turns, round by round, so that a slow moment of the machine hits all of
them. The ids of all are compared first. Medians are printed, and of the ratios the median over rounds with
the smallest and the largest.
"""

from __future__ import annotations

import argparse
import random
import shlex
import string
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import tokenizers
from random_vocabulary import random_vocabulary
from tokenizers import models, pre_tokenizers
from turns import Row, print_table, ratios, take_turns

from ggufpy.commands.console import run_command
from ggufpy.errors import GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.pretokenizers import PRE_TOKENIZERS

HERE = Path(__file__).resolve().parent
N_TOKENS = 150_000
N_LETTERS = 1_000_000

Encode = Callable[[str], list[int]]


def ours(path: Path) -> Encode:
    """That of ggufpy for a file."""
    with GGUFFile.open(path) as file:
        tokenizer = load_tokenizer(file.metadata)
    return lambda text: tokenizer.encode(text, add_special=False)


def library(path: Path) -> Encode:
    """`tokenizers`, made of the merges in a file, which has to be of byte-level BPE."""
    with GGUFFile.open(path) as file:
        metadata: Mapping[str, Any] = dict(file.metadata)
    if metadata["tokenizer.ggml.model"] != "gpt2":
        raise GgufpyError(f"{path}: not byte-level BPE; take llama.cpp's ggml-vocab-llama-bpe.gguf")
    program = PRE_TOKENIZERS[metadata["tokenizer.ggml.pre"]]
    vocab = {text: id for id, text in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [(left, right) for left, right in map(str.split, metadata["tokenizer.ggml.merges"])]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges, ignore_merges=program.ignore_merges))
    splits = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in program.regexes]
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_])
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def llama_cpp(path: Path) -> Encode:
    """llama.cpp's, from the `xllamacpp` wheel."""
    sys.path.append(str(HERE.parent / "tests"))
    from oracle import Oracle

    oracle = Oracle(path, vocab_only=True)
    return lambda text: oracle.tokenize(text, add_special=False)


def seconds(run: Callable[[], object]) -> float:
    """How long one run takes."""
    start = perf_counter()
    run()
    return perf_counter() - start


def compare_texts(encoders: Mapping[str, Encode], text: str, rounds: int) -> Row:
    """One row for a text; raises GgufpyError if the ids differ."""
    wanted = encoders["ggufpy"](text)
    for name, encode in encoders.items():
        if encode(text) != wanted:
            raise GgufpyError(f"{name} gives other ids than ggufpy; take another text")
    turns = {name: partial(seconds, partial(encode, text)) for name, encode in encoders.items()}
    times = take_turns(turns, rounds)
    n_bytes = len(text.encode())
    medians = {f"{name} s": f"{median(each):.3f}" for name, each in times.items()}
    rates = {f"{name} MB/s": f"{n_bytes / median(each) / 1e6:.2f}" for name, each in times.items()}
    return {"bytes": f"{n_bytes:,}", **medians, **rates} | ratios(times)


def compare_opening(kinds: Mapping[str, Callable[[Path], Encode]], n_tokens: int, rounds: int) -> Row:
    """One row for a file with nothing but a random vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        metadata = {"general.architecture": "llama", **random_vocabulary(n_tokens)}
        (path,) = write_gguf(Path(folder) / "vocabulary.gguf", metadata, [])
        turns = {name: partial(seconds, partial(kind, path)) for name, kind in kinds.items()}
        times = take_turns(turns, rounds)
        size = path.stat().st_size
    medians = {f"{name} s": f"{median(each):.3f}" for name, each in times.items()}
    return {"bytes": f"{size:,}", **medians} | ratios(times)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print a table and the command that made it."""
    parser = argparse.ArgumentParser(description="Compare the speed of tokenizers.")
    parser.add_argument("-m", "--model", type=Path, required=True, help="a GGUF file of byte-level BPE")
    parser.add_argument("-f", "--file", type=Path, required=True, help="a text of some MB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama-cpp", action="store_true", help="llama.cpp takes turns too, from xllamacpp")
    args = parser.parse_args(argv)
    command = shlex.join(["python", "benchmarks/vocabulary.py", *(sys.argv[1:] if argv is None else argv)])
    return run_command(lambda: _compare(args, command))


def _compare(args: argparse.Namespace, command: str) -> int:
    kinds = {"ggufpy": ours, "tokenizers": library} | ({"llama.cpp": llama_cpp} if args.llama_cpp else {})
    encoders = {name: kind(args.model) for name, kind in kinds.items()}
    letters = random.Random(0).choices(string.ascii_lowercase, k=N_LETTERS)
    rows = {
        args.file.name: compare_texts(encoders, args.file.read_bytes().decode(), args.rounds),
        f"{N_LETTERS:,} letters": compare_texts(encoders, "".join(letters), args.rounds),
        f"opening {N_TOKENS:,} tokens": compare_opening(kinds, N_TOKENS, args.rounds),
    }
    print_table(rows)
    print(f"\n`{command}`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
