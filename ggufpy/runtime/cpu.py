"""How many threads to use, and which instructions."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from ggufpy._kernels import lib
from ggufpy.errors import GgufpyError

_LEVELS = {
    "c": 0,
    "avx2": lib.GG_AVX2,
    "avx512": lib.GG_AVX2 | lib.GG_AVX512,
    "vbmi": lib.GG_AVX2 | lib.GG_AVX512 | lib.GG_VBMI,
    "bf16": lib.GG_AVX2 | lib.GG_AVX512 | lib.GG_VBMI | lib.GG_BF16,
    "amx": lib.GG_AVX2 | lib.GG_AVX512 | lib.GG_VBMI | lib.GG_BF16 | lib.GG_AMX,
    "neon": lib.GG_NEON,
    "dotprod": lib.GG_NEON | lib.GG_DOTPROD,
    "i8mm": lib.GG_NEON | lib.GG_DOTPROD | lib.GG_I8MM,
}
_CGROUPS = Path("/sys/fs/cgroup")

MOST_THREADS = 512  # llama.cpp's limit


def default_threads() -> int:
    """Physical performance cores that this process may use, within its cgroups' CPU quota."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core(cpu) for cpu in allowed & _performance_cpus(allowed)}
    return max(1, min(len(cores), _quota(len(cores))))


def _performance_cpus(allowed: set[int]) -> set[int]:
    """On Intel's hybrid CPUs those of the large cores, if any is allowed; elsewhere all."""
    try:
        ranges = Path("/sys/devices/cpu_core/cpus").read_text().strip().split(",")
    except OSError:
        return allowed
    large: set[int] = set()
    for first, _, last in (part.partition("-") for part in ranges if part):
        large.update(range(int(first), int(last or first) + 1))
    return allowed & large or allowed


def _core(cpu: int) -> str:
    """Name of the physical core that a logical CPU is part of."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text()
    except OSError:
        return str(cpu)


def _quota(unlimited: int) -> int:
    """Whole CPUs that control groups grant to this process: the least of its groups and all above them."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        lines = []
    granted = unlimited
    for controllers in ("", "cpu", "cpu,cpuacct"):  # "": version 2; version 1 has a folder for each kind
        root = _CGROUPS / controllers
        group = next((line[2] for line in lines if line[1] == controllers), "/")
        folder = root / group.lstrip("/")
        for level in (folder, *folder.parents):
            if level.is_relative_to(root):
                granted = min(granted, _granted(level, unlimited))
    return granted


def _granted(folder: Path, unlimited: int) -> int:
    """What one group grants, rounded down: a thread without a CPU of its own keeps the others waiting."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return unlimited if quota.strip() in ("max", "-1") else max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return unlimited


@cache
def apply_isa_setting() -> None:
    """Restrict the kernels, once, to what GGUFPY_ISA names; raises GgufpyError for an unknown name."""
    name = os.environ.get("GGUFPY_ISA")
    if name is None:
        return
    if name not in _LEVELS:
        raise GgufpyError(f"GGUFPY_ISA is '{name}', must be one of {', '.join(_LEVELS)}")
    lib.gg_use_cpu_flags(_LEVELS[name])
