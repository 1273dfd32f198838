"""`--calibration` of commands that quantize: the text is read, then layer by layer is rounded."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from ggufpy.calibrate.chunks import held_back
from ggufpy.calibrate.fitting import OnLayer
from ggufpy.calibrate.methods import BEST, folding_of, recipe_of
from ggufpy.calibrate.preparing import prepared
from ggufpy.calibrate.quantizing import Texts, Waiting, calibrated, with_method
from ggufpy.commands.calibration_texts import chunks_of_texts, counting, squares_of
from ggufpy.commands.console import one_line
from ggufpy.commands.writing import show_plan, write_plan
from ggufpy.errors import FormatError
from ggufpy.gguf.outputs import check_targets
from ggufpy.gguf.reader import GGUFFile
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.imatrix_file import ImatrixFile
from ggufpy.quants.file import COPY, Options, QuantizationPlan, plan_quantization
from ggufpy.runtime.cpu import default_threads

_CONTEXT = 512


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a person asks for: at most so many contexts of texts, and methods.

    inputs: more files that must stay.
    """

    texts: Sequence[Path]
    methods: Sequence[str]
    most: int
    inputs: Sequence[Path] = ()


def quantize_calibrated(
    source: Path, out: Path | None, type: str, options: Options, asked: Calibration, *, dry_run: bool
) -> None:
    """Quantize by methods that read a text.

    dry_run: show what would be written; the matrix decides some types. Raises FormatError for options that go
    with another network than the file's, and as `calibrated` does.
    """
    if options.get("prune_layers") or type.lower() == COPY:
        raise FormatError(
            "--calibration is for the whole network, quantized: prune it before, and name a type"
        )
    threads = options.get("threads") or default_threads()
    texts = _texts(source, asked)
    options = _with_matrix(source, options, texts, asked, threads)
    plan = with_method(_plan(source, out, type, options, asked), ",".join(asked.methods))
    if dry_run:
        return show_plan(plan, plan.sizes())
    plan.inputs.check_outputs(plan.sizes())
    check_targets(plan.sizes())
    with ExitStack() as stack:
        folding = folding_of(asked.methods)
        if folding:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            types = {each.tensor.name: each.tensor.type for each in plan.planned}
            arguments = (source, folding, types, texts.chunks, folder)
            source = prepared(*arguments, n_threads=threads, counted=_bar)
            options = _with_matrix(source, options | {"imatrix": None}, texts, asked, threads)
            plan = _plan(source, plan.path, type, options, asked)
            plan = with_method(plan, ",".join(asked.methods))
        recipe = recipe_of(asked.methods)
        if recipe is not None or BEST in asked.methods:
            file = stack.enter_context(GGUFFile.open(source))
            waiting = Waiting(_bar, lambda line: print(one_line(line), file=sys.stderr))
            run = calibrated(plan, file, texts, recipe, n_threads=threads, waiting=waiting)
            plan = stack.enter_context(run)
        write_plan(plan, plan.write)


def _plan(
    source: Path, out: Path | None, type: str, options: Options, asked: Calibration
) -> QuantizationPlan:
    plan = plan_quantization(source, out, type, **options)
    for path in (*asked.inputs, *asked.texts):
        plan.inputs.note(path)
    return plan


def _texts(source: Path, asked: Calibration) -> Texts:
    with GGUFFile.open(source) as file:
        context = file.metadata.get(f"{file.metadata.get('general.architecture')}.context_length")
        size = min(_CONTEXT, context) if isinstance(context, int) and context > 0 else _CONTEXT
        return Texts(*held_back(chunks_of_texts(file, asked.texts, size), asked.most))


def _with_matrix(source: Path, options: Options, texts: Texts, asked: Calibration, threads: int) -> Options:
    """Options with mean squares of what linears read, if they have none.

    Scales begin with them, and for some types they are all there is.
    """
    if options.get("imatrix") is not None:
        return options
    with GGUFFile.open(source) as file:
        entries = squares_of(file, texts.chunks, n_threads=threads).entries()
    names = ", ".join(map(str, asked.texts))
    matrix = ImatrixFile(entries, [names], len(texts.chunks), len(texts.chunks[0]))
    return options | {"imatrix": ImportanceMatrix.of(names, matrix)}


def _bar(what: str) -> AbstractContextManager[OnLayer]:
    return counting(what, None, "layers/s", 1)
