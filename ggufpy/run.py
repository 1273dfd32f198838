"""`python -m ggufpy.run`: chat with a GGUF model, or complete a text."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("run"))
