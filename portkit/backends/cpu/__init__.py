"""The embedded default backend: the host's processors, through LLVM's just-in-time compiler."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from msgspec import structs

from portkit.backends.toolkit.host import host_tuning
from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere, CompileError


class CpuBackend:
    """The port to the machine that portkit runs on; llvmlite is loaded when it is probed or opened, not before."""

    name = "cpu"

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the backend declares, read from the file beside it, with the sizes that this host has."""
        declared = load_capabilities(Path(__file__).with_name("capabilities.toml"))
        return structs.replace(declared, tuning=host_tuning(declared.tuning))

    def probe(self) -> str | None:
        """Return None, or why this machine cannot run kernels."""
        try:
            from portkit.backends.toolkit.host_jit import HostJit

            HostJit()
        except ImportError as error:
            return f"llvmlite cannot be loaded ({error}); reinstall portkit, or: pip install llvmlite"
        except CompileError as error:
            return str(error)
        return None

    def open(self) -> Device:
        """Open the device.

        Raises:
            CannotRunHere: the probe says why.
        """
        if reason := self.probe():
            raise CannotRunHere(reason)
        from portkit.backends.cpu.device import open_host

        return open_host(self.capabilities)


BACKEND = CpuBackend()
