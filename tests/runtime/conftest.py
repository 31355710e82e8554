"""One device for the tests of the runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portkit.contract import find_backend
from portkit.runtime.devices import RuntimeDevice


@pytest.fixture(scope="module")
def cpu() -> Iterator[RuntimeDevice]:
    with RuntimeDevice(find_backend("cpu")) as device:
        yield device
