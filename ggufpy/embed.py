"""`python -m ggufpy.embed`: vectors of texts, and how well documents answer queries."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("embed"))
