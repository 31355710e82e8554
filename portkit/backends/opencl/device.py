"""An OpenCL device as a driver: buffers are objects, one in-order queue, kernels are built from text when loaded."""

from __future__ import annotations

import os
import shlex
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyopencl as cl

from portkit.backends.drivers.addresses import Addresses
from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.opencl import pocl
from portkit.backends.opencl.dialect import ENTRY, OPENCL, OpenClCompiler
from portkit.contract import Capabilities, DeviceInfo
from portkit.errors import CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory

_OPTIONS = ("-cl-std=CL1.2", "-cl-kernel-arg-info")
OPTIONS = "PORTKIT_OPENCL_OPTIONS"
"""The environment variable with further options for the builds of kernels; reports say them."""
_CORRECTLY_ROUNDED = "-cl-fp32-correctly-rounded-divide-sqrt"
_WORD = 8
_MOST_LANES = (1 << 32) - 1
"""Lanes of one launch, over all its work-groups: some devices count them in 32 bits."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 20e-6, 1e-3
"""Seconds between two looks at whether a kernel has ended."""

_S = cl.status_code
_MEANINGS: dict[int, type[DeviceError]] = {
    _S.MEM_OBJECT_ALLOCATION_FAILURE: OutOfMemory,
    _S.OUT_OF_RESOURCES: OutOfMemory,
    _S.OUT_OF_HOST_MEMORY: OutOfMemory,
    _S.INVALID_BUFFER_SIZE: OutOfMemory,
    _S.BUILD_PROGRAM_FAILURE: CompileError,
    _S.COMPILER_NOT_AVAILABLE: CompileError,
    _S.DEVICE_NOT_AVAILABLE: DeviceLost,
    _S.INVALID_CONTEXT: DeviceLost,
    _S.INVALID_COMMAND_QUEUE: DeviceLost,
    _S.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST: DeviceLost,
}
"""Vendor error codes that say more than that the driver refused."""


def meaning(error: cl.Error) -> type[DeviceError]:
    """Return what portkit calls a vendor's error."""
    return _MEANINGS.get(error.code, DeviceError)


@dataclass(frozen=True, slots=True)
class Program:
    """A built kernel, the lanes of its work-groups, and which of its parameters are buffers."""

    kernel: cl.Kernel
    lanes: int
    buffers: tuple[bool, ...]


