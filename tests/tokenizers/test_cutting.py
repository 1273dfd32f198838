"""Special tokens are cut out as if looked for one by one, each in what the ones before it have left."""

import random
import re

from ggufpy.tokenizers.cutting import Cutter

SPACES = r"[^\S\x1c-\x1f]*"  # as of `tokenizers`
ASCII_SPACES = r"[ \t\n\v\f\r]*"
Ids = frozenset[int]


def one_by_one(
    text: str, tokens: list[tuple[str, int]], lstrip: Ids, rstrip: Ids, after: Ids
) -> list[str | int]:
    parts: list[str | int] = [text]
    for token, id in tokens:
        behind = (SPACES if id in rstrip else "") + (ASCII_SPACES if id in after else "")
        for number, part in [*enumerate(parts)][::-1]:
            if isinstance(part, str):
                first, *others = part.split(token)
                stretches = [first, *(re.sub(f"^{behind}", "", other) for other in others)]
                if id in lstrip:
                    stretches[:-1] = [re.sub(f"{SPACES}\\Z", "", each) for each in stretches[:-1]]
                parts[number : number + 1] = [each for text in stretches for each in (text, id)][:-1]
    return [part for part in parts if part != ""]


def test_the_parts_are_those_of_one_token_after_the_other() -> None:
    some = random.Random(3)
    for _ in range(3000):
        letters = some.sample("ab<> \n\t\x1c\u00a0\u00e9\u4e2d|", some.randint(2, 6))
        texts = dict.fromkeys("".join(some.choices(letters, k=some.randint(1, 5))) for _ in range(8))
        tokens = sorted(
            ((text, id) for id, text in enumerate(texts)), key=lambda token: -len(token[0].encode())
        )
        strips = [frozenset(some.sample(range(len(texts)), len(texts) // 3)) for _ in range(3)]
        text = "".join(some.choices([*letters, *texts], k=some.randint(0, 15)))
        assert list(Cutter(tokens, *strips).parts(text)) == one_by_one(text, tokens, *strips)


def test_without_tokens() -> None:
    cutter = Cutter([], frozenset(), frozenset(), frozenset())
    assert (list(cutter.parts("")), list(cutter.parts("a b"))) == ([], ["a b"])
