"""How many threads to use, and which instructions."""

from __future__ import annotations

import os
from pathlib import Path

from ggufpy._kernels import lib
from ggufpy.errors import GgufpyError

_AVX2, _AVX512 = 1, 2  # enum gg_cpu_flags
_LEVELS = {"c": 0, "avx2": _AVX2, "avx512": _AVX2 | _AVX512}


def default_threads() -> int:
    """Physical cores that this process may use, within its cgroup's CPU quota."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(len(cores))))


def _core(cpu: int) -> str:
    """Name of the physical core that a logical CPU is part of."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text()
    except OSError:
        return str(cpu)


def _quota(unlimited: int) -> int:
    """Whole CPUs that cgroup v2 grants."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return unlimited if quota == "max" else max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return unlimited


def apply_isa_setting() -> None:
    """Restrict the kernels to what GGUFPY_ISA names; raises GgufpyError for an unknown name."""
    name = os.environ.get("GGUFPY_ISA")
    if name is None:
        return
    if name not in _LEVELS:
        raise GgufpyError(f"GGUFPY_ISA is '{name}', must be one of {', '.join(_LEVELS)}")
    lib.gg_use_cpu_flags(_LEVELS[name])
