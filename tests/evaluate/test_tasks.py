"""Tasks: their files, which are drawn, and what a model chooses."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from known_engine import Bytes, Table
from oracle import Oracle, needs_oracle

from ggufpy.commands import perplexity as command
from ggufpy.errors import FormatError, GgufpyError
from ggufpy.evaluate.choices import Score, cut, log_likelihoods, score
from ggufpy.evaluate.task_files import (
    Task,
    _below,
    drawn,
    drawn_hellaswag,
    read_hellaswag,
    read_multiple_choice,
    read_winogrande,
)
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine
from ggufpy.tokenizers import Tokenizer, load_tokenizer

HELLASWAG = "Cooking: A pan\n2\nis hot.\nflies.\nheats up slowly.\nsings a song.\n"
WINOGRANDE = '0,"Ann beat Bo, so _ won.",Ann,Bo,1\n1,The cup fits the box as _ is small.,cup,box,1\n'


def string(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def answers(texts: list[str], labels: list[int]) -> bytes:
    return (
        struct.pack("<I", len(texts))
        + b"".join(map(string, texts))
        + struct.pack(f"<{len(labels)}i", *labels)
    )


def multiple_choice(tasks: list[bytes]) -> bytes:
    starts = [4 + 4 * len(tasks) + sum(map(len, tasks[:i])) for i in range(len(tasks))]
    return struct.pack(f"<I{len(tasks)}I", len(tasks), *starts) + b"".join(tasks)


QUIZ = multiple_choice(
    [
        string("What is é?") + answers(["A letter.", "A number."], [1, 0]) + answers(["x"], [1]),
        string("Two and two") + answers(["is 4", "is 5", "is four"], [1, 0, 1]) + answers([], []),
    ]
)


def test_hellaswag_has_six_lines_a_task() -> None:
    first, second = read_hellaswag((HELLASWAG + HELLASWAG.replace("\n", "\r\n")).encode(), "f")
    endings = ("is hot.", "flies.", "heats up slowly.", "sings a song.")
    assert first == second == Task(tuple(f"Cooking: A pan {each}" for each in endings), frozenset([2]))


def test_winogrande_is_csv() -> None:
    first, second = read_winogrande(WINOGRANDE.removesuffix("\n").encode(), "f")
    assert first.texts == ("Ann beat Bo, so Ann won.", "Ann beat Bo, so Bo won.")
    assert (first.right, first.behind) == (frozenset([0]), (19, 18))
    assert second.texts[1] == "The cup fits the box as box is small."


def test_multiple_choices_are_binary() -> None:
    first, second = read_multiple_choice(QUIZ, "f")
    assert first == Task(("What is é? A letter.", "What is é? A number."), frozenset([0]))
    assert second == Task(("Two and two is 4", "Two and two is 5", "Two and two is four"), frozenset([0, 2]))


@pytest.mark.parametrize(
    ("read", "data", "message"),
    [
        (read_hellaswag, HELLASWAG.encode() + b"more\n", "f: 7 lines are no multiple of 6"),
        (read_hellaswag, HELLASWAG.replace("2", "4").encode(), "f: line 2 is '4', must be"),
        (read_winogrande, WINOGRANDE.replace("_", "it").encode(), "f: line 1: '0,Ann beat"),
        (read_winogrande, WINOGRANDE.replace(",1\n1", ",1\n1,").encode(), "f: line 2: "),
        (read_winogrande, WINOGRANDE.replace("box,1", "box,3").encode(), "f: line 2: "),
        (read_winogrande, b"0," + b"_" * 200_000 + b",a,b,1", "f: line 1: field larger"),
        (read_multiple_choice, QUIZ[:-1], "f: byte .* begins"),
        (read_multiple_choice, b"\xff" * 8, "f: byte 4 begins 17179869180 bytes, the file has 8"),
        (read_multiple_choice, multiple_choice([string("q") + struct.pack("<I", 101)]), "101 answers"),
        (read_multiple_choice, multiple_choice([string("") + answers(["x"], [1]) * 2]), "task 1 of 1 has no"),
        (
            read_multiple_choice,
            multiple_choice([string("q") + answers(["x", ""], [1, 0]) * 2]),
            "empty answer",
        ),
    ],
)
def test_damaged_files_are_refused(read: object, data: bytes, message: str) -> None:
    assert callable(read)
    with pytest.raises(FormatError, match=message):
        read(data, "f")


def test_tasks_are_drawn_as_llama_perplexity_draws_them() -> None:
    # What std::mt19937(1) of GCC 13's library gave, with the expressions of llama.cpp's perplexity.cpp.
    assert drawn(range(1000), 8) == [417, 996, 718, 929, 0, 127, 300, 992]
    left = list(range(10))
    expected = [left.pop(i) for i in (4, 8, 5, 6, 0, 0, 1, 2, 0, 0)]
    assert drawn_hellaswag(range(10), 99) == expected
    assert drawn_hellaswag(range(1000), 2) == [417, 997]
    assert drawn(range(3), 3) == [0, 1, 2]


def test_numbers_that_would_make_some_items_likelier_are_drawn_again() -> None:
    numbers = iter([0, 2**31])
    random = SimpleNamespace(randint=lambda *args, **options: next(numbers))
    assert _below(cast(np.random.RandomState, random), 3) == 1


def expected(engine: Table, text: str, start: int, stop: int | None = None) -> float:
    """The mean log-probability of the bytes of a text from `start` on."""
    tokens = text.encode()
    found = []
    for i in range(start, len(tokens))[: None if stop is None else stop - start]:
        row = engine.row(i - 1, tokens[i - 1]).astype(float)
        found.append(row[tokens[i]] - np.log(np.exp(row).sum()))
    return float(np.mean(found))


def chosen(engine: Table, task: Task) -> list[float]:
    tokenizer = cast(Tokenizer, Bytes())
    return log_likelihoods(cast(Engine, engine), cut(tokenizer, task, engine.n_ctx, 1))


@pytest.mark.parametrize(
    "texts", [("ab cd", "ab cef", "ab x"), ("ab", "abcd"), ("ab c", "ab d"), ("xb", "yb")]
)
def test_what_differs_counts_by_its_mean(texts: tuple[str, ...]) -> None:
    engine = Table(16)
    start = {"a": 0, "x": 1}[texts[0][0]] or next(
        i for i in range(9) if len({text[i : i + 1] for text in texts}) > 1 or i + 1 == min(map(len, texts))
    )
    found = chosen(engine, Task(texts, frozenset([0])))
    assert found == pytest.approx([expected(engine, text, start) for text in texts])


@pytest.mark.parametrize(
    ("sentence", "words", "counts_behind"),
    [
        ("it _ ran off.", "abc,xy", True),
        ("_ ran off.", "abc,xy", True),
        ("it was _.", "abc,xy", False),
        ("it was _", "abcdef,uvwxyz", False),
    ],
)
def test_what_follows_the_words_counts_if_it_is_enough(
    sentence: str, words: str, counts_behind: bool
) -> None:
    engine = Table(32)
    [task] = read_winogrande(f"0,{sentence},{words},1".encode(), "f")
    at = sentence.index("_")
    starts = list(task.behind) if counts_behind else [max(1, at)] * 2
    stops = [max(start + 1, len(text) - 1) for start, text in zip(starts, task.texts, strict=True)]
    places = zip(task.texts, starts, stops, strict=True)
    assert chosen(engine, task) == pytest.approx([expected(engine, *place) for place in places])


def test_the_score_counts_what_is_right() -> None:
    engine = Table(64)
    tasks = read_multiple_choice(QUIZ, "f")
    told: list[Score] = []
    found = score(cast(Engine, engine), cast(Tokenizer, Bytes()), tasks, on_task=told.append)
    likelihoods = [chosen(engine, task) for task in tasks]
    best = [each.index(max(each)) for each in likelihoods]
    n_right = sum(i in task.right for i, task in zip(best, tasks, strict=True))
    assert found == told[-1] == Score(2, n_right, 2 / 5)
    of = Score(400, 134, 0.25)
    assert of.accuracy == pytest.approx(0.335)
    assert of.error == pytest.approx(np.sqrt(0.335 * 0.665 / 399))
    assert of.interval == pytest.approx((0.2905, 0.3826), abs=1e-4)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("a" * 20, "b"), "task 1 has 20 tokens, the context 16; give -c 20"),
        (("a", "bc"), "a text of 1 tokens"),
    ],
)
def test_tasks_that_cannot_be_computed_are_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(GgufpyError, match=message):
        chosen(Table(16), Task(texts, frozenset([0])))


def test_the_command_scores_files(tmp_path: Path, f16: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in (
        ("hellaswag", 3 * HELLASWAG.encode()),
        ("winogrande", WINOGRANDE.encode()),
        ("multiple-choice", QUIZ),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        arguments = ["-m", str(f16), "-f", str(path), f"--{name}", f"--{name}-tasks", "2", "-t", "1"]
        assert command.main([*arguments, "-o", "json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert (record["task"], record["n_tasks"]) == (name, 2)
        assert command.main(arguments) == 0
        assert capsys.readouterr().out.startswith(f"{name}: {100 * record['accuracy']:.2f} ± ")
    assert command.main([*arguments, "-m", str(f16)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    path.write_bytes(struct.pack("<I", 0))
    assert command.main(arguments) == 1
    assert "has no tasks" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([*arguments, "--hellaswag"])


@needs_oracle
def test_likelihoods_are_those_of_llama_cpps_logits(f16: Path) -> None:
    [task] = read_hellaswag(HELLASWAG.encode(), "f")
    with GGUFFile.open(f16) as file:
        tokenizer = load_tokenizer(file.metadata)
        engine = Engine.load(file, n_ctx=64, n_seq=5, precision="exact", n_threads=1)
        found = log_likelihoods(engine, cut(tokenizer, task, 64, 1))
    with Oracle(f16, n_ctx=64, kv_f32=True) as oracle:
        tokens = [oracle.tokenize(text) for text in task.texts]
        common = next(i for i in range(99) if len({each[i] for each in tokens}) > 1)
        for value, each in zip(found, tokens, strict=True):
            rows = oracle.logits(each)[common - 1 : -1].astype(float)
            losses = np.logaddexp.reduce(rows, axis=1) - rows[np.arange(len(rows)), each[common:]]
            assert value == pytest.approx(-losses.mean(), rel=3e-4)
