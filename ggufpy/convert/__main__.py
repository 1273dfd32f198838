"""`python -m ggufpy.convert CHECKPOINT`: convert a Hugging Face checkpoint to GGUF."""

from ggufpy.commands.convert import main

if __name__ == "__main__":
    raise SystemExit(main())
