"""Names of the files of a model that is split over several.

Source: llama.cpp src/llama.cpp, llama_split_path and llama_split_prefix.
"""

from __future__ import annotations

from pathlib import Path

from ggufpy.errors import FormatError
from ggufpy.gguf.values import ValueType

SPLIT_NO = "split.no"
SPLIT_COUNT = "split.count"
SPLIT_TENSORS = "split.tensors.count"
SPLIT_ID = "ggufpy.split.id"  # our own: the same in all shards of one writing

# Every shard says which it is, of how many, how many tensors all of them have together, and of which writing.
SPLIT_TYPES = {
    SPLIT_NO: ValueType.U16,
    SPLIT_COUNT: ValueType.U16,
    SPLIT_TENSORS: ValueType.I32,
    SPLIT_ID: ValueType.STRING,
}


def shard_path(path: Path, index: int, count: int) -> Path:
    """Where shard `index` (from 0) of `count` goes, for a model called `path`."""
    return path.with_name(f"{path.name.removesuffix('.gguf')}-{index + 1:05d}-of-{count:05d}.gguf")


def shard_paths(first: Path, count: int) -> list[Path]:
    """All `count` shards, given the path of the first; raises FormatError if that is not named as one."""
    ending = shard_path(Path(".gguf"), 0, count).name
    if not first.name.endswith(ending):
        problem = f"is the first of {count} files, but its name does not end in '{ending}'"
        raise FormatError(f"{first}: {problem}; give it back its name")
    model = first.with_name(first.name.removesuffix(ending) + ".gguf")
    return [shard_path(model, index, count) for index in range(count)]
