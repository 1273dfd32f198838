"""`python -m ggufpy.perplexity -m FILE -f TEXT`: how well a model predicts a text."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("perplexity"))
