"""`python -m ggufpy.convert CHECKPOINT`: convert a Hugging Face checkpoint to GGUF."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("convert"))
