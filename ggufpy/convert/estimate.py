"""How large a model will be in another type, without reading its weights."""

from __future__ import annotations

from pathlib import Path

from ggufpy.convert.pipeline import plan_conversion
from ggufpy.quants.file import plan_quantization


def estimate_size(model: Path | str, type: str, *, imatrix: Path | str | None = None) -> int:
    """Bytes of the file that `convert_checkpoint`, or `quantize_file` with its defaults, would write.

    model: a checkpoint's folder, or a GGUF file, whose blocks may then be encoded again. imatrix: as there,
    as it changes which types some tensors get. Raises what these functions raise.
    """
    if Path(model).is_dir():
        return sum(plan_conversion(model, outtype=type, imatrix=imatrix).sizes().values())
    plan = plan_quantization(model, None, type, imatrix=imatrix, allow_requantize=True)
    return sum(plan.sizes().values())
