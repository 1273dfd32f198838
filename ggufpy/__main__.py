"""`ggufpy COMMAND ...` and `python -m ggufpy COMMAND ...`: the same as `python -m ggufpy.COMMAND ...`."""

import sys

import ggufpy
from ggufpy.commands.console import start

COMMANDS = {
    "bench": "measure how fast a model runs, and how near the machine's limits that is",
    "calibrate": "show what is hard to quantize of a model: statistics and plots",
    "compare": "compare models: how good they are, how large and how fast",
    "convert": "turn a Hugging Face checkpoint into a GGUF file",
    "embed": "turn texts into vectors, or rank documents",
    "imatrix": "measure how much each column of a model's matrices matters, for quantizing",
    "inspect": "print the metadata and the tensors of a GGUF file",
    "lm_eval": "lm-evaluation-harness, with the model class ggufpy",
    "perplexity": "measure how well models predict a text, or choose among several",
    "quantize": "write a GGUF file anew with its tensors in other types",
    "run": "chat with a model, or complete a text",
    "tokenize": "cut a text into a model's tokens, or hold these against a checkpoint's tokenizer",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status; without one, say which there are."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in COMMANDS:
        return start(arguments[0], arguments[1:])
    usage = "usage: ggufpy COMMAND ...\n\n" + "\n".join(
        f"  {name:12}{does}" for name, does in COMMANDS.items()
    )
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"{usage}\n\nggufpy COMMAND --help tells more.")
        return 0
    if arguments and arguments[0] == "--version":
        print(f"ggufpy {ggufpy.__version__}")
        return 0
    if arguments:
        print(f"ggufpy: no command '{arguments[0]}'", file=sys.stderr)
    print(usage, file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
