"""Trial files: what is written is read back bit for bit, a person can read it, and hostile files are refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from portkit.conformance import trialfile
from portkit.conformance.case import Trial
from portkit.conformance.trialfile import SavedTrial, decode_trial, encode_trial, is_trial, load_trial, save_trial
from portkit.errors import PortkitError, SchemaError, SpecError, UsageError
from portkit.spec.jsonform import to_json
from portkit.spec.text import parse

KERNEL = """portkit 1.0-draft
kernel scale
buffer x f32[n] read
buffer y f32[n] write
scalar n i32
scalar a f32
begin
i = loop.grid n
l = loop.lane 1
v = load x i
p = mul a v
store y i p
endloop l
endloop i
"""
NUMPY = {
    "f32": np.float32,
    "f64": np.float64,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8e5m2": ml_dtypes.float8_e5m2,
    "i8": np.int8,
    "u16": np.uint16,
    "i64": np.int64,
}


def trial(extent: int = 3, a: float = 0.1) -> Trial:
    x = np.array([-0.0, 1e-45, np.nan] * extent, np.float32)[:extent]
    return Trial(parse(KERNEL), {"n": extent, "a": float(np.float32(a))}, {"x": x})


def content(**changes: Any) -> bytes:
    """Return a trial file with some fields changed; None leaves a field out."""
    record = {**json.loads(encode_trial(SavedTrial(trial()))), **changes}
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode()


# --- there and back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [1, 3, 256, 257, 5000])
def test_what_is_written_is_read_back(extent: int) -> None:
    saved = SavedTrial(trial(extent), "ops/mul/f32/random", "fail: y[0] is wrong", "seen on Monday")
    found = decode_trial(encode_trial(saved))
    assert found.trial.kernel == saved.trial.kernel
    assert found.trial.scalars == saved.trial.scalars
    assert found.trial.inputs["x"].tobytes() == saved.trial.inputs["x"].tobytes()
    assert (found.case, found.expected, found.note) == (saved.case, saved.expected, saved.note)


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("extent", [4, 400])
def test_every_bit_of_every_dtype_survives(dtype: str, extent: int) -> None:
    numpy = np.dtype(NUMPY[dtype])
    kernel = parse(f"portkit 1.0-draft\nkernel k\nbuffer x {dtype}[{extent}] read\nbegin\n" + NEST)
    raw = np.arange(extent * numpy.itemsize, dtype=np.uint64).astype(np.uint8)
    array = (raw * 37).view(numpy)
    found = decode_trial(encode_trial(SavedTrial(Trial(kernel, {}, {"x": array}))))
    assert found.trial.inputs["x"].dtype == numpy
    assert found.trial.inputs["x"].tobytes() == array.tobytes()


NEST = "i = loop.grid 1\nl = loop.lane 1\nendloop l\nendloop i\n"


@pytest.mark.parametrize("a", [0.0, -0.0, float("inf"), 1e-45, 3.14])
def test_a_float_scalar_keeps_its_bits(a: float) -> None:
    found = decode_trial(encode_trial(SavedTrial(trial(a=a)))).trial.scalars["a"]
    assert np.float32(found).tobytes() == np.float32(a).tobytes()


def test_the_kernel_is_a_list_of_lines_and_elements_are_spelt_out() -> None:
    record = json.loads(encode_trial(SavedTrial(trial())))
    assert record["kernel"][:2] == ["portkit 1.0-draft", "kernel scale"]
    assert record["buffers"]["x"]["bits"] == "80000000 00000001 7fc00000"
    assert record["scalars"] == {"n": 3, "a": "0x3dcccccd"}


def test_a_launch_for_the_guards_alone_stays_one() -> None:
    given = Trial(parse(KERNEL), trial().scalars, trial().inputs, device_check_only=True)
    assert decode_trial(encode_trial(SavedTrial(given))).trial.device_check_only


def test_a_buffer_that_is_written_may_have_no_contents() -> None:
    kernel = parse(f"portkit 1.0-draft\nkernel k\nbuffer x i32[4] readwrite\nbegin\n{NEST}")
    assert decode_trial(encode_trial(SavedTrial(Trial(kernel, {}, {})))).trial.inputs == {}


def test_a_file_is_written_into_a_new_folder_and_nothing_else_is_left_there(tmp_path: Path) -> None:
    path = save_trial(tmp_path / "new" / "a.trial.json", SavedTrial(trial()))
    assert [p.name for p in path.parent.iterdir()] == ["a.trial.json"]
    assert load_trial(path).trial.kernel == trial().kernel


def test_where_nothing_can_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        save_trial(tmp_path / "file" / "a.trial.json", SavedTrial(trial()))


def test_a_trial_is_told_from_a_kernel() -> None:
    assert is_trial(content())
    assert not any(map(is_trial, (to_json(trial().kernel), KERNEL.encode(), b"", b"[" * 100_000, b"\xff", b"7")))


# --- hostile files ------------------------------------------------------------------------------------------------


def buffer(**changes: Any) -> dict[str, Any]:
    whole = {"dtype": "f32", "extent": 3, "bits": "00000000 00000001 00000002", **changes}
    return {"x": {name: value for name, value in whole.items() if value is not None}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another format": ({"format": "zip"}, "not a trial file"),
    "a later version": ({"version": 2}, "not a trial file"),
    "an unknown field": ({"extra": 1}, "unknown field `extra`"),
    "an unknown field of a buffer": ({"buffers": buffer(extra=1)}, "unknown field `extra`"),
    "no kernel": ({"kernel": None}, "missing required field `kernel`"),
    "a kernel that is a text": ({"kernel": KERNEL}, "Expected `array`"),
    "a missing scalar": ({"scalars": {"n": 3}}, "the scalars lack a"),
    "an unknown scalar": ({"scalars": {"n": 3, "a": "0x00000000", "m": 1}}, "no 'm'"),
    "a float scalar as a number": ({"scalars": {"n": 3, "a": 1}}, "scalar a is f32, give a bit pattern"),
    "an integer scalar as bits": ({"scalars": {"n": "0x00000003", "a": "0x00000000"}}, "scalar n is i32"),
    "a bit pattern that is none": ({"scalars": {"n": 3, "a": "0x3f80"}}, "not a trial file"),
    "a scalar out of range": ({"scalars": {"n": 2**31, "a": "0x00000000"}}, "does not fit i32"),
    "a negative extent": ({"scalars": {"n": -1, "a": "0x00000000"}}, "has the extent -1"),
    "extents without end": ({"scalars": {"n": 2**31 - 1, "a": "0x00000000"}}, "bytes together, more than"),
    "a missing buffer": ({"buffers": {}}, "the buffers lack x"),
    "an unknown buffer": ({"buffers": {**buffer(), "z": buffer()["x"]}}, "no 'z'"),
    "another dtype": ({"buffers": buffer(dtype="i32")}, "declares 3 x f32, the file has 3 x i32"),
    "another extent": ({"buffers": buffer(extent=4)}, "declares 3 x f32, the file has 4 x f32"),
    "too few elements": ({"buffers": buffer(bits="00000000")}, "4 bytes are not the 12"),
    "no contents": ({"buffers": buffer(bits=None)}, "0 bytes are not the 12"),
    "both ways": ({"buffers": buffer(base64="AAAA")}, "both bits and base64"),
    "short digits": ({"buffers": buffer(bits="0 1 2")}, "8 hexadecimal digits"),
    "digits that are none": ({"buffers": buffer(bits="0000000g " * 3)}, "not hexadecimal"),
    "base64 that is none": ({"buffers": buffer(bits=None, base64="???")}, "not base64"),
    "base64 of another length": (
        {"buffers": buffer(bits=None, base64=base64.b64encode(bytes(8)).decode())},
        "8 bytes are not the 12",
    ),
    "a case with blanks": ({"case": "a b"}, "not a trial file"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_with_the_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError) as refused:
        decode_trial(content(**changes), "a.trial.json")
    assert message in str(refused.value)
    assert str(refused.value).startswith("a.trial.json: ")


@pytest.mark.parametrize("kernel", [[], ["hello"], KERNEL.replace("mul a v", "mul n v").splitlines()])
def test_a_kernel_that_is_none_is_refused_by_the_spec(kernel: list[str]) -> None:
    with pytest.raises(SpecError):
        decode_trial(content(kernel=kernel))


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "not text": lambda data: b"\xff\xfe" + data,
    "nested": lambda data: b'{"format":' + b"[" * 200_000,
    "a list": lambda data: b"[" + data + b"]",
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_not_json_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(SchemaError, match="not a trial file of version 1"):
        decode_trial(change(content()))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_trial(tmp_path / "a.trial.json", SavedTrial(trial()))
    monkeypatch.setattr(trialfile, "MAX_FILE_BYTES", 100)
    with pytest.raises(SchemaError, match="larger than 100 bytes"):
        load_trial(path)


def test_bytes_changed_at_random_are_refused_or_read() -> None:
    whole = content()
    numbers = np.random.default_rng(7)
    for _ in range(300):
        data = bytearray(whole)
        data[int(numbers.integers(len(data)))] = int(numbers.integers(256))
        try:
            decode_trial(bytes(data))
        except PortkitError:
            continue
