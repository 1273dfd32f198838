"""A Hugging Face checkpoint: a folder with `config.json` and the weights in one or several files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.json_files import read_json
from ggufpy.checkpoint.mlx_layout import as_transformers_saves
from ggufpy.checkpoint.params import read_params, renamed
from ggufpy.checkpoint.quantized import PackedWeights, unpacked
from ggufpy.checkpoint.safetensors import read_safetensors
from ggufpy.checkpoint.torch_file import read_torch_file
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource

# Characters of a tensor's name; messages show it.
_MAX_NAME = 256

# Other names of all weights in one file: of variants, and AutoGPTQ's.
_VARIANTS = ("model.*.safetensors", "gptq_model-*bit-*.safetensors")

_Reader = Callable[[Path], dict[str, TensorSource]]
_Format = tuple[str, str, _Reader]  # the name without its ending, the ending, how it is read

# In the order in which transformers looks for them.
_FORMATS: tuple[_Format, ...] = (
    ("model", ".safetensors", read_safetensors),
    ("pytorch_model", ".bin", read_torch_file),
)
# Beside params.json. Meta has a file for each of so many devices; only one of them is a whole.
_PARAMS_FORMATS: tuple[_Format, ...] = (
    ("consolidated", ".safetensors", read_safetensors),
    ("consolidated.00", ".pth", read_torch_file),
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint folder holds, apart from the tokenizer; tensors have their Hugging Face names.

    packed: what was done to tensors that others had quantized; `config` says no longer that they are.
    """

    folder: Path
    config: dict[str, Any]
    generation_config: dict[str, Any]
    tensors: dict[str, TensorSource]
    packed: PackedWeights | None = None

    @classmethod
    def open(cls, folder: Path, *, weights: bool = True) -> Checkpoint:
        """Read the configuration and, unless `weights` is False, which tensors there are and where.

        Raises FormatError for a folder that is no checkpoint and for files that are not whole,
        UnsupportedModelError for tensors of types that GGUF does not have.
        """
        if not folder.is_dir():
            problem = "is a file" if folder.exists() else "does not exist"
            raise FormatError(
                f"{folder}: {problem}; give the folder of a Hugging Face checkpoint{_hint(folder)}"
            )
        if not (folder / "config.json").is_file():
            return cls._open_params(folder)
        config = read_json(folder / "config.json")
        plain = unpacked(folder, config, lambda: read_weights(folder) if weights else {})
        generation = folder / "generation_config.json"
        generation_config = read_json(generation) if generation.is_file() else {}
        tensors = as_transformers_saves(config, plain.tensors)
        return cls(folder, plain.config, generation_config, tensors, plain.packed)

    @classmethod
    def _open_params(cls, folder: Path) -> Checkpoint:
        """What Mistral and Meta publish; sizes are read off the weights, so these are opened in any case."""
        if not (folder / "params.json").is_file():
            raise _no_config(folder)
        if (folder / "consolidated.01.pth").is_file():
            problem = "each consolidated.*.pth has a part of every matrix"
            raise FormatError(f"{folder}: {problem}; download the model with its config.json")
        tensors = read_weights(folder, _PARAMS_FORMATS)
        return cls(folder, read_params(folder / "params.json", tensors), {}, renamed(tensors))

    @property
    def name(self) -> str:
        """The folder's name, or the repository's, where the folder is one of Hugging Face's cache."""
        return self.repository.rpartition("/")[2] or self.folder.resolve().name

    @property
    def repository(self) -> str:
        """Owner and name of the repository in whose cache the folder lies, or nothing."""
        *_, repository, snapshots, _ = ("", "", "", *self.folder.resolve().parts)
        is_cache = snapshots == "snapshots" and repository.startswith("models--")
        return repository.removeprefix("models--").replace("--", "/", 1) if is_cache else ""

    @property
    def adapts(self) -> str | None:
        """The model to which an adapter in this folder belongs, None if there is no adapter."""
        return _base_of_adapter(self.folder)


def _hint(folder: Path) -> str:
    """How to get what looks like the name of a repository."""
    if folder.is_absolute() or folder.exists() or len(folder.parts) != 2 or ".." in folder.parts:
        return ""
    return f", or get one first: hf download {folder} --local-dir {folder.name}"


