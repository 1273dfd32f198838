#!/usr/bin/env bash
# A normalizer step of a tokenizer.json whose "type" is unknown is not refused by `tokenizers`: its other fields say what
# it becomes. {"type": "NoSuch", "prepend": "x"} is Prepend, {"type": "NoSuch", "pattern": ..., "content": ...} is Replace,
# and saving writes the guessed type. Of pre-tokenizers an unknown type is an error. So a step of a newer release may
# become another one of an older release without a word.
#
# Seen with tokenizers 0.23.3. Output: "Prepend Replace refused".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
found=$("$folder/venv/bin/python" - <<'PYTHON'
import json

from tokenizers import Tokenizer

EMPTY = {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}


def saved(part, **step):
    text = json.dumps(EMPTY | {part: {"type": "NoSuch", **step}})
    try:
        return json.loads(Tokenizer.from_str(text).to_str())[part]["type"]
    except Exception:
        return "refused"


pattern = {"String": "a"}
print(
    saved("normalizer", prepend="x"),
    saved("normalizer", pattern=pattern, content="b"),
    saved("pre_tokenizer", pattern=pattern, behavior="Isolated", invert=False),
)
PYTHON
)
echo "$found"
[ "$found" = "Prepend Replace refused" ]
