"""`python -m ggufpy.inspect FILE`: print what a GGUF file holds."""

from ggufpy.commands.inspect import main

if __name__ == "__main__":
    raise SystemExit(main())
