"""`ggufpy quantize --calibration`: the text is read, then layer by layer is rounded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ggufpy.calibrate.chunks import spread
from ggufpy.calibrate.quantizing import calibrated, with_methods
from ggufpy.commands.calibration_texts import chunks_of_texts, counting, squares_of
from ggufpy.commands.console import one_line
from ggufpy.commands.writing import show_plan, some, write_plan
from ggufpy.errors import FormatError
from ggufpy.gguf.outputs import check_targets
from ggufpy.gguf.reader import GGUFFile
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.imatrix_file import ImatrixFile
from ggufpy.quants.file import COPY, Options, plan_quantization
from ggufpy.runtime.cpu import default_threads

_CONTEXT = 512


def quantize_calibrated(
    source: Path,
    out: Path | None,
    type: str,
    options: Options,
    *,
    inputs: Sequence[Path],
    texts: Sequence[Path],
    methods: Sequence[str],
    most: int,
    dry_run: bool,
) -> None:
    """Quantize by `methods`, with at most so many contexts of the texts, spread over these.

    inputs: more files that must stay. dry_run: show what would be written; the matrix decides some types.
    Raises FormatError for options that go with another network than the file's, and as `calibrated` does.
    """
    if options.get("prune_layers") or type.lower() == COPY:
        raise FormatError(
            "--calibration is for the whole network, quantized: prune it before, and name a type"
        )
    threads = options.get("threads") or default_threads()
    with GGUFFile.open(source) as file:
        context = file.metadata.get(f"{file.metadata.get('general.architecture')}.context_length")
        size = min(_CONTEXT, context) if isinstance(context, int) and context > 0 else _CONTEXT
        chunks = spread(chunks_of_texts(file, texts, size), most)
        if options.get("imatrix") is None:
            options["imatrix"] = _matrix(file, chunks, texts, threads)
        plan = plan_quantization(source, out, type, **options)
        for path in (*inputs, *texts):
            plan.inputs.note(path)
        plan = with_methods(plan, methods)
        if dry_run:
            return show_plan(plan, plan.sizes())
        plan.inputs.check_outputs(plan.sizes())
        check_targets(plan.sizes())
        with ExitStack() as stack:
            with counting("layers", None, "layers/s", 1) as show:
                run = calibrated(
                    plan, file, chunks, propagate="propagate" in methods, n_threads=threads, on_layer=show
                )
                rounded, others = stack.enter_context(run)
            if others:
                print(one_line(f"by the importance matrix alone: {some(others)}"), file=sys.stderr)
            write_plan(rounded, rounded.write)


def _matrix(
    file: GGUFFile, chunks: Sequence[list[int]], texts: Sequence[Path], threads: int
) -> ImportanceMatrix:
    """Mean squares of what linears read: scales begin with them, and for some types they are all there is."""
    entries, names = squares_of(file, chunks, n_threads=threads).entries(), ", ".join(map(str, texts))
    return ImportanceMatrix.of(names, ImatrixFile(entries, [names], len(chunks), len(chunks[0])))
