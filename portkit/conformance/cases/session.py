"""What device checks share: buffers that are always given back, expected errors, and a launch in one call."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from portkit.conformance.case import CheckFailed
from portkit.errors import DeviceHang, DeviceLost, PortkitError
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel

if TYPE_CHECKING:
    from portkit.runtime.client import DeviceClient

GONE = (DeviceHang, DeviceLost)
"""What a client raises when the device process has ended."""
SYNCHRONISE_SECONDS = 20.0
"""Time limit of a launch in a check; none of them computes for more than milliseconds."""


@contextmanager
def buffer(client: DeviceClient, size: int) -> Generator[int]:
    """Allocate `size` bytes and free them at the end."""
    with buffers(client, [size]) as handles:
        yield handles[0]


@contextmanager
def buffers(client: DeviceClient, sizes: list[int]) -> Generator[list[int]]:
    """Allocate one buffer per size and free all of them at the end; what went wrong before that is what counts."""
    handles = [client.allocate(size) for size in sizes]
    try:
        yield handles
    except GONE:
        raise  # the device process has ended, and every buffer with it
    except BaseException:
        with suppress(PortkitError):
            _free(client, handles)
        raise
    _free(client, handles)


def _free(client: DeviceClient, handles: list[int]) -> None:
    for handle in handles:
        client.free(handle)


def expect_equal(actual: bytes, expected: bytes, what: str) -> None:
    """Raise `CheckFailed` with the first difference unless two byte strings are equal."""
    if actual == expected:
        return
    if len(actual) != len(expected):
        raise CheckFailed(f"{what}: expected {len(expected)} bytes, got {len(actual)}")
    at = next(i for i, (a, b) in enumerate(zip(actual, expected, strict=True)) if a != b)
    raise CheckFailed(f"{what}: byte {at} of {len(expected)} is {actual[at]:#04x}, expected {expected[at]:#04x}")


Errors = type[PortkitError] | tuple[type[PortkitError], ...]


def expect_error(kinds: Errors, what: str, action: Callable[[], Any]) -> None:
    """Raise `CheckFailed` unless `action` raises one of the given errors; a crash or a hang is never meant."""
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    names = " or ".join(kind.__name__ for kind in allowed)
    try:
        action()
    except GONE:
        raise
    except allowed:
        return
    except PortkitError as error:
        raise CheckFailed(f"{what}: expected {names}, got {type(error).__name__}: {error}") from error
    raise CheckFailed(f"{what}: expected {names}, but it succeeded")


def launch(
    client: DeviceClient,
    kernel: Kernel,
    inputs: Mapping[str, npt.NDArray[Any]],
    scalars: Mapping[str, int | float],
    executable: Any = None,
) -> dict[str, npt.NDArray[Any]]:
    """Compile (unless given), launch and synchronise; return every buffer afterwards.

    A buffer that is not among the inputs starts as zeros.
    """
    compiled = executable if executable is not None else client.compile(kernel)
    arrays = {b.name: inputs.get(b.name, np.zeros(b.extent.evaluate(scalars), b.dtype.numpy)) for b in kernel.buffers}
    with buffers(client, [array.nbytes for array in arrays.values()]) as handles:
        for handle, array in zip(handles, arrays.values(), strict=True):
            client.write(handle, 0, array.tobytes())
        client.launch(compiled, grid_counts(kernel, scalars), handles, [scalars[s.name] for s in kernel.scalars])
        client.synchronise(SYNCHRONISE_SECONDS)
        return {
            name: np.frombuffer(client.read(handle, 0, array.nbytes), dtype=array.dtype)
            for handle, (name, array) in zip(handles, arrays.items(), strict=True)
        }


def expect_array(actual: npt.NDArray[Any], expected: npt.NDArray[Any], what: str) -> None:
    """Raise `CheckFailed` with the first wrong element unless two arrays are equal bit for bit."""
    if actual.tobytes() == expected.tobytes():
        return
    wrong = np.flatnonzero(actual != expected)
    at = int(wrong[0]) if len(wrong) else 0
    raise CheckFailed(f"{what}: {len(wrong)} of {len(expected)} wrong; [{at}] is {actual[at]}, expected {expected[at]}")
