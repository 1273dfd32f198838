"""`python -m ggufpy.calibrate`: what is hard to quantize of a model."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("calibrate"))
