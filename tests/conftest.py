"""What holds for all tests: compiled kernels are kept in a folder of this run, never in the user's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
