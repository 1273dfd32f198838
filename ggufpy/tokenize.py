"""`python -m ggufpy.tokenize -m FILE -p TEXT`: the tokens of a text."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("tokenize"))
