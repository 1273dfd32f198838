"""`python -m ggufpy.run`: chat with a GGUF model, or complete a text."""

from ggufpy.commands.run import main

if __name__ == "__main__":
    raise SystemExit(main())
