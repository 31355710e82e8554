"""One open cpu device for all tests of the backends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.cpu.device import CpuDevice, open_host


@pytest.fixture(scope="session")
def device() -> Iterator[CpuDevice]:
    opened = open_host(BACKEND.capabilities)
    yield opened
    opened.close()
