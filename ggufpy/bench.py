"""`python -m ggufpy.bench -m FILE`: how fast a model runs."""

from ggufpy.commands.bench import main

if __name__ == "__main__":
    raise SystemExit(main())
