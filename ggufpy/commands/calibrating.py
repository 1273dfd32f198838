"""`--calibration` of commands that quantize: the text is read, then layer by layer is rounded."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ggufpy.calibrate.biases import with_biases
from ggufpy.calibrate.chunks import held_back
from ggufpy.calibrate.fitting import OnLayer
from ggufpy.calibrate.methods import BEST, BIAS, METHOD_KEY, folding_of, recipe_of
from ggufpy.calibrate.preparing import prepared
from ggufpy.calibrate.quantizing import Texts, Waiting, calibrated, gradients_of, mixed_types, with_method
from ggufpy.calibrate.unfinished import done, finish, identity_of, unfinished
from ggufpy.commands.calibration_texts import chunks_of_texts, counting, squares_of
from ggufpy.commands.console import one_line
from ggufpy.commands.writing import show_plan, write_plan
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.outputs import check_targets, whole_files
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.choice.imatrix import ImportanceMatrix
from ggufpy.quants.choice.imatrix_file import ImatrixFile
from ggufpy.quants.file import COPY, Options, QuantizationPlan, plan_quantization
from ggufpy.runtime.cpu import default_threads

_CONTEXT = 512


@dataclass(frozen=True, slots=True)
class Target:
    """How large the file shall be: bits per weight, or bytes."""

    bpw: float | None = None
    size: int | None = None

    def budget(self, plan: QuantizationPlan) -> int:
        """Bytes for the tensors of the plan."""
        if self.bpw is not None:
            return int(self.bpw * sum(each.rows * each.columns for each in plan.tensors) / 8)
        around = sum(plan.sizes().values()) - sum(each.n_bytes for each in plan.tensors)
        return (self.size or 0) - around


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a person asks for: at most so many contexts of texts, methods, and perhaps a size.

    inputs: more files that must stay.
    """

    texts: Sequence[Path]
    methods: Sequence[str]
    most: int
    inputs: Sequence[Path] = ()
    target: Target | None = None


def quantize_calibrated(
    source: Path, out: Path | None, type: str, options: Options, asked: Calibration, *, dry_run: bool
) -> None:
    """Quantize by methods that read a text.

    dry_run: show what would be written; the matrix, and for a target gradients, decide types. Raises
    FormatError for options that go with another network than the file's, and as `calibrated` does.
    """
    _check(type, options)
    with ExitStack() as stack:
        job = _Job(source, out, type, options, asked)
        if dry_run and asked.target is None:
            return show_plan(job.plan, job.plan.sizes())
        folder = stack.enter_context(unfinished(job.plan.path, job.identity()))
        stack.enter_context(_told_of_the_rest(folder))
        if folding_of(asked.methods):
            job.fold(folder)
        recipe = recipe_of(asked.methods)
        rounds = recipe is not None or BEST in asked.methods
        file = stack.enter_context(GGUFFile.open(job.source))
        gradients = None
        if asked.target is not None or (rounds and (recipe is None or recipe.needs_gradients)):
            must = asked.target is not None or recipe is not None
            gradients = gradients_of(file, job.texts, folder, job.threads, _WAITING, must=must)
        if asked.target is not None and gradients is not None:
            budget = asked.target.budget(job.plan)
            job.choose(mixed_types(job.plan, file, job.texts, gradients, budget, job.threads, _WAITING))
        if dry_run:
            return show_plan(job.plan, job.plan.sizes())
        if rounds:
            how = recipe, gradients, folder
            job.plan = calibrated(job.plan, file, job.texts, *how, n_threads=job.threads, waiting=_WAITING)
        if BIAS in asked.methods:
            with _bar(BIAS) as show:
                job.plan = with_biases(job.plan, file, job.texts.chunks, n_threads=job.threads, on_layer=show)
        job.plan = with_method(job.plan, _name(asked.methods, job.plan if rounds else None))
        write_plan(job.plan, job.plan.write)
        if asked.target is not None:
            _write_types(job.plan)


def _check(type: str, options: Options) -> None:
    if options.get("prune_layers") or type.lower() == COPY:
        what = "--prune-layers" if options.get("prune_layers") else f"type {COPY}"
        problem = "--calibration is for the whole network, quantized, which does not go with"
        raise FormatError(f"{problem} {what}: prune it before, and name a type")
    for key in options.get("override_kv", {}):
        if not key.startswith(("general.name", "general.author", "general.description", "ggufpy.")):
            problem = "may say something else of the network than what was calibrated"
            raise FormatError(
                f"--override-kv {key:.60} {problem}: set it in a step of its own, with type copy"
            )


