"""`ggufpy run` on the fake engine, in a terminal of its own: what test_run.py starts.

Answers a message in capitals; "slow N" counts to N, a number each 20 ms; "evil" has control characters.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

from fakes import FakeEngine, FakeFile, FakeTokenizer, says
from terminals import take_terminal

from ggufpy.commands.run import main
from ggufpy.runtime.engine import Span
from ggufpy.runtime.result import Result

METADATA = {
    "general.name": "fake",
    "general.architecture": "fake",
    "fake.context_length": 512,
    "tokenizer.chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{{ '<|im_start|>assistant\\n' }}",
}


def answer(question: str) -> str:
    kind, _, count = question.partition(" ")
    if kind == "slow":
        return "".join(f"{number}\n" for number in range(int(count)))
    return "a\x1b[31mb\x07\r\nc\x9bd" if question == "evil" else question.upper()


class SlowEngine(FakeEngine):
    def step(self, spans: Sequence[Span]) -> Result:
        result = super().step(spans)
        if result.rows(0)[-1].argmax() == ord("\n"):
            time.sleep(0.02)
        return result


def load(file: object, *, n_ctx: int | None, **options: object) -> SlowEngine:
    return SlowEngine(says(answer), n_ctx or 512)


def run(arguments: list[str], metadata: Mapping[str, Any] = METADATA) -> int:
    with (
        patch("ggufpy.gguf.reader.GGUFFile.open", lambda path, **options: FakeFile(metadata)),
        patch("ggufpy.runtime.engine.Engine.load", load),
        patch("ggufpy.commands.session.load_tokenizer", lambda metadata: FakeTokenizer()),
    ):
        return main(["-m", "fake.gguf", *arguments])


if __name__ == "__main__":
    take_terminal()
    raise SystemExit(run(sys.argv[1:]))
