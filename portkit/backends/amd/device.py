"""An AMD device: code from the compiler, run by HIP's runtime or by the interpreter."""

from __future__ import annotations

from portkit.backends.amd.compiler import AmdCompiler
from portkit.backends.amd.emulated import EmulatedDriver
from portkit.backends.amd.hip import ERRORS, HipDriver
from portkit.backends.amd.link import link_code_object
from portkit.backends.drivers.device import CheckedDevice, renamed
from portkit.contract import Capabilities, Device


def open_gpu() -> Device:
    """Open the first GPU; kernels are compiled for what it is."""
    with renamed(ERRORS, "opening the GPU"):
        driver = HipDriver()
        return CheckedDevice(driver, AmdCompiler(driver.chip, link_code_object), ERRORS)


def open_emulated(capabilities: Capabilities, reason: str) -> Device:
    """Open the interpreter; `reason` says why there is no GPU."""
    return CheckedDevice(EmulatedDriver(capabilities, reason), AmdCompiler(), {})
