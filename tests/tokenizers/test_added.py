"""Added tokens in texts: from left to right, the longest of those that begin at one place."""

import random
import re

from ggufpy.tokenizers.added import AddedToken, Splitter

SPACES = r"[^\S\x1c-\x1f]*"  # as of `tokenizers`


def expected(text: str, tokens: list[AddedToken]) -> list[str | int]:
    by_text = {token.text: token for token in tokens}
    found = re.compile("|".join(map(re.escape, sorted(by_text, key=len, reverse=True))))
    parts: list[str | int] = []
    end = 0
    for match in found.finditer(text):
        token, start, stop = by_text[match[0]], match.start(), match.end()
        touched = f"{text[start - 1 : start]}{text[stop : stop + 1]}"
        if token.single_word and re.search(r"\w|\u0301", touched):
            continue
        if token.lstrip:
            before = re.search(rf"{SPACES}\Z", text[:start])
            start = max(end, before.start() if before else start)
        if token.rstrip:
            stop += len(re.match(SPACES, text[stop:])[0])  # type: ignore[index]
        parts += [text[end:start], token.id]
        end = stop
    return [part for part in [*parts, text[end:]] if part != ""]


def test_parts() -> None:
    some = random.Random(3)
    for _ in range(3000):
        letters = some.sample("ab<>_ \n\t\x1c\u00a0\u00e9\u0301\u4e2d|", some.randint(2, 6))
        # Tokens neither begin nor end with white space, which others might swallow.
        ends = [letter for letter in letters if letter.strip() or letter == "\x1c"] or ["x"]
        texts = {some.choice(ends) + "".join(some.choices([*letters, ""], k=2)) for _ in range(6)}
        texts = {ends[0], *(text for text in texts if text[-1] in ends)}
        tokens = [
            AddedToken(text, id, *(some.random() < 0.3 for _ in range(3)))
            for id, text in enumerate(sorted(texts))
        ]
        text = "".join(some.choices([*letters, *texts], k=some.randint(0, 15)))
        assert list(Splitter(tokens).split(text)) == expected(text, tokens), (text, tokens)


def test_without_tokens() -> None:
    splitter = Splitter([])
    assert (list(splitter.split("")), list(splitter.split("a b"))) == ([], ["a b"])


def test_tokens_that_no_text_has() -> None:
    assert list(Splitter([AddedToken("\udcff", 1), AddedToken("", 2)]).split("\ufffd")) == ["\ufffd"]
