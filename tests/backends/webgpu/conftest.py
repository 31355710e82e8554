"""One open WebGPU device for the tests of this backend, where there is an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.webgpu import BACKEND


@pytest.fixture(scope="session")
def webgpu() -> Iterator[CheckedDevice[Any]]:
    if reason := BACKEND.probe():
        pytest.skip(f"webgpu: {reason}")
    opened = fresh()
    yield opened
    opened.close()


@pytest.fixture
def own_webgpu() -> Iterator[CheckedDevice[Any]]:
    """A device that a test may break."""
    if reason := BACKEND.probe():
        pytest.skip(f"webgpu: {reason}")
    opened = fresh()
    yield opened
    opened.close()


def fresh() -> CheckedDevice[Any]:
    opened = BACKEND.open()
    assert isinstance(opened, CheckedDevice)
    return opened
