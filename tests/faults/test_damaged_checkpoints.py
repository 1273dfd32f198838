"""Checkpoints with anything anywhere in headers, tensors and vocabularies: a file, or one line of ours."""

import json
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import folder_with_config, save_safetensors, some_tensors, write_safetensors
from tiny_checkpoints import models
from tiny_tokenizers import converted, sentencepiece_model, write_checkpoint

from ggufpy.checkpoint.checkpoint import Checkpoint
from ggufpy.checkpoint.safetensors import read_safetensors
from ggufpy.convert.pipeline import convert_checkpoint
from ggufpy.errors import FormatError, GgufpyError
from ggufpy.tokenizers.charsmap import SCHEMA

Draw = Any
Part = tuple[str, list[int], bytes]  # dtype, shape, data


def examples(count: int) -> settings:
    """So many, in one folder."""
    one_folder = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, suppress_health_check=one_folder)


NUMBERS = st.integers() | st.sampled_from([0, 1, 24, -1, 1 << 31, 1 << 62, 1 << 63, 1 << 64, 10**400])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
).map(json.dumps) | st.sampled_from(mutations.VALUES)


@contextmanager
def one_line() -> Iterator[None]:
    """Within the block an error of ours may be raised, with a message of one line."""
    try:
        yield
    except GgufpyError as error:
        assert "\n" not in str(error) and len(str(error)) < 4000


# ---- headers


