"""Ids as the libraries of mistral-common and tiktoken give them.

This file runs in an environment of its own, as `own_libraries.py LIBRARY FILE [PATTERN]`: a JSON list of
texts comes on stdin, one of ids leaves on stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REQUIREMENTS = ("mistral-common==1.13.1", "tiktoken==0.14.0")


def own_ids(
    folder: Path, library: str, path: Path, texts: Sequence[str], pattern: str = ""
) -> list[list[int]]:
    """The ids of texts; folder: where the environment is, or is made."""
    python = folder / "libraries" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "libraries", with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    command = [str(python), __file__, library, str(path), pattern]
    result = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    ids: list[list[int]] = json.loads(result.stdout)
    return ids


def _encoder(library: str, path: str, pattern: str) -> Any:
    if library == "mistral-common":
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer  # type: ignore[import-not-found]

        tekken = Tekkenizer.from_file(path)
        return lambda text: tekken.encode(text, bos=False, eos=False)
    import tiktoken  # type: ignore[import-not-found]

    lines = (line.split() for line in Path(path).read_bytes().splitlines())
    ranks = {b64decode(token): int(rank) for token, rank in lines}
    return tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}).encode_ordinary


if __name__ == "__main__":
    encode = _encoder(*sys.argv[1:])
    print(json.dumps([encode(text) for text in json.load(sys.stdin)]))
