"""NVIDIA GPUs: kernels as PTX from LLVM, the driver through cffi; without a GPU, portkit's own interpreter of PTX."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from msgspec import structs

from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere, DeviceError

EMULATE = "PORTKIT_CUDA_EMULATE"
"""The environment variable that decides: 1 emulates in any case, 0 never; without it, where there is no GPU."""

_EMULATED_BYTES = 1 << 30
"""The largest buffer of the interpreter, whose device memory is this process's."""


class CudaBackend:
    """The port to NVIDIA GPUs; llvmlite and cffi are loaded when it is probed or opened, not before."""

    name = "cuda"

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the backend declares, read from the file beside it, on the evidence that there is on this machine."""
        declared = load_capabilities(Path(__file__).with_name("capabilities.toml"))
        if not self._lacks_gpu():
            return declared
        limits = structs.replace(declared.limits, buffer_bytes=_EMULATED_BYTES)
        return structs.replace(declared, evidence="own-model", limits=limits)

    def probe(self) -> str | None:
        """Return None, or why neither a GPU nor the interpreter can run kernels here."""
        try:
            from portkit.backends.cuda.compiler import PtxCompiler

            PtxCompiler()
        except ImportError as error:
            return f"llvmlite cannot be loaded ({error}); reinstall portkit, or: pip install llvmlite"
        except DeviceError as error:
            return str(error)
        lack = self._lacks_gpu()
        return f"{lack} ({EMULATE}=0 forbids the interpreter)" if lack and os.environ.get(EMULATE) == "0" else None

    def open(self) -> Device:
        """Open the first GPU, or the interpreter.

        Raises:
            CannotRunHere: the probe says why.
        """
        if reason := self.probe():
            raise CannotRunHere(reason)
        from portkit.backends.cuda.device import open_emulated, open_gpu

        lack = self._lacks_gpu()
        return open_emulated(self.capabilities, lack) if lack else open_gpu()

    def _lacks_gpu(self) -> str:
        """Return why kernels cannot run on a GPU, or an empty string."""
        if os.environ.get(EMULATE) == "1":
            return f"{EMULATE}=1 asks for the interpreter"
        from portkit.backends.cuda.driver import why_no_gpu

        return why_no_gpu()


BACKEND = CudaBackend()
