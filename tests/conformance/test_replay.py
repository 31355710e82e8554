"""One kernel from a file: what is read, what is filled in, what is refused, and what a run alone and a verdict give."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from portkit.conformance import replay
from portkit.conformance.card import Card, render, replay_line
from portkit.conformance.case import Case, Level, Tier
from portkit.conformance.verdict import Verdict
from portkit.errors import InvalidKernelError, ParseError, SchemaError, SpecError, UsageError, VerifyError
from portkit.runtime.client import DeviceClient
from portkit.spec.jsonform import to_json
from portkit.spec.kernel import Kernel
from portkit.spec.text import parse

AXPY = """portkit 1.0-draft
kernel axpy
buffer x f32[n] read
buffer y f32[n] readwrite
scalar n i32
scalar a f32
begin
c32 = mov.const i32 32
i = loop.grid n
l = loop.lane 1
v = load x i
w = load y i
p = mul a v
s = add p w
store y i s
endloop l
endloop i
"""
RACE = """portkit 1.0-draft
kernel race
buffer y i32[n] write
scalar n i32
begin
c0 = mov.const i32 0
i = loop.grid 4
l = loop.lane 8
store y c0 l
endloop l
endloop i
"""
OUTSIDE = (
    RACE.replace("kernel race", "kernel outside")
    .replace("store y c0 l", "store y far l")
    .replace("c0 = mov.const i32 0", "far = mov.const i32 100000")
)


def kernel(text: str = AXPY) -> Kernel:
    return parse(text)


@pytest.fixture(scope="module")
def cpu() -> Iterator[DeviceClient]:
    with DeviceClient("cpu") as client:
        yield client


# --- kernels ------------------------------------------------------------------------------------------------------


def test_a_kernel_is_read_from_its_text_and_from_its_json(tmp_path: Path) -> None:
    (tmp_path / "a.pk").write_text(AXPY)
    (tmp_path / "a.json").write_bytes(to_json(kernel()))
    assert replay.load_kernel(tmp_path / "a.pk") == replay.load_kernel(tmp_path / "a.json") == kernel()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b"{}", b"[" * 9999, b"portkit 1.0-draft\nkernel x\n"])
def test_what_is_no_kernel_is_a_spec_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pk").write_bytes(content)
    with pytest.raises(SpecError):
        replay.load_kernel(tmp_path / "a.pk")


def test_a_kernel_that_breaks_a_rule_is_refused_with_its_clause(tmp_path: Path) -> None:
    (tmp_path / "a.pk").write_text(AXPY.replace("p = mul a v", "p = mul n v"))
    with pytest.raises((VerifyError, ParseError), match=r"mul|n"):
        replay.load_kernel(tmp_path / "a.pk")


@pytest.mark.parametrize("name", ["missing.pk", "."])
def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        replay.load_kernel(tmp_path / name)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.pk").write_text(AXPY)
    with pytest.raises(SchemaError, match="larger than 10 bytes"):
        replay.load_kernel(tmp_path / "a.pk")


# --- scalars ------------------------------------------------------------------------------------------------------


def test_scalars_that_are_not_given_have_defaults() -> None:
    assert replay.complete_scalars(kernel(), {}) == {"n": 256, "a": 1.0}


def test_scalars_are_read_as_their_dtype() -> None:
    assert replay.complete_scalars(kernel(), {"n": "0x10", "a": "-2.5e3"}) == {"n": 16, "a": -2500.0}


def test_an_unknown_scalar_is_refused_with_the_known_names() -> None:
    with pytest.raises(UsageError, match="kernel axpy has no scalar 'nn'; its scalars are n, a"):
        replay.complete_scalars(kernel(), {"nn": "1"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": "many"}, "not a number of dtype i32"),
        ({"n": "1.5"}, "not a number of dtype i32"),
        ({"n": "4294967296"}, "does not fit i32"),
        ({"n": "-2147483649"}, "does not fit i32"),
        ({"a": "x"}, "not a number of dtype f32"),
        ({"a": ""}, "not a number of dtype f32"),
    ],
)
def test_a_value_that_does_not_fit_its_scalar_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replay.complete_scalars(kernel(), given)


# --- inputs -------------------------------------------------------------------------------------------------------


def test_the_seed_fixes_the_inputs() -> None:
    first, again, other = (replay.make_inputs(kernel(), {"n": 9, "a": 1.0}, {}, seed) for seed in "aab")
    assert np.array_equal(first["x"], again["x"])
    assert not np.array_equal(first["x"], other["x"])
    assert not np.array_equal(first["x"], first["y"])


def test_random_integers_can_serve_as_indices() -> None:
    text = RACE.replace("buffer y i32[n] write", "buffer y i32[n] readwrite\nbuffer small i8[7] read")
    inputs = replay.make_inputs(parse(text), {"n": 100}, {}, "0")
    assert {int(v) for v in inputs["y"]} <= set(range(7))


def test_a_buffer_that_is_only_written_gets_no_input() -> None:
    assert replay.make_inputs(parse(RACE), {"n": 4}, {}, "0") == {}


def test_buffers_that_would_not_fit_into_memory_are_refused() -> None:
    with pytest.raises(UsageError, match="give smaller scalars with --set"):
        replay.make_inputs(kernel(), {"n": 2_000_000_000, "a": 1.0}, {}, "0")


def test_a_negative_extent_is_refused() -> None:
    with pytest.raises(UsageError, match=r"buffer x has the extent -1; give larger scalars"):
        replay.make_inputs(kernel(), {"n": -1, "a": 1.0}, {}, "0")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": np.zeros(4, np.float32)}, "has no buffer 'z'"),
        ({"x": np.zeros(5, np.float32)}, "buffer x is 4 x f32, the array given is 5 x float32"),
        ({"x": np.zeros(4, np.float64)}, "the array given is 4 x float64"),
        ({"x": np.zeros(4, "V4,V4")}, "buffer x is 4 x f32"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replay.make_inputs(kernel(), {"n": 4, "a": 1.0}, given, "0")


@pytest.mark.parametrize("dtype", [np.float32, np.int8, ml_dtypes.bfloat16, np.float16])
def test_what_is_saved_can_be_given_again(tmp_path: Path, dtype: Any) -> None:
    name = {np.float32: "f32", np.int8: "i8", np.float16: "f16"}.get(dtype, "bf16")
    numbers = np.arange(4).astype(dtype)
    replay.save_outputs(tmp_path / "x.npz", {"x": numbers})
    found = replay.load_inputs(tmp_path / "x.npz")
    text = f"portkit 1.0-draft\nkernel k\nbuffer x {name}[4] read\nbegin\n"
    fitting = replay.make_inputs(parse(text), {}, found, "0")["x"]
    assert fitting.dtype == numbers.dtype
    assert fitting.tobytes() == numbers.tobytes()


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args"])
def test_a_buffer_may_be_called_like_a_parameter_of_numpy(tmp_path: Path, name: str) -> None:
    replay.save_outputs(tmp_path / "x.npz", {name: np.zeros(2)})
    assert list(replay.load_inputs(tmp_path / "x.npz")) == [name]


def archive(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(f"{name}.npy", data)
    return content.getvalue()


def npy(array: Any, *, pickle: bool = False) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=pickle)
    return content.getvalue()


BAD_ARCHIVES = {
    "empty": b"",
    "text": b"hello",
    "a single array": npy(np.zeros(3)),
    "pickled objects": archive(x=npy(np.array([{}], object), pickle=True)),
    "a pickle": b"\x80\x04]\x94.",
    "a member that is no array": archive(x=b"hello"),
    "a torn array": archive(x=npy(np.zeros(100))[:-50]),
    "a torn archive": archive(x=npy(np.zeros(100)))[:-30],
    "a header that lies": archive(x=npy(np.zeros(4)).replace(b"(4,)", b"(9" + b"9" * 15 + b",)")),
    "a header that is code": archive(x=b"\x93NUMPY\x01\x00\x10\x00__import__('os')\n"),
}


@pytest.mark.parametrize("content", BAD_ARCHIVES.values(), ids=BAD_ARCHIVES.keys())
def test_what_is_no_archive_of_arrays_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"not a \.npz file|is not an array"):
        replay.load_inputs(tmp_path / "x.npz")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_BUFFER_BYTES", 1000)
    (tmp_path / "x.npz").write_bytes(archive(x=npy(np.zeros(10_000))))
    with pytest.raises(UsageError, match="unpacks to 80128 bytes, more than 1000"):
        replay.load_inputs(tmp_path / "x.npz")


def test_saving_where_nothing_can_be_written_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        replay.save_outputs(tmp_path / "missing" / "x.npz", {"x": np.zeros(1)})


# --- running ------------------------------------------------------------------------------------------------------


def test_a_kernel_run_alone_gives_its_buffers(cpu: DeviceClient) -> None:
    inputs = {"x": np.array([1, 2, 3], np.float32), "y": np.array([10, 20, 30], np.float32)}
    ran = replay.run_alone(kernel(), {"n": 3, "a": 2.0}, inputs, cpu)
    assert ran.outputs["y"].tolist() == [12.0, 24.0, 36.0]
    assert "define" in ran.source


def test_a_kernel_run_alone_cannot_write_outside_its_buffers(cpu: DeviceClient) -> None:
    with pytest.raises(InvalidKernelError, match=r"`store y far l` accesses memory outside"):
        replay.run_alone(parse(OUTSIDE), {"n": 4}, {}, cpu)


def test_a_kernel_that_is_right_passes_against_the_reference(cpu: DeviceClient) -> None:
    scalars = {"n": 50, "a": 3.0}
    entry = replay.run_against_reference(kernel(), scalars, replay.make_inputs(kernel(), scalars, {}, "0"), cpu)
    assert (entry.verdict, entry.elements) == (Verdict.PASS, 50)


def test_a_race_is_the_kernels_fault_and_not_a_verdict(cpu: DeviceClient) -> None:
    with pytest.raises(InvalidKernelError, match=r"valid_c"):
        replay.run_against_reference(parse(RACE), {"n": 4}, {}, cpu)


def test_a_kernel_that_needs_more_than_is_declared_is_refused() -> None:
    text = AXPY.replace("w = load y i", "w = load y i\nr = mov.sqrt v")
    with (
        DeviceClient("tests.fakes.devices:GOOD") as client,
        pytest.raises(UsageError, match=r"does not declare what kernel axpy needs: extension math"),
    ):
        replay.run_alone(parse(text), {"n": 4, "a": 1.0}, {}, client)


def test_the_card_of_a_launch_from_a_file_names_no_case_of_the_suite() -> None:
    case = Case("run/mine", Level.KERNELS, Tier.FULL)
    assert replay_line("cpu", case) == ""
    assert "replay" not in render(Card(suspect="add", replay=""))


@pytest.mark.parametrize("content", ["", "[]", "null", '{"format": "portkit-trial"', "NaN"])
def test_a_trial_file_without_a_trial_in_it_is_called_so(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.trial.json"
    file.write_text(content)
    with pytest.raises(SchemaError, match="not a trial file"):
        replay.load(file)
