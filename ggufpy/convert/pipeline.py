"""A Hugging Face checkpoint becomes a GGUF file: plan first, then write tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ggufpy import architectures
from ggufpy.convert.checkpoint import Checkpoint
from ggufpy.convert.general import general_metadata
from ggufpy.convert.vocab import check_vocabulary, read_vocabulary
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Typed, Value
from ggufpy.gguf.writer import file_sizes, write_gguf
from ggufpy.quants import quantized
from ggufpy.quants.recipe import FILE_TYPES, QUANTIZATION_VERSION, tensor_type

OUTTYPES = ("auto", *(type.label for type in FILE_TYPES))


def convert_checkpoint(
    checkpoint: Path | str,
    out: Path | str | None = None,
    *,
    outtype: str = "auto",
    vocab_only: bool = False,
    split_max_size: int | None = None,
    on_progress: Callable[[TensorSource, int], None] | None = None,
) -> list[Path]:
    """Convert the checkpoint in a folder and return the files written: one, or several if it is split.

    out: the file, or a folder for one with the default name; by default a file within the checkpoint's
    folder. outtype: one of OUTTYPES; "auto" keeps bf16 or f16 weights as they are, and makes f16 of others.
    split_max_size: bytes of a file. on_progress is told of each slab: its tensor, and the bytes written.
    Raises FormatError for checkpoints that are damaged or incomplete, UnsupportedModelError for what ggufpy
    does not know, TokenizerError for vocabularies; then no file is left, and an old one of that name is
    untouched.
    """
    plan = plan_conversion(checkpoint, out, outtype=outtype, vocab_only=vocab_only)
    return plan.write(split_max_size=split_max_size, on_progress=on_progress)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be in the file; no weights are read yet. `sources` are the tensors before re-encoding."""

    folder: Path
    path: Path
    type: GGMLType
    metadata: dict[str, Value | Typed]
    sources: list[TensorSource]
    tensors: list[TensorSource]

    def sizes(self, split_max_size: int | None = None) -> dict[Path, int]:
        """The files to be written, and their bytes."""
        return file_sizes(self.path, self.metadata, self.tensors, split_max_size=split_max_size)

    def write(
        self,
        *,
        split_max_size: int | None = None,
        on_progress: Callable[[TensorSource, int], None] | None = None,
    ) -> list[Path]:
        """Check the vocabulary against the checkpoint's tokenizer, and write; returns the files."""
        check_vocabulary(self.folder, self.metadata)
        return write_gguf(
            self.path, self.metadata, self.tensors, split_max_size=split_max_size, on_progress=on_progress
        )


def plan_conversion(
    checkpoint: Path | str,
    out: Path | str | None = None,
    *,
    outtype: str = "auto",
    vocab_only: bool = False,
) -> Plan:
    """Read everything but the weights; arguments and errors are those of `convert_checkpoint`."""
    opened = Checkpoint.open(Path(checkpoint), weights=not vocab_only)
    name = _architecture_name(opened)
    architecture = architectures.architecture(name)
    type = _file_type(outtype, opened)
    sources = [] if vocab_only else list(architecture.convert_tensors(opened.config, opened.tensors))
    tied = all(source.name != "output.weight" for source in sources)
    tensors = [quantized(s, tensor_type(s.name, s.shape, type, tied=tied)) for s in sources]
    parameters = sum(source.rows * source.columns for source in sources)
    metadata = {
        **general_metadata(opened, name, parameters),
        **{f"{name}.{key}": value for key, value in architecture.metadata(opened.config).items()},
        "general.file_type": FILE_TYPES[type],
        "general.quantization_version": QUANTIZATION_VERSION,
        **read_vocabulary(opened.folder, opened.config),
    }
    path = _output_path(opened.folder, out, "vocab" if vocab_only else type.label)
    return Plan(opened.folder, path, type, metadata, sources, tensors)


def _architecture_name(checkpoint: Checkpoint) -> str:
    path = checkpoint.folder / "config.json"
    classes = checkpoint.config.get("architectures")
    if not isinstance(classes, list) or not classes or not isinstance(classes[0], str):
        raise FormatError(f"{path}: names no model class in 'architectures'")
    try:
        return architectures.name_for_class(classes[0])
    except UnsupportedModelError as exc:
        raise UnsupportedModelError(f"{path}: {exc}") from None


def _file_type(outtype: str, checkpoint: Checkpoint) -> GGMLType:
    if outtype == "auto":
        halves = (GGMLType.BF16, GGMLType.F16)
        matrices = (tensor for tensor in checkpoint.tensors.values() if len(tensor.shape) > 1)
        return next((tensor.type for tensor in matrices if tensor.type in halves), GGMLType.F16)
    for type in FILE_TYPES:
        if type.label == outtype.lower():
            return type
    raise UnsupportedModelError(f"outtype '{outtype:.40}' is unknown; choose one of {', '.join(OUTTYPES)}")


def _output_path(folder: Path, out: Path | str | None, label: str) -> Path:
    default = f"{folder.resolve().name}-{label}.gguf"
    if out is None:
        return folder / default
    return Path(out) / default if Path(out).is_dir() else Path(out)
