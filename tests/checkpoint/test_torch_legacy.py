"""Files of torch before 1.6: what is read, what is refused, and files that are damaged."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import values
from tiny_torch import Array, Persistent, Reduced, TorchNames, legacy_parts, torch_names

from ggufpy.checkpoint.torch_file import read_torch_file
from ggufpy.errors import FormatError

STORAGES: dict[str, Array] = {"a": np.arange(6, dtype=np.float32), "b": np.ones(3, np.float16)}
CHANGES = ("set", "insert", "cut", "repeat")


def file_parts(protocol: int = 2, **changes: Any) -> list[bytes]:
    """The pickles and storages of a file that is right."""
    with torch_names(None) as torch:
        tensors = {"w": STORAGES["a"].reshape(2, 3).T, "b": STORAGES["b"]}
        keys = {"w": "a", "b": "b"}
        state = {name: torch.tensor(keys[name], STORAGES[keys[name]], 0, x) for name, x in tensors.items()}
        return legacy_parts(torch.dump(OrderedDict(state), protocol), STORAGES, protocol, **changes)


def read(path: Path, parts: list[bytes]) -> dict[str, Any]:
    path.write_bytes(b"".join(parts))
    return read_torch_file(path)


def refusal(path: Path, parts: list[bytes]) -> str:
    with pytest.raises(FormatError) as error:
        read(path, parts)
    message = str(error.value)
    assert str(path) in message and "\n" not in message and len(message) < 600
    return message


def test_parts_of_storages(tmp_path: Path) -> None:
    """What torch before 1.0 wrote of a storage that was cut out of another."""

    def state(torch: TorchNames, view: tuple[str, int, int], shape: tuple[int, ...] = (2,)) -> bytes:
        id = ("storage", torch.storages["float32"], "a", "cpu", 6, view)
        tensor = Reduced(torch.rebuild, (Persistent(id), 1, shape, (1,)))
        return torch.dump({"w": tensor}).replace(b"_rebuild_tensor_v2", b"_rebuild_tensor")

    storages = {"a": STORAGES["a"]}
    with torch_names() as torch:
        path = tmp_path / "x.bin"
        tensors = read(path, legacy_parts(state(torch, ("part", 2, 3)), storages))
        np.testing.assert_array_equal(values(tensors["w"]), [3, 4])
        for part, shape, problem in (
            (("part", 2, 2), (2,), "reaches number 2 of a storage of 2"),
            (("part", 2, 2), (3,), "a tensor of 3 numbers in a storage of 2"),
            (("part", 4, 3), (2,), "a storage of 6 numbers, or a part of it that cannot be"),
            (("part", -1, 3), (2,), "a storage of 6 numbers, or a part"),
            (("part", 1, -1), (0,), "a storage of 6 numbers, or a part"),
            (3, (2,), "a storage of 6 numbers, or a part"),
        ):
            assert problem in refusal(path, legacy_parts(state(torch, part, shape), storages))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: file_parts(little_endian=False), "is not little-endian; save it again on another"),
        (lambda parts: file_parts(little_endian=None), "does not say its byte order"),
        (lambda parts: [*parts[:2], pickle.dumps(3, 2), *parts[3:]], "does not say its byte order"),
        (lambda parts: [pickle.dumps({}, 2), *parts[1:]], "its magic number is not torch's"),
        (lambda parts: [parts[0], pickle.dumps(1000, 2), *parts[2:]], "its version is not torch's"),
        (lambda parts: [*parts[:3], pickle.dumps([], 2), *parts[4:]], "does not hold a dict of tensors"),
        (lambda parts: with_keys(parts, "ab"), "its list of storages does not fit its tensors"),
        (lambda parts: with_keys(parts, ["a", 1]), "its list of storages does not fit"),
        (lambda parts: with_keys(parts, ["a", "c"]), "its list of storages does not fit"),
        (lambda parts: with_keys(parts, ["a", "a"]), "its list of storages does not fit"),
        (lambda parts: with_keys(parts, ["a", "b", "b"]), "its list of storages does not fit"),
        (lambda parts: [*with_keys(parts, ["a"])[:-1]], "tensor 'b': the file has no storage 'b'"),
        (lambda parts: with_keys(parts, ["b", "a"]), "storage 'a' ends at"),
        (lambda parts: [*parts, b"x"], "its storages end at 449, the file at 450;"),
        (lambda parts: [*parts[:-1], b"\2" + parts[-1][1:-2]], "3 numbers of f16 cannot be 4 bytes"),
        (lambda parts: [*parts[:-1], b"\xff" * 8 + parts[-1][8:]], "storage 'b' ends at 36893488147419103"),
        (lambda parts: parts[:5], "ends before byte"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(tmp_path / "x.bin", change(file_parts()))
    refusal(tmp_path / "x.bin", change(file_parts()))


def with_keys(parts: list[bytes], keys: object) -> list[bytes]:
    return [*parts[:4], pickle.dumps(keys, 2), *parts[5:]]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("place", range(5))
def test_no_pickle_runs_anything(tmp_path: Path, place: int, protocol: int) -> None:
    witness = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (witness,))

    parts = file_parts(protocol)
    parts[place] = pickle.dumps({"w": Attack()}, protocol)
    assert "refused, it wants " in refusal(tmp_path / "x.bin", parts)
    assert not witness.exists()


def test_cut_anywhere(tmp_path: Path) -> None:
    whole = b"".join(file_parts(4))
    for size in range(len(whole)):
        refusal(tmp_path / "x.bin", [whole[:size]])


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    parts = file_parts()
    tensors = read(tmp_path / "x.bin", parts)
    (tmp_path / "x.bin").write_bytes(b"".join(parts)[:-1])
    with pytest.raises(FormatError, match="within a tensor"):
        tensors["b"].read(0, 1)


def test_a_pickle_longer_than_any_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggufpy.checkpoint.torch_legacy.MAX_PICKLE_BYTES", 200)
    assert "no end within 200 bytes" in refusal(tmp_path / "x.bin", file_parts())


def test_more_arguments_than_a_function_has(tmp_path: Path) -> None:
    """A tuple of a million would be copied by each of a million calls."""
    parts = file_parts()
    parts[3] = b"\x80\x02ctorch._utils\n_rebuild_parameter\n(" + b"N" * 8 + b"tR."
    assert "8 were given" in refusal(tmp_path / "x.bin", parts)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), protocol=st.sampled_from([2, 4]))
def test_damaged_files(tmp_path: Path, protocol: int, data: st.DataObject) -> None:
    """Whatever was done to the pickles, or to the counts: tensors within the file, or one line."""
    parts = file_parts(protocol)
    for _ in range(data.draw(st.integers(1, 4))):
        parts = damaged(parts, data.draw)
    path = tmp_path / "x.bin"
    try:
        for source in read(path, parts).values():
            assert source.read(0, source.rows).nbytes <= path.stat().st_size
    except FormatError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 600


def damaged(parts: list[bytes], draw: Callable[..., Any]) -> list[bytes]:
    which = draw(st.integers(0, len(parts) - 1))
    part = bytearray(parts[which])
    at, end = (draw(st.integers(0, len(part))) for _ in range(2))
    match draw(st.sampled_from(CHANGES)):
        case "set":
            part[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        case "insert":
            part[at:at] = draw(st.binary(max_size=12))
        case "cut":
            del part[at:end]
        case "repeat":
            part[at:at] = part[at:end] * draw(st.integers(1, 3))
    return [*parts[:which], bytes(part), *parts[which + 1 :]]
