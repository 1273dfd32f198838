"""`python -m ggufpy.inspect FILE`: print what a GGUF file holds."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("inspect"))
