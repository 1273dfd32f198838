"""`python -m ggufpy.quantize IN.gguf OUT.gguf TYPE`: write a GGUF file anew in other types."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("quantize"))
