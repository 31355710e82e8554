"""A CUDA device: PTX from the compiler, run by the driver or by its emulation."""

from __future__ import annotations

from portkit.backends.cuda.compiler import HOPPER, PtxCompiler
from portkit.backends.cuda.driver import ERRORS, CudaDriver, LoadedModule
from portkit.backends.cuda.emulated import EmulatedDriver
from portkit.backends.drivers.device import CheckedDevice, renamed
from portkit.contract import Capabilities
from portkit.emulators.ptx import Program


def open_gpu() -> CheckedDevice[LoadedModule]:
    """Open the first GPU; kernels are compiled for what it is."""
    with renamed(ERRORS, "opening the GPU"):
        driver = CudaDriver()
        return CheckedDevice(driver, PtxCompiler(driver.capability), ERRORS)


def open_emulated(capabilities: Capabilities, reason: str) -> CheckedDevice[Program]:
    """Open the interpreter, with the code that a Hopper GPU would run; `reason` says why there is no GPU."""
    return CheckedDevice(EmulatedDriver(capabilities, reason), PtxCompiler(HOPPER), {})
