"""The port to WebGPU: kernels as text in WGSL, launched through wgpu on Vulkan, Metal or Direct3D 12."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere


class WebGpuBackend:
    """The port; wgpu is loaded when the adapter is asked for, not before."""

    name = "webgpu"

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the file beside this module declares, less what the adapter of this machine lacks."""
        declared = load_capabilities(Path(__file__).with_name("capabilities.toml"))
        if self.probe():
            return declared
        from portkit.backends.webgpu.adapter import choose, fitted

        return fitted(declared, choose())

    def probe(self) -> str | None:
        """Return None, or why this machine cannot run kernels."""
        try:
            from portkit.backends.webgpu.adapter import choose

            choose()
        except ImportError as error:
            return f"wgpu cannot be loaded ({error}); pip install 'portkit[webgpu]'"
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
        from portkit.backends.webgpu.adapter import choose
        from portkit.backends.webgpu.device import open_device

        return open_device(choose(), self.capabilities)


BACKEND = WebGpuBackend()
