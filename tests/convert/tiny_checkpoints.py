"""Tiny models of one class each, with what transformers computes from them: `models/NAME.json`.

A file has a configuration as transformers saves it, the tensors of its checkpoint with their shapes ({i}
stands for each layer, {e} for each expert), the metadata that converting must write, and cases: what changes
in these three, the logits then, and whether llama.cpp computes them too. "refused" are changes of the
configuration that must be, and the message. Weights are random, each by its name alone. To fill in logits,
where transformers is installed:

    python tests/convert/tiny_checkpoints.py tests/convert/models/NAME.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_LAYERS = ("num_hidden_layers", "n_layer")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")

Floats = NDArray[np.float32]

FOLDER = Path(__file__).parent / "models"
TOKENS: list[int] = np.random.default_rng(7).integers(3, 4096, 40).tolist()
COLUMNS = slice(0, None, 409)  # of the logits that are kept
FEW_COLUMNS = slice(0, None, 6)  # of the embeddings


@dataclass(frozen=True)
class Model:
    """One case of one file."""

    file: Path
    case: str

    @property
    def name(self) -> str:
        return f"{self.file.stem}, {self.case}" if self.case else self.file.stem

    @property
    def data(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.file.read_text())
        return loaded

    @property
    def config(self) -> dict[str, Any]:
        return changed(self.data["config"], self.data["cases"][self.case].get("config", {}))

    @property
    def keys(self) -> dict[str, Any]:
        """The metadata of the architecture, without its prefix."""
        return changed(self.data["keys"], self.data["cases"][self.case].get("keys", {}))

    @property
    def output(self) -> str:
        """What is compared: "logits", or "embeddings" of models that have no others."""
        return self.data.get("output", "logits")  # type: ignore[no-any-return]

    @property
    def columns(self) -> slice:
        """Those of the output that are kept: all of what is said of a text."""
        if self.output == "logits":
            return COLUMNS
        return slice(None) if self.keys.get("pooling_type") else FEW_COLUMNS

    @property
    def logits(self) -> Floats:
        """(tokens, the columns that are kept); one row where the file makes one of a text."""
        return np.array(self.data["cases"][self.case]["logits"], np.float32)

    @property
    def is_llama_cpps(self) -> bool:
        """Whether llama.cpp, too, computes this from the file."""
        said: bool = self.data["cases"][self.case].get("llama.cpp", True)
        return said

    def weights(self) -> dict[str, Floats]:
        shapes = changed(self.data["tensors"], self.data["cases"][self.case].get("tensors", {}))
        names = [
            (name, shape) for pattern, shape in shapes.items() for name in expanded(pattern, self.config)
        ]
        return {name: weight(name, tuple(shape), self.data.get("norms", "")) for name, shape in names}


def models() -> list[Model]:
    return [
        Model(file, case) for file in sorted(FOLDER.glob("*.json")) for case in Model(file, "").data["cases"]
    ]


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """With other values, and without those that become "absent"."""
    return {key: value for key, value in {**values, **changes}.items() if value != "absent"}


def expanded(pattern: str, config: Mapping[str, Any]) -> Iterator[str]:
    config = {**config, **config.get("text_config", {})}
    layers = range(next(config[key] for key in _LAYERS if key in config) if "{i}" in pattern else 1)
    counts = [config[key] for key in _EXPERTS if config.get(key)]
    experts = range(counts[0] if "{e}" in pattern else 1)
    return (pattern.format(i=i, e=e) for i, e in product(layers, experts))


def weight(name: str, shape: tuple[int, ...], norms: str) -> Floats:
    """Matrices that keep the size of what they multiply; norms around 1, or around 0 if they add to 1."""
    x = np.random.default_rng(crc32(name.encode())).standard_normal(shape, np.float32)
    if len(shape) > 1:
        return x / np.float32(shape[-1] ** 0.5)
    is_factor = "norm" in name or name.endswith((".D", "scale", "scalar"))
    return x / np.float32(4) + np.float32(is_factor and norms != "add to one")


def reference(folder: Path, **options: Any) -> NDArray[np.float64]:
    """What transformers computes from the checkpoint in `folder`, in f64 where it allows that."""
    import torch  # type: ignore[import-not-found, unused-ignore]
    import transformers  # type: ignore[import-not-found, unused-ignore]

    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    model, info = getattr(transformers, name).from_pretrained(
        folder,
        dtype=torch.float64,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
        **options,
    )
    info["missing_keys"] = {name for name in info["missing_keys"] if "pooler" not in name}
    problems = {key: found for key, found in info.items() if found}
    assert not problems, problems
    with torch.no_grad():
        output = model.eval()(torch.tensor([TOKENS]))
    rows = (output.logits if "logits" in output else output.last_hidden_state)[0].double().numpy()
    return np.atleast_2d(rows)


def fill_in(file: Path) -> None:
    import tempfile

    from safetensors.numpy import save_file

    data = json.loads(file.read_text())
    for case in data["cases"]:
        with tempfile.TemporaryDirectory() as name:
            model = Model(file, case)
            (Path(name) / "config.json").write_text(json.dumps(model.config))
            save_file(model.weights(), Path(name) / "model.safetensors", {"format": "pt"})
            rows = reference(Path(name))[:, model.columns]
        data["cases"][case]["logits"] = [[float(f"{x:.7g}") for x in row] for row in rows]
    text = json.dumps(data, indent=1)
    file.write_text(one_line_each(text) + "\n")


def one_line_each(text: str) -> str:
    """JSON with the innermost lists on one line."""
    import re

    return re.sub(r"\[[^][{}]*\]", lambda match: re.sub(r"\s+", " ", match[0]), text)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        fill_in(Path(argument))
