"""One port for all tests of the scaffold."""

from __future__ import annotations

import pytest

from tests.scaffold.ports import Port, make


@pytest.fixture(scope="session")
def port(tmp_path_factory: pytest.TempPathFactory) -> Port:
    return make(tmp_path_factory.mktemp("scaffold"))
