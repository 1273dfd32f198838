"""Convert Hugging Face models to GGUF and run them on the CPU."""

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ggufpy.api.llama import Llama
    from ggufpy.convert.estimate import estimate_size
    from ggufpy.convert.pipeline import convert_checkpoint
    from ggufpy.errors import GgufpyError
    from ggufpy.quants.file import quantize_file

__all__ = ["GgufpyError", "Llama", "__version__", "convert_checkpoint", "estimate_size", "quantize_file"]

# Loaded on first use: `import ggufpy` stays instant, and running never imports what only converting needs.
_HOMES = {
    "GgufpyError": "ggufpy.errors",
    "Llama": "ggufpy.api.llama",
    "convert_checkpoint": "ggufpy.convert.pipeline",
    "estimate_size": "ggufpy.convert.estimate",
    "quantize_file": "ggufpy.quants.file",
}


if find_spec("ggufpy._kernels") is None:
    # In a checkout, `python -m` finds this folder before the installed package, where the compiled module is.
    from importlib.metadata import PackageNotFoundError, distribution

    with suppress(PackageNotFoundError):
        __path__.append(str(distribution("ggufpy").locate_file("ggufpy")))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ggufpy")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ggufpy' has no attribute '{name}'")
