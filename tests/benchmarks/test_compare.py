"""The benchmarks against others and against the machine: that each runs, and prints what it says."""

import sys
from pathlib import Path

import pytest
from compare import main
from contestants import Memory, Ours
from random_model import TYPES, random_model
from shapes import llama
from turns import ratio, take_turns

from ggufpy.gguf.reader import GGUFFile

PEER = """#!{python}
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert options.keys() == {{"-m", "-t", "-r", "-o", "-p", "-n"}}
assert (options["-r"], options["-o"]) == ("1", "json")
print("some news", file=sys.stderr)
print(json.dumps({results}))
"""


@pytest.fixture(autouse=True)
def _short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggufpy.evaluate.probes._SECONDS", 0.001)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    random_model(path, llama(1, 256, (4, 2, 64), 512, 4500, context=64, is_tied=False), TYPES["q8_0"])
    return path


def peer(folder: Path, results: str) -> Path:
    path = folder / "llama-bench"
    path.write_text(PEER.format(python=sys.executable, results=results))
    path.chmod(0o755)
    return path


def rows(output: str) -> dict[str, str]:
    """Column: cell of the only line of a table."""
    header, _, cells = ([cell.strip() for cell in line.split("|")[2:-1]] for line in output.splitlines()[:3])
    return dict(zip(header, cells, strict=True))


def test_only_weights_of_linears_count_as_read(model: Path) -> None:
    matrices = 2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 512 + 4500 * 256
    norms = 3 * 256 * 4  # between them in the file, so that one pass reads all
    with GGUFFile.open(model) as file:
        memory = Memory(Ours(file, 8, 1).engine, file)
        assert matrices // 32 * 34 <= memory.n_bytes <= matrices // 32 * 34 + norms
        assert memory.generate(2) > 0


@pytest.mark.parametrize(("what", "tokens"), [("generation", 5), ("prompt", 20)])
def test_a_peer_takes_turns(
    what: str, tokens: int, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    binary = peer(tmp_path, '[{"avg_ns": 10**9 * int(options["-p"]) + 10**9 * int(options["-n"])}]')
    assert main([what, "-m", str(model), "-n", str(tokens), "--rounds", "1", "--peer", str(binary)]) == 0
    table = rows(capsys.readouterr().out)
    assert table["llama-bench tok/s"] == "1.0"
    ratio_of_one_round = float(table["ggufpy / llama-bench"].split()[0])
    assert ratio_of_one_round == pytest.approx(float(table["ggufpy tok/s"]), rel=0.01)
    assert any(name.endswith((" probe", " peak")) for name in table if name.startswith("ggufpy / "))


@pytest.mark.parametrize("results", ["[]", "[{}]", "{}", "[{'avg_ns': None}]"])
def test_a_peer_that_prints_something_else_is_one_line(
    results: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    binary = peer(tmp_path, results)
    assert main(["generation", "-m", str(model), "-n", "1", "--peer", str(binary)]) == 1
    assert "printed no result" in capsys.readouterr().err.splitlines()[-1]


def test_a_peer_that_fails_is_quoted(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary = peer(tmp_path, "sys.exit('no such model')")
    assert main(["prompt", "-m", str(model), "-n", "1", "--peer", str(binary)]) == 1
    assert "exit status 1: no such model" in capsys.readouterr().err.splitlines()[-1]
    assert main(["prompt", "-m", str(model), "-n", "1", "--peer", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        (["sequences", "--sequences", "3"], ["one tok/s", "3 together tok/s", "3 together / one"]),
        (["depth", "--depth", "40"], ["f16 KV GB", "f16 ms at 0", "f16 ms at 40", "f16 deep / allowed"]),
        (["neighbour"], ["alone tok/s", "with neighbour tok/s", "with neighbour / alone"]),
        (["start"], ["seconds to the first token", "file MB", "resident MB", "resident / file"]),
    ],
    ids=lambda value: value[0],
)
def test_the_other_modes(
    options: list[str], columns: list[str], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "-m", str(model), "-n", "3", "--rounds", "1"]) == 0
    table = rows(capsys.readouterr().out)
    assert list(table) == columns
    assert all(float(cell.split()[0]) >= 0 for cell in table.values())


def test_modes_without_others_refuse_them(model: Path) -> None:
    with pytest.raises(SystemExit) as status:
        main(["start", "-m", str(model), "--llama-cpp"])
    assert status.value.code == 2


def test_the_first_turn_does_not_count() -> None:
    calls: list[str] = []

    def run(name: str, seconds: float) -> float:
        calls.append(name)
        return seconds

    times = take_turns({"a": lambda: run("a", 2.0), "b": lambda: run("b", 1.0)}, 2)
    assert (calls, times) == (["a", "b"] * 3, {"a": [2.0, 2.0], "b": [1.0, 1.0]})
    assert ratio(times, "a", "b", 3.0) == "6.00 (6.00 to 6.00)"
