"""Networks layer by layer: stages compute what the whole does, and rounding to what they read loses less."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import random_bert
import random_llama
import tiny
import tiny_models
from engines import load, nmse, prompt_logits
from numpy.typing import NDArray
from oracle import Oracle

from ggufpy import convert_checkpoint, quantize_file
from ggufpy.calibrate.chunks import held_back, mixed, spread
from ggufpy.calibrate.fitting import Fitting
from ggufpy.calibrate.gradients import measure_gradients
from ggufpy.calibrate.groups import groups_of
from ggufpy.calibrate.methods import methods_of, recipe_of
from ggufpy.calibrate.recipe import Recipe
from ggufpy.calibrate.streams import Runner
from ggufpy.commands.convert import main as convert
from ggufpy.commands.quantize import main
from ggufpy.errors import FormatError, GgufpyError, UnsupportedModelError
from ggufpy.evaluate.perplexity import read_text
from ggufpy.gguf.reader import GGUFFile, TensorInfo
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode, encode
from ggufpy.runtime.engine import Engine, Span, trace
from ggufpy.runtime.stages import stages
from ggufpy.tokenizers import load_tokenizer
from ggufpy.tokenizers.chunks import chunks_of

CHUNKS = [[(7 * i + 31 * chunk) % tiny_models.VOCAB for i in range(40)] for chunk in range(3)]
STREAMED = ["llama", "gemma2", "gemma3", "qwen3", "mamba2", "mistral3", "phimoe", "qwen3next", "gpt-oss"]


@pytest.mark.parametrize("name", STREAMED)
def test_stages_compute_what_the_whole_does(tmp_path: Path, name: str) -> None:
    file = GGUFFile.open(tiny_models.write(tmp_path / "model.gguf", name))
    graph, _ = trace(file)
    layers = stages(graph.nodes)
    runner = Runner(file, CHUNKS, 2)
    rows = runner.run(graph.nodes, {"x": layers[0].reads}, None)["x"]
    assert len(layers) == tiny_models.LAYERS
    for stage in layers:
        rows = runner.run(stage.nodes, {"x": stage.leaves}, rows)["x"]
    want = runner.run(graph.nodes, {"x": layers[-1].leaves}, None)["x"]
    np.testing.assert_allclose(rows, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", ["gemma3n", "gemma4"])
def test_layers_that_hang_together(tmp_path: Path, name: str) -> None:
    file = GGUFFile.open(tiny_models.write(tmp_path / "model.gguf", name))
    with pytest.raises(UnsupportedModelError, match=r"values cross to layer \d, not one; layers of this"):
        stages(trace(file)[0].nodes)


def test_groups_read_the_same(tmp_path: Path) -> None:
    file = GGUFFile.open(tiny_models.write(tmp_path / "model.gguf", "qwen3moe"))
    types = dict.fromkeys((name for name in file.tensors if name.endswith("weight")), GGMLType.Q4_0)
    first, *_ = stages(trace(file)[0].nodes)
    names = [[name.split(".")[2] for name in group.tensors] for group in groups_of(first, types)]
    assert names[:3] == [["attn_q", "attn_k", "attn_v"], ["attn_output"], ["ffn_gate_inp"]]
    assert sorted(names[3]) == ["ffn_gate_exps", "ffn_up_exps"] and names[4:] == [["ffn_down_exps"]]
    assert groups_of(first, dict.fromkeys(types, GGMLType.F16)) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, shipped_checkpoint: Path) -> Path:
    """Two layers of the shipped model, which have something to say."""
    folder = tmp_path_factory.mktemp("fit")
    (whole,) = convert_checkpoint(shipped_checkpoint, folder / "whole.gguf", outtype="f16")
    return quantize_file(whole, folder / "model.gguf", "copy", prune_layers=range(1, 7))[0]


def divergence(model: Path, others: list[Path], chunks: list[list[int]]) -> list[float]:
    """The mean KL divergence of each file's next tokens from the model's."""

    def logs(path: Path) -> NDArray[np.float64]:
        engine, rows = Engine.load(GGUFFile.open(path), n_ctx=len(chunks[0]), precision="exact"), []
        for chunk in chunks:
            sequence = engine.new_sequence()
            x = engine.step([Span(sequence, chunk, logits="all")]).rows(0).astype(np.float64)
            x -= x.max(axis=1, keepdims=True)
            rows.append(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))
            sequence.close()
        return np.concatenate(rows)

    want = logs(model)
    return [float((np.exp(want) * (want - logs(path))).sum(axis=1).mean()) for path in others]


def test_a_text_makes_a_better_file(model: Path, tmp_path: Path, shipped_checkpoint: Path) -> None:
    """Judged on another one."""
    file, docs = GGUFFile.open(model), shipped_checkpoint.parents[1] / "docs"
    (tmp_path / "text.txt").write_text("\n".join(read_text(path) for path in sorted(docs.glob("*.md"))))
    tokenizer = load_tokenizer(file.metadata)
    judged = chunks_of(tokenizer, tokenizer.encode(read_text(shipped_checkpoint / "README.md")), 128)
    line = ["--pure", "--token-embedding-type", "q6_k", str(model)]
    how = ["--calibration", str(tmp_path / "text.txt"), "--calibration-chunks", "6"]
    plain, made = tmp_path / "plain.gguf", tmp_path / "made.gguf"
    assert main([*line, str(plain), "q4_0"]) == 0
    assert main([*how, "--method", "propagate,guided,two-sided", *line, str(made), "q4_0"]) == 0
    before, after = divergence(model, [plain, made], judged)
    assert after < 0.9 * before
    assert made.stat().st_size == pytest.approx(plain.stat().st_size, abs=2000)
    method = GGUFFile.open(made).metadata["ggufpy.quantize.method"]
    assert method == "gptq,propagate,guided,two-sided"
    if find_spec("xllamacpp"):
        with Oracle(made, kv_f32=True) as oracle:
            rows = prompt_logits(load(made), judged[0])
            assert nmse(oracle.logits(judged[0]), rows) < 1e-2  # it rounds activations


def test_every_matrix_is_rounded(model: Path, tmp_path: Path) -> None:
    chunks = [[1, *range(10 * i, 10 * i + 31)] for i in range(2)]
    file = GGUFFile.open(model)
    types = {name: GGMLType.Q4_0 for name in file.tensors if name.endswith("weight") and "norm" not in name}
    made = Fitting(file, types, chunks, 2).round(Recipe(propagate=True), None, tmp_path)
    assert made.keys() == types.keys()
    assert all(tensor.type is GGMLType.Q4_0 for tensor in made.values())


def test_weights_beyond_the_type(tmp_path: Path) -> None:
    arrays = random_llama.arrays()
    arrays["blk.1.attn_q.weight"][0, 0] = 1e6
    file = GGUFFile.open(random_llama.write(tmp_path / "model.gguf", arrays))
    types = {"blk.1.attn_q.weight": GGMLType.Q4_0}
    message = "tensor 'blk.1.attn_q.weight': 1e.06 is beyond the range of f16, which q4_0 needs"
    fitting = Fitting(file, types, [[1, *range(3, 30)]], 1)
    with pytest.raises(FormatError, match=message):
        fitting.round(Recipe(), None, tmp_path)


@pytest.mark.parametrize("propagate", [False, True])
def test_what_was_stopped_goes_on(model: Path, tmp_path: Path, propagate: bool) -> None:
    file, recipe = GGUFFile.open(model), Recipe(propagate=propagate)
    types = {name: GGMLType.Q4_0 for name in file.tensors if name.startswith("blk.") and "norm" not in name}
    fitting, shown = Fitting(file, types, [[1, *range(10, 41)]], 1), []

    def stop(done: int, of: int) -> None:
        shown.append(done)
        if len(shown) == 1:
            raise KeyboardInterrupt

    (tmp_path / "whole").mkdir()
    whole = fitting.round(recipe, None, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitting.round(recipe, None, tmp_path, stop)
    again = fitting.round(recipe, None, tmp_path, stop)
    assert shown == [1, 2] and again.keys() == whole.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(tensor.source().read(0, 8), again[name].source().read(0, 8))


@pytest.mark.parametrize("propagate", [False, True])
def test_experts_by_the_tokens_that_they_get(tmp_path: Path, propagate: bool) -> None:
    file = GGUFFile.open(tiny_models.write(tmp_path / "model.gguf", "qwen3moe"))
    names = [name for name in file.tensors if name.endswith("_exps.weight")]
    types = dict.fromkeys(names, GGMLType.Q4_0)
    made = Fitting(file, types, CHUNKS, 1).round(Recipe(propagate=propagate), None, tmp_path)
    assert sorted(made) == sorted(names)
    for name in names:
        before, after = (decoded(tensors[name]) for tensors in (file.tensors, made))
        plain = decode(encode(before.reshape(-1, before.shape[-1]), GGMLType.Q4_0), GGMLType.Q4_0)
        far = np.abs(before - plain.reshape(before.shape)).mean()
        assert 0 < np.abs(before - after).mean() < 3 * far


def decoded(tensor: TensorInfo) -> NDArray[np.float32]:
    source = tensor.source()
    return decode(source.read(0, source.rows), source.type).reshape(tensor.shape)


def test_methods_by_name() -> None:
    assert methods_of("gptq") == ("gptq",)
    assert methods_of("Propagate") == methods_of("propagate, gptq") == ("gptq", "propagate")
    assert methods_of("best,smoothquant=0.5") == ("smoothquant=0.5", "best")
    assert str(recipe_of(methods_of("two-sided,guided"))) == "gptq,guided,two-sided"
    assert str(recipe_of(methods_of("round,guided"))) == "round,guided"
    assert recipe_of(("awq",)) is recipe_of(("best",)) is None
    for text, problem in {
        "gptq,awk": "method 'awk' is unknown; known are rotate, awq, smoothquant, best, gptq",
        "best,gptq": "method best chooses whether to use gptq; name it without",
        "gptq,mse": "method mse chooses scales in its own way; name it alone",
        "awq,gptq,awq": "methods 'awq,gptq,awq': one is named twice",
        "round,two-sided": "method round is another way than gptq, and rounds rows by themselves",
        "gptq=3": "method 'gptq=3': gptq takes no value",
    }.items():
        with pytest.raises(FormatError, match=problem):
            methods_of(text)


def test_some_chunks_judge() -> None:
    chunks, held = held_back([[i] for i in range(40)], 100)
    assert held == [[4], [12], [20], [28], [36]]
    assert chunks == [[i] for i in range(40) if [i] not in held]
    assert held_back([[1], [2]], 5) == ([[1]], [[2]])
    assert len(held_back([[i] for i in range(1000)], 9)[0]) == 9
    with pytest.raises(GgufpyError, match="the text is one context"):
        held_back([[1]], 5)


def test_chunks_are_spread() -> None:
    chunks = [[i] for i in range(10)]
    assert spread(chunks, 3) == [[1], [5], [8]]
    assert spread(chunks, 99) == chunks


def test_sizes_before_and_what_is_read(
    model: Path, tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, listed, out = shipped_checkpoint / "README.md", tmp_path / "types.txt", tmp_path / "out.gguf"
    listed.write_text("attn_v=q5_1")
    line = ["--calibration", str(text), "--calibration-chunks", "1", "--tensor-type-file", str(listed)]
    line += ["--calibration", str(text), "--method", "guided"]
    assert main([*line, "--dry-run", str(model), str(out), "q4_0"]) == 0
    said = capsys.readouterr().out
    assert not out.exists() and main([*line, str(model), str(out), "q4_0"]) == 0
    assert said.splitlines()[-1] == f"{out}: {out.stat().st_size:,} bytes"
    capsys.readouterr()
    for name, problem in ((str(listed), "which is read"), (str(tmp_path), "not a regular file")):
        assert main([*line, str(model), name, "q4_0"]) == 1
        error = capsys.readouterr().err
        assert problem in error and "layers" not in error
    assert listed.read_text() == "attn_v=q5_1"


def test_a_model_that_embeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(random_bert.write(tmp_path / "bert.gguf", 1))
    (tmp_path / "text.txt").write_text("a b c " * 2000)
    assert main(["--calibration", str(tmp_path / "text.txt"), path, str(tmp_path / "x.gguf"), "q4_0"]) == 1
    assert "embeds texts" in capsys.readouterr().err


def test_shares_may_be_any_numbers() -> None:
    kinds = [[[i] for i in range(4)], [[i] for i in range(8)]]
    for size in (1e-308, 1.0, 1e308):
        assert len(mixed(kinds, [size, size])) == 8


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--prune-layers", "1"], "--calibration is for the whole network"),
        (["--calibration", "absent.txt"], "absent.txt"),
        (["--override-kv", "llama.block_count=int:1"], "--override-kv llama.block_count may say something"),
        ([], "tokens, and a context 512; give a longer text"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be(
    model: Path, tmp_path: Path, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.txt").write_text("a short text")
    line = [*options, "--calibration", str(tmp_path / "short.txt"), str(model), str(tmp_path / "out.gguf")]
    assert main([*line, "q4_0"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and problem in error and error.count("\n") == 1
    assert not (tmp_path / "out.gguf").exists()


def test_one_step_and_two_are_the_same(tmp_path: Path, shipped_checkpoint: Path) -> None:
    (tmp_path / "text.txt").write_text(
        "\n".join(["The cat sat on the mat and looked at the other one."] * 120)
    )
    options = ["--calibration", str(tmp_path / "text.txt"), "--calibration-chunks", "1", "--method", "guided"]
    small = tmp_path / "small"
    tiny.checkpoint(small, shipped_checkpoint, tiny.CONFIG | {"num_hidden_layers": 1})
    assert convert([str(small), *options, "--outtype", "q4_0"]) == 0
    (one,) = small.glob("*.gguf")
    assert one.name == "small-q4_0.gguf"
    (plain,) = convert_checkpoint(small, tmp_path / "plain.gguf")
    assert main([*options, str(plain), str(tmp_path / "two.gguf"), "q4_0"]) == 0
    assert one.read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_a_target_size(model: Path, tmp_path: Path, shipped_checkpoint: Path) -> None:
    text, out = shipped_checkpoint / "README.md", tmp_path / "out.gguf"
    line = ["--calibration", str(text)] * 2 + ["--calibration-chunks", "1", "--method", "guided"]
    assert main([*line, "--target-size", "1300K", str(model), str(out), "q4_k_m"]) == 0
    assert 1_290_000 < out.stat().st_size <= 1_300_000
    again = tmp_path / "again.gguf"
    types = ["--tensor-type-file", f"{out}.types"]
    assert main([*types, str(model), str(again), "q4_k_m"]) == 0
    chosen, same = (GGUFFile.open(path).tensors for path in (out, again))
    assert {name: each.type for name, each in chosen.items()} == {n: each.type for n, each in same.items()}


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(propagate=True), Recipe(guided=True, two_sided=True)])
def test_what_changes_nothing_is_left_to_the_matrix(tmp_path: Path, recipe: Recipe) -> None:
    """Outputs that nobody uses have no gradients, and a norm of zeros leaves nothing to read."""
    arrays = random_llama.arrays()
    arrays["blk.0.attn_q.weight"][:] = 0
    arrays["blk.1.ffn_norm.weight"][:] = 0
    file = GGUFFile.open(random_llama.write(tmp_path / "model.gguf", arrays))
    types = {name: GGMLType.Q4_0 for name in arrays if name.startswith("blk.") and "norm" not in name}
    chunks = [[1, *range(3, 40)]]
    gradients = measure_gradients(file, chunks, tmp_path, n_threads=1, fisher=True)
    made = Fitting(file, types, chunks, 1).round(recipe, gradients, tmp_path)
    left = {"blk.1.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"}
    assert set(types) - set(made) == (left | {"blk.0.attn_k.weight"} if recipe.guided else left)


def test_types_without_blocks(
    model: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ["--calibration", str(shipped_checkpoint / "README.md")] * 2
    assert main([*text, "--calibration-chunks", "1", str(model), str(model.with_name("x.gguf")), "f16"]) == 1
    assert "no tensor becomes blocks with f16; name another type" in capsys.readouterr().err


def test_methods_that_go_together(model: Path, tmp_path: Path, shipped_checkpoint: Path) -> None:
    text, out = shipped_checkpoint / "README.md", tmp_path / "out.gguf"
    line = ["--calibration", str(text), "--calibration", str(text), "--calibration-chunks", "1"]
    assert main([*line, "--method", "smoothquant=0.5,guided,bias", str(model), str(out), "q4_0"]) == 0
    file = GGUFFile.open(out)
    assert file.metadata["ggufpy.quantize.method"] == "smoothquant=0.5,gptq,guided,bias"
    assert any(name.endswith(".bias") for name in file.tensors)
    if find_spec("xllamacpp"):
        with Oracle(out, kv_f32=True) as oracle:
            assert nmse(oracle.logits([1, 5, 9]), prompt_logits(load(out), [1, 5, 9])) < 1e-2


def test_blocks_are_not_quantized_again(
    model: Path, tmp_path: Path, shipped_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed, text = tmp_path / "q8_0.gguf", str(shipped_checkpoint / "README.md")
    assert main([str(model), str(packed), "q8_0"]) == 0
    line = ["--calibration", text, "--calibration", text, "--calibration-chunks", "1", "--method"]
    for method, type, problem in (
        ("awq", "q4_0", "is q8_0 already, and"),
        ("gptq", "q4_0", "is q8_0 already, and"),
        ("gptq", "q8_0", "no tensor becomes blocks with q8_0"),
    ):
        assert main([*line, method, str(packed), str(tmp_path / "out.gguf"), type]) == 1
        assert problem in capsys.readouterr().err
