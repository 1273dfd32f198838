"""What sentence-transformers has behind a network: pooling, dense layers, a norm.

Source: sentence-transformers' modules.json, which names a folder with a config.json for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufpy.checkpoint.checkpoint import read_weights
from ggufpy.checkpoint.json_files import read_json, read_json_list
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.values import Typed, Value

MODULE_FOLDERS = "[0-9]_*"  # of a checkpoint

# Modes of pooling, and pooling_type of GGUF: llama.cpp's llama.h.
_POOLINGS = {"mean": 1, "mean_tokens": 1, "cls": 2, "cls_token": 2, "lasttoken": 3}
_DENSE = ("dense_2", "dense_3")  # names that GGUF has for such layers
_IDENTITY = "torch.nn.modules.linear.Identity"


@dataclass(frozen=True, slots=True)
class Modules:
    """keys: of the architecture, without prefix. tensors: of dense layers, as "dense_2.linear.weight".

    notes: what whoever converts should know.
    """

    keys: dict[str, Value | Typed] = field(default_factory=dict)
    tensors: dict[str, TensorSource] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_modules(folder: Path, *, dense: bool, weights: bool = True) -> Modules:
    """What stands behind the network in `folder`; nothing where there is no modules.json.

    dense: the architecture has places for dense layers. weights: with their tensors. Raises
    UnsupportedModelError for modules that GGUF cannot say, FormatError for damaged files.
    """
    modules = Modules()
    path = folder / "modules.json"
    if not path.is_file():
        return modules
    for module in read_json_list(path):
        kind, place = (str(module.get(key, "")) for key in ("type", "path"))
        match kind.rpartition(".")[2]:
            case "Transformer":
                pass  # the network itself
            case "Pooling":
                modules.keys["pooling_type"] = _pooling(_settings(folder, place))
            case "Dense" if dense:
                _add_dense(modules, folder, place, weights=weights)
            case "Normalize":
                modules.notes.append("embeddings are to be normalized: embed(..., normalize=True)")
            case other:
                problem = f"module '{other:.60}' is not supported for this architecture"
                raise UnsupportedModelError(f"{path}: {problem}")
    return modules


def _settings(folder: Path, place: str) -> dict[str, Any]:
    """The configuration of a module, which stands in a folder of the checkpoint."""
    if not 0 < len(place.encode()) < 256 or Path(place).name != place:
        raise FormatError(f"{folder / 'modules.json'}: names '{place:.80}', which is not a folder beside it")
    path = folder / place / "config.json"
    if not path.is_file():
        raise FormatError(f"{path}: missing, though modules.json names its folder; download it again")
    return read_json(path)


def _pooling(settings: dict[str, Any]) -> int:
    modes = [key.removeprefix("pooling_mode_") for key, value in settings.items() if value is True]
    modes = [mode for mode in modes if f"pooling_mode_{mode}" in settings]
    named = settings.get("pooling_mode")
    modes = [str(named)] if named is not None else modes
    if len(modes) == 1 and modes[0] in _POOLINGS:
        return _POOLINGS[modes[0]]
    found = " and ".join(modes) or "none"
    raise UnsupportedModelError(
        f"pooling of tokens by {found:.80} is not supported; by mean, cls, lasttoken is"
    )


def _add_dense(modules: Modules, folder: Path, place: str, *, weights: bool) -> None:
    settings = _settings(folder, place)
    number = sum(key.endswith("_feat_in") for key in modules.keys)
    function = settings.get("activation_function", _IDENTITY)
    if function != _IDENTITY:
        raise UnsupportedModelError(f"{folder / place}: activation '{function!s:.60}' is not supported")
    if number == len(_DENSE):
        raise UnsupportedModelError(f"{folder / place}: a dense layer too many; GGUF has places for two")
    for ours, theirs in (("in", "in_features"), ("out", "out_features")):
        size = settings.get(theirs)
        if type(size) is not int or size < 1:
            raise FormatError(f"{folder / place}: {theirs} is {size!r:.40}, it must be a positive number")
        modules.keys[f"{_DENSE[number]}_feat_{ours}"] = size
    if weights:
        found = read_weights(folder / place)
        modules.tensors.update({f"{_DENSE[number]}.{name}": source for name, source in found.items()})