def _no_config(folder: Path) -> FormatError:
    base = _base_of_adapter(folder)
    if base is not None:
        return _is_adapter(folder, base)
    problem = "no config.json there; give the folder of a Hugging Face checkpoint"
    inner = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if inner:
        problem = f"no config.json there, but in its folder {inner[0]}; give that"
    return FormatError(f"{folder}: {problem}")


def _base_of_adapter(folder: Path) -> str | None:
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    base = read_json(path).get("base_model_name_or_path")
    return base if isinstance(base, str) and base else "a model that it does not name"


def _is_adapter(folder: Path, base: str) -> FormatError:
    return FormatError(
        f"{folder}: a LoRA adapter of {base:.80} (adapter_config.json); merge it into its base, with PEFT's "
        "merge_and_unload(), and convert what that saves"
    )


def read_weights(folder: Path, formats: Sequence[_Format] = _FORMATS) -> dict[str, TensorSource]:
    """The tensors in a folder, in whatever files; raises FormatError if there are none or not all."""
    tensors = _read_weights(folder, formats)
    for name in tensors:
        if not name.isprintable() or len(name) > _MAX_NAME:
            raise FormatError(f"{folder}: no tensor can be called {quoted(name)}; download it again")
    return tensors


def _read_weights(folder: Path, formats: Sequence[_Format]) -> dict[str, TensorSource]:
    for stem, ending, read in formats:
        if (folder / f"{stem}{ending}").is_file():
            return read(folder / f"{stem}{ending}")
        if (folder / f"{stem}{ending}.index.json").is_file():
            return _read_indexed(folder / f"{stem}{ending}.index.json", read)
        shards = sorted(folder.glob(f"{stem}-*-of-*{ending}"))
        if shards:
            _check_count(shards)
            return _join({shard.name: read(shard) for shard in shards}, folder)
    variants = sorted(path for pattern in _VARIANTS for path in folder.glob(pattern))
    if len(variants) == 1:
        return read_safetensors(variants[0])
    base = _base_of_adapter(folder)
    if base is not None:
        raise _is_adapter(folder, base)
    if variants:
        found = f"{variants[0].name} and {len(variants) - 1} more"
        raise FormatError(f"{folder}: several weights, {found}; keep one, as model.safetensors")
    names = " nor ".join(f"{stem}{ending}" for stem, ending, _ in formats)
    raise FormatError(f"{folder}: no weights there, neither {names} nor parts of one; download it again")


def _read_indexed(index: Path, read: _Reader) -> dict[str, TensorSource]:
    """Read the shards that an index names; each must hold the tensors that the index says, and no others."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{index}: has no weight_map; download it again")
    for file in weight_map.values():
        if not isinstance(file, str) or Path(file).name != file or len(file.encode("utf-8", "replace")) > 255:
            raise FormatError(f"{index}: names {file!r:.80}, which is not a file beside it")
    shards = {}
    for file in sorted(set(weight_map.values())):
        path = index.parent / file
        if not path.is_file():
            raise FormatError(f"{path}: missing, though {index.name} names it; download it again")
        shards[file] = read(path)
    tensors = _join(shards, index.parent)
    files = {name: file for file, part in shards.items() for name in part}
    for problem, names in (
        ("names tensors that are not there", weight_map.keys() - files.keys()),
        ("lacks tensors that are there", files.keys() - weight_map.keys()),
        ("names another file for", {name for name, file in files.items() if weight_map.get(name) != file}),
    ):
        if names:
            listed = quoted(min(names)) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            raise FormatError(f"{index}: {problem}: {listed}; download the checkpoint again")
    return tensors


def _join(shards: dict[str, dict[str, TensorSource]], folder: Path) -> dict[str, TensorSource]:
    tensors: dict[str, TensorSource] = {}
    for file, part in shards.items():
        for name in part.keys() & tensors.keys():
            problem = f"tensor {quoted(name)} is in another shard, too"
            raise FormatError(f"{folder / file}: {problem}; download it again")
        tensors |= part
    return tensors


def _check_count(shards: list[Path]) -> None:
    """Without an index, the names of the shards say how many there are."""
    numbers = [re.search(r"-(\d+)-of-(\d+)\.", shard.name) for shard in shards]
    present = {(int(n[1]), int(n[2])) for n in numbers if n}
    count = len(shards)
    if present != {(n, count) for n in range(1, count + 1)}:
        raise FormatError(
            f"{shards[0].parent}: not all parts of {shards[0].name} are there; download them again"
        )
