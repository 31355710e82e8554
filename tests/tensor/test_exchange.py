"""Arrays in and out: in place where memory allows it, copied where it does not, refused where nothing helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from portkit.errors import DeviceLost, DTypeError
from portkit.runtime.buffers import aligned
from portkit.runtime.devices import open_device
from portkit.tensor import Tensor, from_dlpack, from_numpy
from portkit.tensor.exchange import HOST

TRAVELLING = ["bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f16", "f32", "f64"]


def ramp(count: int = 6) -> np.ndarray[Any, Any]:
    array = aligned((count,), np.float32)
    array[:] = np.arange(count)
    return array


def address(array: np.ndarray[Any, Any]) -> int:
    return array.ctypes.data


class Old:
    """An array library that speaks the first, unversioned DLPack."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **asked: Any) -> Any:
        return self.tensor.__dlpack__(copy=asked.get("copy"))

    def __dlpack_device__(self) -> tuple[int, int]:
        return HOST


@pytest.mark.parametrize("dtype", TRAVELLING)
def test_elements_of_every_dtype_travel_both_ways(dtype: str) -> None:
    tensor = Tensor([0, 1, 1, 0]).cast(dtype)
    outside = np.from_dlpack(tensor)
    assert outside.dtype == tensor.numpy().dtype
    assert outside.tolist() == tensor.tolist()
    assert from_dlpack(outside).dtype is tensor.dtype
    assert (from_dlpack(outside) * 1 if dtype != "bool" else from_dlpack(outside)).tolist() == tensor.tolist()


@pytest.mark.parametrize("dtype", ["bf16", "f8e4m3fn", "f8e5m2"])
def test_formats_that_numpy_lacks_are_refused_and_travel_as_bits(dtype: str) -> None:
    tensor = Tensor([1.0, -2.0]).cast(dtype)
    bits = f"u{tensor.dtype.bits}"
    with pytest.raises(DTypeError, match=f"bitcast to {bits}"):
        np.from_dlpack(tensor)
    assert from_dlpack(np.from_dlpack(tensor.bitcast(bits))).bitcast(dtype).tolist() == [1.0, -2.0]


def test_a_result_is_handed_out_in_place_and_read_only() -> None:
    tensor = (from_numpy(ramp()) + 1).realize()
    outside, again = np.from_dlpack(tensor), np.asarray(tensor, copy=False)
    assert address(outside) == address(again)
    assert not outside.flags.writeable
    assert not again.flags.writeable
    assert address(np.from_dlpack(tensor, copy=True)) != address(outside)


def test_who_speaks_the_first_version_gets_a_copy() -> None:
    tensor = (from_numpy(ramp()) + 1).realize()
    outside = np.from_dlpack(Old(tensor))
    assert outside.tolist() == tensor.tolist()
    assert address(outside) != address(np.asarray(tensor, copy=False))
    with pytest.raises(BufferError):
        np.from_dlpack(Old(tensor), copy=False)


@pytest.mark.parametrize("take", [from_numpy, from_dlpack])
def test_an_aligned_array_is_used_in_place(take: Any) -> None:
    array = ramp()
    tensor = take(array)
    assert (tensor * 2).tolist() == [0, 2, 4, 6, 8, 10]
    assert address(np.asarray(tensor, copy=False)) == address(array)


@pytest.mark.parametrize("array", [ramp(7)[1:], ramp(12)[::2], ramp()[::-1]], ids=["misaligned", "strided", "reversed"])
def test_an_array_that_cannot_be_used_in_place_is_copied(array: np.ndarray[Any, Any]) -> None:
    assert (from_numpy(array) + 1).tolist() == (array + 1).tolist()


def test_a_tensor_from_an_array_outlives_its_names() -> None:
    tensor = from_numpy(ramp())
    view = np.asarray((tensor + 0).realize(), copy=False)
    del tensor
    assert view.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_device_or_stream_that_is_not_the_hosts_is_refused() -> None:
    tensor = Tensor([1.0])
    assert tensor.__dlpack_device__() == HOST
    with pytest.raises(BufferError, match="memory of the host"):
        tensor.__dlpack__(dl_device=(2, 0))


def test_what_is_no_array_of_the_host_is_refused() -> None:
    class Elsewhere:
        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("on another device")

        def __dlpack_device__(self) -> tuple[int, int]:
            return HOST

    with pytest.raises(DTypeError, match="on another device; the array must be the host's"):
        from_dlpack(Elsewhere())


def test_data_given_to_the_class_are_copied() -> None:
    array = ramp()
    tensor = Tensor(array)
    array[:] = 9
    assert tensor.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_tensor_of_a_device_that_was_closed_says_so() -> None:
    name = "tests.runtime.programs:PLAIN"
    with open_device(name):
        kept = (Tensor([1.0], device=name) + 1).realize()
    with open_device(name), pytest.raises(DeviceLost, match="closed; open it again"):
        (kept + 1).realize()
