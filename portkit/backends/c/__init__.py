"""The host's processors again, by the shortest route: kernels as C text, compiled by the C compiler of the system."""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from msgspec import structs

from portkit.backends.toolkit.host import host_tuning
from portkit.backends.toolkit.host_compiler import find_compiler
from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere


class CBackend:
    """The port to any machine with a C compiler."""

    name = "c"

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the backend declares, read from the file beside it, with the sizes that this host has."""
        declared = load_capabilities(Path(__file__).with_name("capabilities.toml"))
        return structs.replace(declared, tuning=host_tuning(declared.tuning))

    def probe(self) -> str | None:
        """Return None, or why this machine cannot run kernels."""
        if find_spec("cffi") is None:
            return 'cffi is not installed; pip install "portkit[c]"'
        try:
            find_compiler()
        except CannotRunHere as error:
            return str(error)
        return None

    def open(self) -> Device:
        """Open the device.

        Raises:
            CannotRunHere: the probe says why.
        """
        if reason := self.probe():
            raise CannotRunHere(reason)
        from portkit.backends.c.device import open_host

        return open_host(self.capabilities)


BACKEND = CBackend()
