"""Safetensors files: what is written is read back, and what does not fit the format is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.errors import SchemaError, UsageError
from portkit.spec.types import DTYPES, DType
from portkit.tensor import safetensors


def file_of(path: Path, header: Any, contents: bytes = b"", *, length: int | None = None) -> Path:
    """Write a file with any header, fitting or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    place = path / "hostile.safetensors"
    place.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + contents)
    return place


def entry(dtype: str = "F32", shape: list[Any] | None = None, offsets: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [2] if shape is None else shape, "data_offsets": offsets or [0, 8]}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_arrays_of_every_dtype_are_read_back_bit_for_bit(tmp_path: Path, dtype: DType) -> None:
    bits = np.arange(12 * dtype.bytes, dtype=np.uint8) % (2 if dtype.name == "bool" else 251)
    array = bits.view(dtype.numpy).reshape(3, 4)
    safetensors.write({"x": array}, tmp_path / "file")
    arrays, _ = safetensors.read(tmp_path / "file")
    assert arrays["x"].dtype == array.dtype
    assert arrays["x"].shape == (3, 4)
    assert arrays["x"].tobytes() == array.tobytes()


def test_scalars_empty_arrays_and_transposed_ones_are_read_back(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "s": np.array(3, np.float32),
        "e": np.zeros((0, 3), np.int8),
        "t": np.arange(6.0).reshape(2, 3).T,
    }
    safetensors.write(arrays, tmp_path / "file")
    found, _ = safetensors.read(tmp_path / "file")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_tensors_are_read_from_their_offsets_whatever_the_order_of_the_header(tmp_path: Path) -> None:
    header = {"late": entry("U8", [1], [1, 2]), "early": entry("U8", [1], [0, 1])}
    found, _ = safetensors.read(file_of(tmp_path, header, b"\5\6"))
    assert [(name, int(a[0])) for name, a in found.items()] == [("late", 6), ("early", 5)]


def test_metadata_is_read_back(tmp_path: Path) -> None:
    safetensors.write({}, tmp_path / "file", metadata={"format": "np"})
    assert safetensors.read(tmp_path / "file") == ({}, {"format": "np"})


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    safetensors.write({"b": np.array([7], np.uint8), "a": np.array([1.0], np.float32)}, tmp_path / "file")
    raw = (tmp_path / "file").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert json.loads(raw[8 : 8 + length]) == {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "b": {"dtype": "U8", "shape": [1], "data_offsets": [4, 5]},
    }
    assert length % 8 == 0
    assert raw[8 + length :] == b"\x00\x00\x80\x3f\x07"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    safetensors.write({"x": np.ones(2)}, tmp_path / "file")
    with pytest.raises(UsageError, match="reserved"):
        safetensors.write({"__metadata__": np.ones(2)}, tmp_path / "file")
    with pytest.raises(UsageError, match="cannot write"):
        safetensors.write({"x": np.ones(2)}, tmp_path / "missing" / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    np.testing.assert_array_equal(safetensors.read(tmp_path / "file")[0]["x"], np.ones(2))


def test_a_write_that_cannot_take_its_place_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        safetensors.write({"x": np.ones(2)}, tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        safetensors.read(tmp_path / "none")


BAD_HEADERS: dict[str, tuple[Any, bytes, str]] = {
    "no object": ([], b"", "no JSON object"),
    "blank first": (b" {}", b"", "no JSON object"),
    "cut JSON": (b'{"x": ', b"", "does not fit the format"),
    "no UTF-8": (b'{"\xff": 1}', b"", "does not fit the format"),
    "deep": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", "does not fit the format"),
    "entry of another type": ({"x": 3}, b"", "does not fit the format"),
    "missing field": ({"x": {"dtype": "F32", "shape": [2]}}, b"\0" * 8, "does not fit the format"),
    "unknown field": ({"x": {**entry(), "code": "x"}}, b"\0" * 8, "does not fit the format"),
    "metadata of another type": ({"__metadata__": {"x": 3}}, b"", "does not fit the format"),
    "fractional extent": ({"x": entry(shape=[2.5])}, b"\0" * 8, "does not fit the format"),
    "negative extent": ({"x": entry(shape=[-2])}, b"\0" * 8, "does not fit the format"),
    "negative offset": ({"x": entry(offsets=[-8, 0])}, b"\0" * 8, "does not fit the format"),
    "too many axes": ({"x": entry(shape=[1] * 65, offsets=[0, 4])}, b"\0" * 4, "does not fit the format"),
    "unknown dtype": ({"x": entry(dtype="F31")}, b"\0" * 8, "unknown dtype 'F31'; did you mean"),
    "offsets the wrong way": ({"x": entry(shape=[0], offsets=[8, 0])}, b"\0" * 8, "its offsets are 8..0"),
    "offsets too short": ({"x": entry(offsets=[0, 4])}, b"\0" * 4, "8 bytes, but its offsets are 0..4"),
    "past the end": ({"x": entry()}, b"\0" * 7, "the tensors end at 8, the contents at 7"),
    "bytes left over": ({"x": entry()}, b"\0" * 9, "the tensors end at 8, the contents at 9"),
    "a hole": ({"x": entry(offsets=[4, 12])}, b"\0" * 12, "leaves a hole after the header"),
    "an overlap": ({"x": entry(), "y": entry(offsets=[4, 12])}, b"\0" * 12, "'y' at 4..12 overlaps 'x'"),
    "a huge shape of nothing": ({"x": entry(shape=[0, 2**62, 8], offsets=[0, 0])}, b"", "extents beyond"),
    "a bool of 2": ({"x": entry("BOOL", [1], [0, 1])}, b"\2", "only 0 and 1"),
    "a name twice": (b'{"x":%s,"x":%s}' % ((json.dumps(entry()).encode(),) * 2), b"\0" * 8, "names 'x' twice"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    header, contents, message = BAD_HEADERS[case]
    with pytest.raises(SchemaError, match=message):
        safetensors.read(file_of(tmp_path, header, contents))


@pytest.mark.parametrize("length", [3, 2**40, 2**64 - 1])
def test_a_header_length_beyond_the_file_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(SchemaError, match=r"cut short|does not fit the format"):
        safetensors.read(file_of(tmp_path, {"x": entry()}, b"", length=length))


def test_a_file_too_short_for_a_header_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\0\0\0")
    with pytest.raises(SchemaError, match="cut short"):
        safetensors.read(tmp_path / "short")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_file_changed_anywhere_is_read_or_refused_but_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.getbasetemp() / "changed.safetensors"
    safetensors.write({"x": np.arange(3, dtype=np.int16), "flag": np.array([True])}, place, metadata={"a": "b"})
    raw = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    place.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        arrays, _ = safetensors.read(place)
    except SchemaError:
        return
    assert sum(a.nbytes for a in arrays.values()) <= len(raw)
