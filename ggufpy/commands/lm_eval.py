"""`ggufpy lm_eval`: lm-evaluation-harness as it is, with one model class more."""

from __future__ import annotations

import sys
from importlib import import_module
from unittest.mock import patch

import ggufpy
from ggufpy.commands.console import run_command
from ggufpy.errors import GgufpyError


def main(argv: list[str] | None = None) -> int:
    """Run lm_eval's own command line, where the model class "ggufpy" is known, and return the exit status.

    lm_eval knows only its own classes and those that were imported before: it has no entry point for others.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments == ["--version"]:
        print(f"ggufpy {ggufpy.__version__}")
        raise SystemExit(0)
    return run_command(lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    if sys.modules.get("scipy", sys) is None:  # commands do without it, but lm_eval's metrics do not
        del sys.modules["scipy"]
    try:
        import_module("ggufpy.api.lm_eval")
        cli_evaluate = import_module("lm_eval.__main__").cli_evaluate
    except ImportError as error:
        raise GgufpyError(f"{error}; install lm-evaluation-harness: pip install 'ggufpy[lm-eval]'") from error
    with patch.object(sys, "argv", ["lm_eval", *argv]):
        cli_evaluate()
    return 0
