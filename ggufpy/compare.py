"""`python -m ggufpy.compare MODEL ... -f TEXT`: how good models are, how large and how fast."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("compare"))
