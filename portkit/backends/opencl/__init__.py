"""The port to OpenCL devices: kernels as text in OpenCL C, launched through pyopencl."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere


class OpenClBackend:
    """The port; pyopencl is loaded when the device is asked for, not before."""

    name = "opencl"

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the file beside this module declares, less what the device chosen on this machine lacks."""
        declared = load_capabilities(Path(__file__).with_name("capabilities.toml"))
        if self.probe():
            return declared
        from portkit.backends.opencl.choice import choose, fitted

        return fitted(declared, choose())

    def probe(self) -> str | None:
        """Return None, or why this machine cannot run kernels."""
        try:
            from portkit.backends.opencl.choice import choose

            choose()
        except ImportError as error:
            return f"pyopencl cannot be loaded ({error}); pip install 'portkit[opencl]'"
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
        from portkit.backends.opencl.choice import choose
        from portkit.backends.opencl.device import open_device

        return open_device(choose(), self.capabilities)


BACKEND = OpenClBackend()
