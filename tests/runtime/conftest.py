"""One device for the tests of the runtime, whose compiled kernels are kept in a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portkit.contract import find_backend
from portkit.runtime.devices import RuntimeDevice


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("PORTKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def cpu() -> Iterator[RuntimeDevice]:
    with RuntimeDevice(find_backend("cpu")) as device:
        yield device
