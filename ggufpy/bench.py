"""`python -m ggufpy.bench -m FILE`: how fast a model runs."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("bench"))
