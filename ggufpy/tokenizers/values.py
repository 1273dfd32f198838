"""Values of a file's tokenizer.* keys; each function raises TokenizerError for what cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import TokenizerError

KEY = "tokenizer.ggml."


def numbers_of(metadata: Mapping[str, Any], name: str, count: int, kinds: str = "iuf") -> NDArray[Any] | None:
    """A number for each token; None where the file has none. kinds: those of NumPy that it may be of."""
    values = metadata.get(KEY + name)
    if values is None:
        return None
    if not isinstance(values, list):
        raise TokenizerError(f"{KEY}{name}: not a list of numbers; convert the model again")
    if len(values) < count:
        raise TokenizerError(f"{KEY}{name}: {len(values)} values for {count} tokens; convert the model again")
    numbers = np.array(values[:count])
    if numbers.dtype.kind not in kinds:
        wanted = "numbers" if "f" in kinds else "whole numbers"
        raise TokenizerError(f"{KEY}{name}: not a list of {wanted}; convert the model again")
    return numbers


def id_of(
    metadata: Mapping[str, Any], name: str, count: int, default: int | None, *, needed: bool = False
) -> int | None:
    """A special token's id; a default that the vocabulary is too small for counts as none.

    An id outside the vocabulary is that default too, with a warning, as in llama.cpp; if it is needed, it
    raises TokenizerError.
    """
    key = f"{KEY}{name}_token_id"
    default = default if default is not None and default < count else None
    if key not in metadata:
        return default
    id = metadata[key]
    if type(id) is not int:
        raise TokenizerError(f"{key} is {id!r:.60}, not a token's id; convert the model again")
    if 0 <= id < count:
        return id
    problem = f"{key} is {id}, not one of the {count} tokens"
    if needed:
        raise TokenizerError(
            f"{problem}; set it with: ggufpy quantize --override-kv {key}=int:ID IN OUT copy"
        )
    warnings.warn(f"{problem}; {'none' if default is None else default} is taken", stacklevel=5)
    return default


def ids_of(metadata: Mapping[str, Any], key: str, count: int) -> frozenset[int]:
    """A list of ids, none where the file has no such key."""
    ids = metadata.get(key, [])
    if not isinstance(ids, list) or any(type(id) is not int or not 0 <= id < count for id in ids):
        raise TokenizerError(f"{key} is {ids!r:.60}, not a list of ids of {count} tokens; convert again")
    return frozenset(ids)


def flag_of(metadata: Mapping[str, Any], key: str, default: bool) -> bool:
    """True or false."""
    value = metadata.get(key, default)
    if not isinstance(value, bool):
        raise TokenizerError(f"{key} is {value!r:.60}, not true or false; convert the model again")
    return value


def text_of(metadata: Mapping[str, Any], key: str) -> str | None:
    """A text; None where the file has none."""
    value = metadata.get(key)
    if value is not None and not isinstance(value, str):
        raise TokenizerError(f"{key} is {value!r:.60}, not a text; convert the model again")
    return value