class OpenClDriver:
    """The calls of one device; transfers wait for what was started before them."""

    def __init__(self, device: cl.Device) -> None:
        """Open the device."""
        exact = device.single_fp_config & cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT
        self._wished = shlex.split(os.environ.get(OPTIONS, ""))
        self._options = [*_OPTIONS, *((_CORRECTLY_ROUNDED,) if exact else ()), *self._wished]
        self._declarations: Callable[[str], str] = lambda text: ""
        pocls = device.platform.name == pocl.PLATFORM
        self._by_text: Callable[[str], tuple[str, ...]] = pocl.options if pocls else lambda text: ()
        self._device = device
        self._context = cl.Context([device])
        self._queue = cl.CommandQueue(self._context, device)
        self._buffers = Addresses[cl.Buffer]()
        self._last: cl.Event | None = None
        if pocls:
            self._build_lightly()

    def _build_lightly(self) -> None:
        """Build with short declarations from now on, if the driver takes them."""
        with suppress(cl.Error):
            self._build(pocl.declarations(pocl.EXAMPLE) + pocl.EXAMPLE, pocl.LIGHT_OPTION)
            self._declarations = pocl.declarations
            self._options.append(pocl.LIGHT_OPTION)

    def _build(self, text: str, *options: str) -> cl.Program:
        """Build a text; what the compiler warns of is no error."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)
            return cl.Program(self._context, text).build([*self._options, *options])

    def info(self) -> DeviceInfo:
        """Return what the platform says of itself and of the device."""
        device, platform = self._device, self._device.platform
        return DeviceInfo(
            device=device.name.strip(),
            driver=f"{platform.name} {device.driver_version}".strip(),
            compiler=" ".join([f"{device.opencl_c_version.strip()}, pyopencl {cl.VERSION_TEXT}", *self._wished]),
            extra={"platform": platform.version, "extensions": " ".join(device.extensions.split())},
        )

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int) -> int:
        """Return a made-up address; OpenCL aligns every buffer to the largest of its types at least."""
        return self._buffers.place(cl.Buffer(self._context, cl.mem_flags.READ_WRITE, max(size, 1)), size, align)

    def free(self, address: int) -> None:
        """Give memory back; OpenCL keeps it until kernels that were started are done with it."""
        self._buffers.remove(address).release()

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host."""
        if len(data):
            buffer, offset = self._buffers.find(address)
            cl.enqueue_copy(self._queue, buffer, data, dst_offset=offset)

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host."""
        data = bytearray(size)
        if size:
            buffer, offset = self._buffers.find(address)
            cl.enqueue_copy(self._queue, data, buffer, src_offset=offset)
        return bytes(data)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device."""
        if size:
            (to, at), (start, offset) = self._buffers.find(target), self._buffers.find(source)
            self._started(cl.enqueue_copy(self._queue, to, start, byte_count=size, src_offset=offset, dst_offset=at))

    # --- kernels --------------------------------------------------------------------------------------------------

    def load(self, binary: bytes) -> Program:
        """Build a kernel's text."""
        text = binary.decode()
        program = self._build(self._declarations(text) + text, *self._by_text(text))
        kernel = cl.Kernel(program, ENTRY)  # `all_kernels` of pyopencl never lets go of the program
        info, sizes = cl.kernel_arg_info.ADDRESS_QUALIFIER, cl.kernel_work_group_info.COMPILE_WORK_GROUP_SIZE
        spaces = [kernel.get_arg_info(place, info) for place in range(kernel.num_args)]
        lanes = kernel.get_work_group_info(sizes, self._device)[0]
        return Program(kernel, lanes, tuple(s == cl.kernel_arg_address_qualifier.GLOBAL for s in spaces))

    def unload(self, program: Program) -> None:
        """Let it go: the driver frees a kernel that nobody refers to."""

    def start(self, program: Program, arguments: bytes, groups: int, scratch: int) -> None:
        """Launch the work-groups, as many at once as any device counts."""
        del scratch
        first = self._set_arguments(program, arguments)
        most = _MOST_LANES // program.lanes
        for begin in range(0, groups, most):
            program.kernel.set_arg(first, _scalar(begin))
            lanes = min(most, groups - begin) * program.lanes
            self._started(cl.enqueue_nd_range_kernel(self._queue, program.kernel, (lanes,), (program.lanes,)))

    def _set_arguments(self, program: Program, arguments: bytes) -> int:
        """Set all parameters but the last, the number of the first work-group, and return the place of that."""
        place = 0
        for at in range(0, len(arguments), _WORD):
            word = arguments[at : at + _WORD]
            if program.buffers[place]:
                buffer, offset = self._buffers.find(int.from_bytes(word, "little"))
                program.kernel.set_arg(place, buffer)
                program.kernel.set_arg(place + 1, _wide(offset))
                place += 2
            else:
                program.kernel.set_arg(place, word[:4])
                place += 1
        return place

    def _started(self, event: Any) -> None:
        self._queue.flush()
        self._last = event

    def wait(self, timeout: float) -> None:
        """Look at the last thing started until it is done; the queue is in order.

        Raises `TimeoutError`, and a vendor's error if the device ended it with one.
        """
        event, self._last = self._last, None
        if event is None:
            return
        limit, pause = time.monotonic() + timeout, _SHORTEST_PAUSE
        while event.command_execution_status > cl.command_execution_status.COMPLETE:
            if time.monotonic() > limit:
                self._last = event
                raise TimeoutError(f"no answer in {timeout:g} s")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        event.wait()  # raises what the device ended it with

    def close(self) -> None:
        """Let the queue end."""
        self._queue.finish()


def _scalar(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _wide(number: int) -> bytes:
    return number.to_bytes(_WORD, "little")


def open_device(device: cl.Device, capabilities: Capabilities) -> CheckedDevice[Program]:
    """Open a device whose capabilities are known."""
    compiler = OpenClCompiler(pocl.dialect if device.platform.name == pocl.PLATFORM else lambda kernel: OPENCL)
    return CheckedDevice(OpenClDriver(device), compiler, {cl.Error: meaning, TimeoutError: DeviceHang})
