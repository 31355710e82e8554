"""AMD GPUs: code objects from LLVM, HIP's runtime through cffi; without a GPU, portkit's own interpreter of gfx942."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from msgspec import structs

from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere, DeviceError

EMULATE = "PORTKIT_AMD_EMULATE"
"""The environment variable that decides: 1 emulates in any case, 0 never; without it, where there is no GPU."""


class AmdBackend:
    """The port to AMD GPUs; llvmlite and cffi are loaded when it is probed or opened, not before."""

    name = "amd"

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the backend declares, read from the file beside it, on the evidence that there is on this machine."""
        declared = load_capabilities(Path(__file__).with_name("capabilities.toml"))
        return structs.replace(declared, evidence="own-model") if self._lacks_gpu() else declared

    def probe(self) -> str | None:
        """Return None, or why neither a GPU nor the interpreter can run kernels here."""
        lack = self._lacks_gpu()
        if lack and os.environ.get(EMULATE) == "0":
            return f"{lack} ({EMULATE}=0 forbids the interpreter)"
        try:
            from portkit.backends.amd.compiler import AmdCompiler
            from portkit.backends.amd.link import linker

            AmdCompiler()
            if not lack:
                linker()
        except ImportError as error:
            return f"llvmlite cannot be loaded ({error}); reinstall portkit, or: pip install llvmlite"
        except DeviceError as error:
            return str(error)
        return None

    def open(self) -> Device:
        """Open the first GPU, or the interpreter.

        Raises:
            CannotRunHere: the probe says why.
        """
        if reason := self.probe():
            raise CannotRunHere(reason)
        from portkit.backends.amd.device import open_emulated, open_gpu

        lack = self._lacks_gpu()
        return open_emulated(self.capabilities, lack) if lack else open_gpu()

    def _lacks_gpu(self) -> str:
        """Return why kernels cannot run on a GPU, or an empty string."""
        if os.environ.get(EMULATE) == "1":
            return f"{EMULATE}=1 asks for the interpreter"
        from portkit.backends.amd.hip import why_no_gpu

        return why_no_gpu()


BACKEND = AmdBackend()
