"""What device checks share: buffers are given back, and a crash is never taken for something else."""

from __future__ import annotations

from typing import Any, cast

import pytest

from portkit.conformance.case import CheckFailed
from portkit.conformance.cases.session import buffers, expect_error
from portkit.errors import DeviceError, DeviceHang, DeviceLost, InvalidHandle
from portkit.runtime.client import DeviceClient


class Memory:
    """Hands out handles; `live` are those not given back."""

    def __init__(self) -> None:
        self.live: set[int] = set()

    def allocate(self, size: int) -> int:
        self.live.add(size)
        return size

    def free(self, handle: int) -> None:
        if handle not in self.live:
            raise InvalidHandle(f"buffer {handle}")
        self.live.remove(handle)


def session(*sizes: int) -> tuple[Memory, Any]:
    memory = Memory()
    return memory, buffers(cast("DeviceClient", memory), list(sizes))


@pytest.fixture(params=[DeviceLost, DeviceHang])
def gone(request: pytest.FixtureRequest) -> Exception:
    return request.param("the process has ended")


def raiser(error: Exception) -> Any:
    def action() -> None:
        raise error

    return action


def lose(memory: Memory, error: Exception) -> None:
    """Fail at a time when the buffers are gone already."""
    memory.live.clear()
    raise error


def test_buffers_are_freed_after_a_check_that_failed() -> None:
    memory, opened = session(1, 2)
    with pytest.raises(CheckFailed), opened:
        raise CheckFailed("wrong")
    assert memory.live == set()


def test_the_end_of_the_device_process_is_not_hidden_by_freeing(gone: Exception) -> None:
    memory, opened = session(1)
    with pytest.raises(type(gone)), opened:
        lose(memory, gone)


def test_a_failed_check_is_not_hidden_by_freeing() -> None:
    memory, opened = session(1)
    with pytest.raises(CheckFailed, match="wrong"), opened:
        lose(memory, CheckFailed("wrong"))


def test_a_buffer_that_cannot_be_freed_fails_a_check_that_passed() -> None:
    memory, opened = session(1)
    with pytest.raises(InvalidHandle), opened:
        memory.live.clear()


def test_the_end_of_the_device_process_is_not_the_error_that_was_expected(gone: Exception) -> None:
    with pytest.raises(type(gone)):
        expect_error(DeviceError, "allocating -1 bytes", raiser(gone))


def test_an_expected_error_is_taken() -> None:
    expect_error(DeviceError, "allocating -1 bytes", raiser(DeviceError("no")))
