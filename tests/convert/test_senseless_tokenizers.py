"""Any value in any place of a tokenizer.json of each kind: a vocabulary, or one line of ours."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import mutations
import pytest
from encoder_jsons import NAMES, unigram, word_pieces
from tiny_tokenizers import byte_level_json, converted, spaces_json, write_checkpoint

from ggufpy.convert.vocabulary.differences import differences
from ggufpy.errors import GgufpyError

METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
STEPS = [METASPACE, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}]
LOWER = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}
KINDS: dict[str, dict[str, Any]] = {
    "bytes": {
        **byte_level_json(),
        "normalizer": LOWER,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": STEPS},
    },
    "spaces": {**spaces_json(), "normalizer": None, "pre_tokenizer": METASPACE},
    "listed": spaces_json(prefix=False, all_merges=False),
    "merges": spaces_json(all_merges=False),
    "unigram": unigram("ALBERT"),
    "words": word_pieces(),
}
TRIES = 60  # of each kind


@pytest.mark.parametrize("kind", KINDS)
def test_senseless_tokenizers(tmp_path: Path, kind: str) -> None:
    tokenizer, choose = KINDS[kind], random.Random(kind)
    paths = [path for path in mutations.places(tokenizer) if path]
    blocks = [path for path in paths if path[0] != "model"]
    write_checkpoint(tmp_path, None, {} if kind == "words" else NAMES)
    for number in range(TRIES):
        path, value = choose.choice(blocks if number % 2 else paths), choose.choice(mutations.VALUES)
        (tmp_path / "tokenizer.json").write_text(mutations.replaced(tokenizer, path, value))
        try:
            differences(converted(tmp_path))
        except GgufpyError as error:
            assert "\n" not in str(error) and len(str(error)) < 1500


def test_a_step_may_have_any_type(tmp_path: Path) -> None:
    """`tokenizers` knows what it is by the rest."""
    tokenizer = {**byte_level_json(), "normalizer": {"type": -1, "prepend": "x"}}
    (note,) = differences(converted(write_checkpoint(tmp_path, tokenizer, NAMES)))
    assert "do not normalize as it does (-1)" in note


def test_what_the_library_gives_up_on_is_one_line(tmp_path: Path) -> None:
    tokenizer = word_pieces()
    tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"] = ""
    with pytest.raises(GgufpyError, match=r"not a tokenizer \(no entry found for key\); download it again"):
        converted(write_checkpoint(tmp_path, tokenizer))
