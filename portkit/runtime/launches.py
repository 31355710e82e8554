"""The launch queue of a device: in order, and an error that shows up late names the kernels that may have caused it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from portkit.contract import Device, Executable, Recording, Replay
from portkit.errors import DeviceError

TIMEOUT = 300.0
"""Seconds that the device has, at most, to finish what was started."""
_REMEMBERED = 64
_SHOWN = 8


class LaunchQueue:
    """Starts kernels in order; the caller holds the device's lock."""

    def __init__(self, device: Device) -> None:
        """Start kernels on `device`."""
        self._device = device
        self._started: deque[str] = deque(maxlen=_REMEMBERED)
        self._count = 0

    def launch(
        self,
        name: str,
        executable: Executable,
        grid: Sequence[int],
        buffers: Sequence[int],
        scalars: Sequence[int | float],
    ) -> None:
        """Start a kernel after all that was started before."""
        self._device.launch(executable, grid, buffers, scalars)
        self._started.append(name)
        self._count += 1

    def replay(self, names: Sequence[str], recording: Recording, buffers: Sequence[int]) -> None:
        """Start a recorded list of kernels of these names, after all that was started before."""
        assert isinstance(self._device, Replay)
        self._device.replay(recording, buffers)
        self._started.extend(names[-_REMEMBERED:])
        self._count += len(names)

    def synchronise(self, timeout: float = TIMEOUT) -> None:
        """Wait until all that was started is done. Raises `DeviceError`, naming kernels, `DeviceHang`, `DeviceLost`."""
        with self.waiting():
            self._device.synchronise(timeout)

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Do what waits for the device inside: its errors name the kernels started since the last time."""
        try:
            yield
        except DeviceError as error:
            if not self._count:
                raise
            raise type(error)(f"{error} ({self._suspects()})") from error
        finally:
            self._started.clear()
            self._count = 0

    def _suspects(self) -> str:
        last = list(dict.fromkeys(reversed(self._started)))[:_SHOWN]
        return f"after {self._count} launches since the last wait, the latest first: {', '.join(last)}"