class _Job:
    """A file on its way to the quantized one; `plan` is what it is to become so far."""

    def __init__(
        self,
        source: Path,
        out: Path | None,
        type: str,
        options: Options,
        asked: Calibration,
    ) -> None:
        self.source, self._type, self._asked = source, type, asked
        self._originals = [source]
        self.threads = options.get("threads") or default_threads()
        self.texts = _texts(source, asked)
        self._given = _digest(options)
        self._options = self._with_matrix(options)
        self.plan = self._planned(out)
        self._check_types(options)
        self.plan.inputs.check_outputs(self.plan.sizes())
        check_targets(self.plan.sizes())

    def _check_types(self, options: Options) -> None:
        changed = [each for each in self.plan.planned if each.tensor.type is not each.source.type]
        if not any(each.tensor.type.block_size > 1 for each in changed):
            problem = "--calibration decides how blocks are rounded, and no tensor becomes blocks"
            raise FormatError(f"{problem} with {self._type}; name another type, or start from f16 or f32")
        packed = [each.source for each in self.plan.planned if each.source.type.block_size > 1]
        if packed and folding_of(self._asked.methods) and not options.get("allow_requantize"):
            problem = f"tensor {quoted(packed[0].name)} is {packed[0].type.label} already"
            remedy = "start from f16 or f32, or allow it (--allow-requantize)"
            raise FormatError(f"{problem}, and would be quantized again; {remedy}")

    def identity(self) -> dict[str, Any]:
        """What makes it the same job as one that was stopped."""
        types = {each.tensor.name: each.tensor.type.label for each in self.plan.planned}
        facts = {
            "methods": list(self._asked.methods),
            "target": repr(self._asked.target),
            "options": self._given,
            "types": types,
            "held": len(self.texts.held),
            "version": version("ggufpy"),
        }
        return identity_of(self.source, [*self.texts.chunks, *self.texts.held], facts)

    def fold(self, folder: Path) -> None:
        """Make another float model of it, which is quantized instead."""
        before = done(folder / "folded.json")
        if before is None:
            types = {each.tensor.name: each.tensor.type for each in self.plan.planned}
            arguments = (self.source, folding_of(self._asked.methods), types, self.texts.chunks, folder)
            self.source = prepared(*arguments, n_threads=self.threads, counted=_bar, say=_WAITING.say)
            finish(folder / "folded.json", str(self.source))
        else:
            self.source = Path(before)
        self._options = self._with_matrix(self._options | {"imatrix": None})
        self.plan = self._planned(self.plan.path)

    def choose(self, types: Mapping[str, GGMLType]) -> None:
        """These types for these tensors, ahead of all others that were asked for."""
        pairs = [(f"^{re.escape(name)}$", type.label) for name, type in types.items()]
        pairs += self._options.get("tensor_type", ())
        own: Options = {"tensor_type": pairs, "token_embedding_type": None, "output_tensor_type": None}
        self._options = self._options | own
        self.plan = self._planned(self.plan.path)

    def _planned(self, out: Path | None) -> QuantizationPlan:
        plan = plan_quantization(self.source, out, self._type, **self._options)
        for path in (*self._originals, *self._asked.inputs, *self._asked.texts):
            plan.inputs.note(path)
        return with_method(plan, ",".join(self._asked.methods))

    def _with_matrix(self, options: Options) -> Options:
        """Options with mean squares of what linears read, if they have none.

        Scales begin with them, and for some types they are all there is.
        """
        if options.get("imatrix") is not None:
            return options
        with GGUFFile.open(self.source) as file:
            entries = squares_of(file, self.texts.chunks, n_threads=self.threads).entries()
        names, chunks = ", ".join(map(str, self._asked.texts)), self.texts.chunks
        matrix = ImatrixFile(entries, [names], len(chunks), len(chunks[0]))
        return options | {"imatrix": ImportanceMatrix.of(names, matrix)}


def _digest(options: Options) -> str:
    """What tells options from others: all that was asked for, and what is in the importance matrix."""
    asked = {name: value for name, value in options.items() if name not in ("imatrix", "threads")}
    digest, matrix = hashlib.sha256(repr(sorted(asked.items())).encode()), options.get("imatrix")
    if isinstance(matrix, str | Path):
        digest.update(Path(matrix).read_bytes())
    return digest.hexdigest()


def _texts(source: Path, asked: Calibration) -> Texts:
    with GGUFFile.open(source) as file:
        context = file.metadata.get(f"{file.metadata.get('general.architecture')}.context_length")
        size = min(_CONTEXT, context) if isinstance(context, int) and context > 0 else _CONTEXT
        return Texts(*held_back(chunks_of_texts(file, asked.texts, size), asked.most))


def _name(methods: Sequence[str], rounded: QuantizationPlan | None) -> str:
    """All methods; in place of best what that was."""
    names = [*folding_of(methods)]
    if rounded is not None:
        names.append(str(rounded.metadata[METHOD_KEY]))
    return ",".join([*names, *(name for name in methods if name == BIAS)])


def _write_types(plan: QuantizationPlan) -> None:
    """The types that were chosen, beside the file, as --tensor-type-file reads them."""
    path = plan.path.with_name(f"{plan.path.name}.types")
    lines = [
        f"^{re.escape(each.tensor.name)}$={each.tensor.type.label}\n"
        for each in plan.planned
        if each.tensor.type.block_size > 1
    ]
    with whole_files([path]) as (file,):
        file.write("".join(lines).encode())
    print(one_line(f"types: {path}, for --tensor-type-file"), file=sys.stderr)


@contextmanager
def _told_of_the_rest(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, OSError):
        print(one_line(f"stopped; the same command goes on from {folder}"), file=sys.stderr)
        raise


def _bar(what: str) -> AbstractContextManager[OnLayer]:
    return counting(what, None, "layers/s", 1)


_WAITING = Waiting(_bar, lambda line: print(one_line(line), file=sys.stderr))
