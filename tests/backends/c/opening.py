"""Opening the backend in tests, where it can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portkit.backends.c import BACKEND

if TYPE_CHECKING:
    from portkit.backends.c.device import CDevice

REASON = BACKEND.probe()
needs_the_backend = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def open_device() -> CDevice:
    """Open a device of the test's own."""
    from portkit.backends.c import device

    return device.open_host(BACKEND.capabilities)
