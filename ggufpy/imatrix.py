"""`python -m ggufpy.imatrix`: how much each column of a model's matrices matters, for quantizing."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("imatrix"))
