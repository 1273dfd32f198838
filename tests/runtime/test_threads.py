"""How many threads there are: what control groups grant, what callers may ask for."""

from pathlib import Path

import pytest

from ggufpy.errors import GgufpyError
from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime import cpu
from ggufpy.runtime.engine import Engine


@pytest.mark.parametrize(
    ("files", "granted"),
    [
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "765000 100000"}, 7),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 16),
        ({"cpu.max": "not numbers"}, 16),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "350000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "0"}, 16),
    ],
)
def test_quotas(files: dict[str, str], granted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(cpu, "_CGROUPS", tmp_path)
    assert cpu._quota(16) == granted


def test_nought_is_as_many_as_there_are_cores(small: Path) -> None:
    assert Engine.load(GGUFFile.open(small), n_threads=0).n_threads == cpu.default_threads()


@pytest.mark.parametrize("name", ["n_ctx", "n_batch", "n_threads", "n_seq"])
@pytest.mark.parametrize("value", [-(2**70), -1, 2**31 - 1, 2**31, 2**40, 2**63, 2**64, 2**200])
def test_fewer_or_more_than_there_can_be(name: str, value: int, small: Path) -> None:
    options = {"n_ctx": value, "n_batch": value} if name == "n_batch" else {name: value}
    with pytest.raises(GgufpyError, match=r"must be from 1 to|there is no memory"):
        Engine.load(GGUFFile.open(small), **options)  # type: ignore[arg-type]
