"""One open OpenCL device for the tests that need one; where none can be opened they are skipped, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from portkit.backends.opencl import BACKEND

if TYPE_CHECKING:
    from portkit.backends.drivers.device import CheckedDevice


@pytest.fixture(scope="session")
def device() -> Iterator[CheckedDevice[Any]]:
    if reason := BACKEND.probe():
        pytest.skip(reason)
    opened = BACKEND.open()
    yield opened  # pyright: ignore[reportReturnType] - what the port opens is a checked device
    opened.close()