@examples(200)
@given(data=st.data())
def test_anything_in_a_header(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors(path, some_tensors())
    header, body = opened(path.read_bytes())
    text = changed_header(data.draw, header).encode(errors="replace")
    size = data.draw(st.just(len(text)) | st.integers(0, len(text) + 9) | st.integers(0, (1 << 64) - 1))
    body = body[: data.draw(st.just(len(body)) | st.integers(0, len(body)))]
    path.write_bytes(struct.pack("<Q", size) + text + body)
    with one_line():
        tensors = read_safetensors(path).values()
        assert sum(tensor.n_bytes for tensor in tensors) == path.stat().st_size - 8 - size
        for tensor in tensors:
            assert tensor.n_bytes == 0 or tensor.read(0, tensor.rows).nbytes == tensor.n_bytes


def changed_header(draw: Draw, header: dict[str, Any]) -> str:
    """Its text with another value in one place, sizes that still fit, another name, or characters put in."""
    name = draw(st.sampled_from([key for key in header if key != "__metadata__"]))
    match draw(st.sampled_from(["value", "shape", "name", "text"])):
        case "value":
            place = draw(st.sampled_from(list(mutations.places(header))))
            return mutations.replaced(header, place, draw(JSON))
        case "shape":
            header[name]["shape"] = draw(st.lists(NUMBERS | st.integers(0, 8), max_size=9))
        case "name":
            header[draw(st.text())] = header.pop(name)
    text = json.dumps(header)
    at = draw(st.integers(0, len(text)))
    inserted: str = draw(st.sampled_from(["", "", "[", "}", "\\", "\0", "\ud800", "1" * 5000]))
    return text[:at] + inserted + text[at:]


@pytest.mark.parametrize("name", ["", "two\nlines", "\x1b[31m", "\u2028", "x" * 257])
def test_names_that_no_message_could_show(tmp_path: Path, name: str) -> None:
    path = folder_with_config(tmp_path) / "model.safetensors"
    save_safetensors(path, {name: np.zeros(2, np.float32)})
    if name:
        with pytest.raises(FormatError, match="no tensor can be called ") as error:
            Checkpoint.open(tmp_path)
        assert "\n" not in str(error.value)
        write_safetensors(path, {name: {}}, b"")
        with pytest.raises(FormatError, match="needs dtype, shape") as error:
            Checkpoint.open(tmp_path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400
    else:
        assert len(Checkpoint.open(tmp_path).tensors) == 1


# ---- tensors

MODELS = {model.name: model for model in models() if not model.case}
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
DIMENSIONS = st.sampled_from([0, 1, 2, 3, 64, 1 << 31, 1 << 62])


Written = Callable[[str], tuple[Path, bytes]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The file of weights of an architecture's checkpoint, and what is in it."""
    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def written(name: str) -> tuple[Path, bytes]:
        mutations.write(root / name, MODELS[name], "bytes")
        (root / name / "model.safetensors.index.json").unlink()
        path = root / name / "model-00001-of-00001.safetensors"
        return path, path.read_bytes()

    return written


@examples(60)
@given(data=st.data())
def test_tensors_of_any_shape_and_type(weights: Written, data: st.DataObject) -> None:
    path, whole = weights(data.draw(st.sampled_from(list(MODELS))))
    parts = parts_of(whole)
    names = data.draw(st.lists(st.sampled_from(list(parts)), min_size=1, max_size=4) | st.just(list(parts)))
    change = data.draw(st.sampled_from([other_type, other_shape, other_numbers]))
    for name in names:
        parts[name] = change(data.draw, *parts[name])
    write_parts(path, parts)
    outtype = data.draw(st.sampled_from(["auto", "q4_0", "q4_k_m"]))
    with one_line():
        convert_checkpoint(path.parent, path.with_name("out.gguf"), outtype=outtype)


@pytest.mark.parametrize("shape", [(0,), (0, 1 << 62), (1 << 62, 0), (1 << 31, 1 << 31, 0)])
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt-oss"])
def test_tensors_without_numbers(weights: Written, name: str, shape: tuple[int, ...]) -> None:
    path, whole = weights(name)
    write_parts(path, dict.fromkeys(parts_of(whole), ("F32", list(shape), b"")))
    with pytest.raises(FormatError, match=r"tensor '.*' has shape .*, no numbers; download it again"):
        convert_checkpoint(path.parent, path.with_name("out.gguf"))


def other_type(draw: Draw, dtype: str, shape: list[int], content: bytes) -> Part:
    dtype = draw(st.sampled_from(list(WIDTHS)))
    return dtype, shape, (content * 9)[: math.prod(shape) * WIDTHS[dtype]]


def other_shape(draw: Draw, dtype: str, shape: list[int], content: bytes) -> Part:
    size = math.prod(shape) * WIDTHS[dtype]
    drawn = draw(st.lists(DIMENSIONS, max_size=4))
    choices = [drawn, shape[::-1], [math.prod(shape)], [1, *shape]]
    shape = next(each for each in choices if math.prod(each) * WIDTHS[dtype] <= size)
    return dtype, shape, content[: math.prod(shape) * WIDTHS[dtype]]


def other_numbers(draw: Draw, dtype: str, shape: list[int], content: bytes) -> Part:
    return dtype, shape, draw(st.binary(min_size=1, max_size=1)) * len(content)


def opened(whole: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file."""
    (size,) = struct.unpack_from("<Q", whole)
    return json.loads(whole[8 : 8 + size]), whole[8 + size :]


def parts_of(whole: bytes) -> dict[str, Part]:
    header, body = opened(whole)
    header.pop("__metadata__")
    return {
        name: (fields["dtype"], fields["shape"], body[slice(*fields["data_offsets"])])
        for name, fields in header.items()
    }


def write_parts(path: Path, parts: dict[str, Part]) -> None:
    header: dict[str, object] = {}
    end = 0
    for name, (dtype, shape, content) in parts.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(content)]}
        end += len(content)
    write_safetensors(path, header, b"".join(content for _, _, content in parts.values()))


# ---- tokenizer.model

VOCABULARIES = (
    sentencepiece_model(vocab_size=340),
    sentencepiece_model(vocab_size=340, normalization_rule_name="nmt_nfkc"),
    sentencepiece_model(vocab_size=340, user_defined_symbols=["<x>", "\u2581y"]),
)
TEXTS = st.text(max_size=4) | st.sampled_from(
    ["", "\0", "a", "\u2581", "<0x41>", "<0xZZ>", "<unk>", "[PAD3]", "x" * 5000]
)


@examples(200)
@given(data=st.data())
def test_damaged_sentencepiece_models(tmp_path: Path, data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(VOCABULARIES))
    for _ in range(data.draw(st.integers(1, 3))):
        model = data.draw(st.sampled_from([other_bytes, other_pieces, other_settings]))(data.draw, model)
    write_checkpoint(tmp_path, model)
    with one_line():
        converted(tmp_path)


def other_bytes(draw: Draw, model: bytes) -> bytes:
    at, end = sorted(draw(st.integers(0, len(model))) for _ in range(2))
    new: bytes = draw(st.sampled_from([b"", model[at : at + 20] * 2]) | st.binary(min_size=1, max_size=8))
    rest = draw(st.sampled_from([at, end, at + len(new), len(model)]))
    return model[:at] + new + model[rest:]


def other_pieces(draw: Draw, data: bytes) -> bytes:
    model = parsed(data)
    pieces = model.pieces
    if not pieces:
        return data
    piece = pieces[draw(st.integers(0, len(pieces) - 1))]
    match draw(st.sampled_from(["piece", "score", "type", "remove", "repeat", "clear"])):
        case "piece":
            piece.piece = draw(TEXTS)
        case "score":
            piece.score = draw(st.floats(width=32))
        case "type":
            piece.type = draw(st.integers(1, 6))
        case "remove":
            pieces.remove(piece)
        case "repeat":
            pieces.add().CopyFrom(piece)
        case "clear":
            del pieces[:]
    result: bytes = model.SerializeToString()
    return result


def other_settings(draw: Draw, data: bytes) -> bytes:
    model = parsed(data)
    spec = draw(st.sampled_from([model.trainer_spec, model.normalizer_spec]))
    field = draw(st.sampled_from([field for field in spec.DESCRIPTOR.fields if not field.is_repeated]))
    kinds = {field.CPPTYPE_BOOL: st.booleans(), field.CPPTYPE_FLOAT: st.floats(width=32)}
    kinds |= {
        field.CPPTYPE_INT32: st.integers(-(1 << 31), (1 << 31) - 1),
        field.CPPTYPE_ENUM: st.integers(1, 4),
    }
    kinds |= {field.CPPTYPE_STRING: st.binary(max_size=40) if field.type == field.TYPE_BYTES else TEXTS}
    if field.cpp_type in kinds:
        setattr(spec, field.name, draw(kinds[field.cpp_type]))
    result: bytes = model.SerializeToString()
    return result


def parsed(data: bytes) -> Any:
    model = SCHEMA.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # of protobuf: what was damaged before
        return SCHEMA.ModelProto.FromString(VOCABULARIES[0])
    return model


@pytest.mark.parametrize("times", [1, 2])
def test_pieces_that_are_no_text(tmp_path: Path, times: int) -> None:
    """Twice the same piece is an error of the library, whose message is no text either."""
    model = parsed(VOCABULARIES[2])
    for _ in range(times):
        model.pieces.add(piece="\u2581z", type=4)
    data = model.SerializeToString().replace("\u2581z".encode(), b"\xe2\x96\xffz")
    write_checkpoint(tmp_path, data)
    with pytest.raises(FormatError, match=r"tokenizer\.model: "):
        converted(tmp_path)
