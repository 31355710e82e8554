"""One open model of the device for the tests of this backend, where there is a C++ compiler."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.metal import BACKEND, MODEL_VARIABLE


@pytest.fixture(scope="session")
def model() -> Iterator[CheckedDevice[Any]]:
    if sys.platform == "darwin":
        pytest.skip("metal: a Mac has the chip itself; its model is tested on Linux")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MODEL_VARIABLE, "model")
        if reason := BACKEND.probe():
            pytest.skip(f"metal: {reason}")
        from portkit.backends.metal.model import open_model

        opened = open_model(BACKEND.capabilities)
    yield opened
    opened.close()
