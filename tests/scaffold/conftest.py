"""One port of each route and driver for all tests of the scaffold."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.scaffold.ports import Port, make, needs

PortOf = Callable[[str, str], Port]


@pytest.fixture(scope="session")
def port_of(tmp_path_factory: pytest.TempPathFactory) -> PortOf:
    """Return what makes the port of a route and a driver, once."""

    @cache
    def made(route: str, driver: str) -> Port:
        return make(tmp_path_factory.mktemp(f"{route}-{driver}"), route, driver)

    def found(route: str, driver: str) -> Port:
        needs(route, driver)
        return made(route, driver)

    return found


@pytest.fixture(scope="session")
def port(port_of: PortOf) -> Port:
    """The port that `portkit new` makes without being asked for another."""
    return port_of("llvm", "python")
