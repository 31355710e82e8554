"""A WebGPU device as a driver: buffers are objects, one in-order queue, kernels are built from text when loaded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar

import msgspec
import wgpu

from portkit.backends.drivers.addresses import Addresses
from portkit.backends.drivers.device import CheckedDevice, Errors
from portkit.backends.webgpu.kernel import ENTRY, FIRST_BUFFER, launch_words, print_wgsl
from portkit.backends.webgpu.wgsl import Wgsl
from portkit.contract import ALIGNMENT, Capabilities, Code, DeviceInfo
from portkit.errors import CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory
from portkit.spec.kernel import Kernel

_WORD = 4
_ARGUMENT = 8
_MARK = 8
"""Bytes of what is copied to see that the queue is done; only 8 can be mapped."""
_LOST = re.compile(r"device (is )?lost", re.IGNORECASE)
_USAGE = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST


def meaning(error: Exception) -> type[DeviceError]:
    """Return what portkit calls an error of wgpu, which says in words only that the device is gone."""
    return DeviceLost if _LOST.search(str(error)) else DeviceError


class Binary(msgspec.Struct, frozen=True):
    """A compiled kernel: its text, how many buffers it has, and the words of `launch`."""

    text: str
    buffers: int
    words: int


@dataclass(frozen=True, slots=True)
class Program:
    """A kernel on the device, and the buffer from which it reads the words of a launch."""

    pipeline: wgpu.GPUComputePipeline
    layout: wgpu.GPUBindGroupLayout
    launch: wgpu.GPUBuffer
    buffers: int


class WgslCompiler:
    """Prints kernels for one device."""

    def __init__(self, *, shifted: bool) -> None:
        """Print for a device that binds buffers at multiples of 64 bytes, or is `shifted`."""
        self._target = Wgsl(shifted=shifted)

    def compile(self, kernel: Kernel) -> Code:
        """Print a kernel that fits the capabilities."""
        text = print_wgsl(kernel, self._target)
        return Code(text, msgspec.json.encode(Binary(text, len(kernel.buffers), launch_words(kernel))))


class WebGpuDriver:
    """The calls of one device."""

    def __init__(self, adapter: wgpu.GPUAdapter, most: int) -> None:
        """Open the device; no buffer has more than `most` bytes."""
        self._adapter = adapter
        self._most = most
        self._device = adapter.request_device_sync(required_limits=_limits(adapter))
        self._queue = self._device.queue
        self._buffers = Addresses[wgpu.GPUBuffer]()
        self._cuts = self._create(_MARK, wgpu.BufferUsage.COPY_DST | _USAGE)
        self._mark = self._create(_MARK, wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.MAP_READ)
        self._started = False
        self.alignment = int(self._device.limits["min-storage-buffer-offset-alignment"])

    def info(self) -> DeviceInfo:
        """Return what the adapter says of itself."""
        info = self._adapter.info
        return DeviceInfo(
            device=f"{info['device']} ({info['adapter_type']})",
            driver=f"{info['description']}, {info['backend_type']}",
            compiler=f"wgpu {wgpu.__version__}",
            extra={"alignment": str(self.alignment)},
        )

    # --- memory ---------------------------------------------------------------------------------------------------

    def _create(self, size: int, usage: int) -> wgpu.GPUBuffer:
        return self._device.create_buffer(size=size, usage=usage)

    def allocate(self, size: int, align: int) -> int:
        """Return a made-up address; a word behind the buffer lets an empty part at its end be bound."""
        if size > self._most:
            raise OutOfMemory(f"{size} bytes are more than the {self._most} that a buffer may have")
        return self._buffers.place(self._create(_up(size, _WORD) + _WORD, _USAGE), size, max(align, self.alignment))

    def free(self, address: int) -> None:
        """Give memory back; WebGPU keeps it until what was submitted is done with it."""
        self._buffers.remove(address).destroy()

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy from the host, by whole words: what else is in the first and the last is read before."""
        if not len(data):
            return
        buffer, offset = self._buffers.find(address)
        first, last = offset // _WORD * _WORD, _up(offset + len(data), _WORD)
        if (first, last) != (offset, offset + len(data)):
            words = bytearray(self._words(buffer, first, last))
            words[offset - first : offset - first + len(data)] = data
            data = bytes(words)
        self._queue.write_buffer(buffer, first, data)

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host, unless what was started went wrong. Raises `DeviceHang`."""
        self._check()
        if not size:
            return b""
        buffer, offset = self._buffers.find(address)
        first = offset // _WORD * _WORD
        return self._words(buffer, first, _up(offset + size, _WORD))[offset - first : offset - first + size]

    def _words(self, buffer: wgpu.GPUBuffer, first: int, last: int) -> bytes:
        return _bytes(self._queue.read_buffer(buffer, first, last - first))

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy on the device, where WebGPU can: whole words, from one buffer to another."""
        (to, at), (start, offset) = self._buffers.find(target), self._buffers.find(source)
        if to is start or (at | offset | size) % _WORD:
            self.write(target, self.read(source, size))
        elif size:
            encoder = self._device.create_command_encoder()
            encoder.copy_buffer_to_buffer(start, offset, to, at, size)
            self._submit(encoder)

    def _submit(self, encoder: wgpu.GPUCommandEncoder) -> None:
        """Start what was encoded, and behind it the copy that `wait` waits for."""
        encoder.copy_buffer_to_buffer(self._cuts, 0, self._mark, 0, _MARK)
        self._queue.submit([encoder.finish()])
        self._started = True

    # --- kernels --------------------------------------------------------------------------------------------------

    def load(self, binary: bytes) -> Program:
        """Build a kernel's pipeline. Raises `CompileError` with what the compiler says of the text."""
        kernel = msgspec.json.decode(binary, type=Binary)
        layout = self._layout(kernel.buffers)
        try:
            module = self._device.create_shader_module(code=kernel.text)
            pipeline = self._device.create_compute_pipeline(
                layout=self._device.create_pipeline_layout(bind_group_layouts=[layout]),
                compute={"module": module, "entry_point": ENTRY},
            )
        except wgpu.GPUError as error:
            if meaning(error) is DeviceLost:
                raise
            raise CompileError(str(error)) from error
        launch = self._create(kernel.words * _WORD, wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST)
        return Program(pipeline, layout, launch, kernel.buffers)

    def _layout(self, buffers: int) -> wgpu.GPUBindGroupLayout:
        kinds = ["uniform", *["storage"] * (FIRST_BUFFER - 1 + buffers)]
        entries: list[Any] = [
            {"binding": place, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": kind}}
            for place, kind in enumerate(kinds)
        ]
        return self._device.create_bind_group_layout(entries=entries)

    def unload(self, program: Program) -> None:
        """Give back the words of its launches; the rest goes with the last reference."""
        program.launch.destroy()

    def start(self, program: Program, arguments: bytes, groups: int, scratch: int) -> None:
        """Launch the work-groups as a grid of two dimensions, each within the device's limit."""
        del scratch
        if not groups:
            return
        bound = [self._bound(arguments, place) for place in range(program.buffers)]
        words = b"".join(struct.pack("<Q", shift) for _, shift in bound) + arguments[program.buffers * _ARGUMENT :]
        data = struct.pack("<4I", 0, groups, 0, 0) + words
        self._queue.write_buffer(program.launch, 0, data)
        rows = -(-groups // int(self._device.limits["max-compute-workgroups-per-dimension"]))
        encoder = self._device.create_command_encoder()
        run = encoder.begin_compute_pass()
        run.set_pipeline(program.pipeline)
        run.set_bind_group(0, self._bind_group(program, [entry for entry, _ in bound]))
        run.dispatch_workgroups(-(-groups // rows), rows)
        run.end()
        self._submit(encoder)

    def _bound(self, arguments: bytes, place: int) -> tuple[dict[str, Any], int]:
        """Return what is bound for a buffer, which starts where the device can, and the elements that come before it.

        Every buffer is bound as one that is written: WebGPU refuses to bind parts of one buffer in two ways.
        """
        address = int.from_bytes(arguments[place * _ARGUMENT : (place + 1) * _ARGUMENT], "little")
        buffer, offset = self._buffers.find(address)
        start = offset // self.alignment * self.alignment
        most = int(self._device.limits["max-storage-buffer-binding-size"])
        entry = {"buffer": buffer, "offset": start, "size": min(buffer.size - start, most)}
        return entry, (offset - start) // _WORD

    def _bind_group(self, program: Program, bound: list[dict[str, Any]]) -> wgpu.GPUBindGroup:
        first = [{"buffer": buffer, "offset": 0, "size": buffer.size} for buffer in (program.launch, self._cuts)]
        entries: list[Any] = [{"binding": at, "resource": entry} for at, entry in enumerate([*first, *bound])]
        return self._device.create_bind_group(layout=program.layout, entries=entries)

    def wait(self, timeout: float) -> None:
        """Wait for the copy behind what was started last.

        Raises `TimeoutError`, and `DeviceHang` if the device ended a loop early.
        """
        if self._started:
            _within(timeout, self._check)

    def _check(self) -> None:
        """Read the number that tells of loops that ended early, once everything that was started is done."""
        if not self._started:
            return
        self._mark.map_sync("READ")
        cut = any(_bytes(self._mark.read_mapped(0, _MARK)))
        self._mark.unmap()
        self._started = False
        if cut:
            self._queue.write_buffer(self._cuts, 0, bytes(_MARK))
            raise DeviceHang(
                f"{self._adapter.summary} ended a loop before its count was reached, taking it for endless: "
                "llvmpipe does after 65,535 turns in a lane"
            )

    def close(self) -> None:
        """Let the device go; its memory goes with the last reference."""


T = TypeVar("T")


def _within(timeout: float, ask: Callable[[], T]) -> T:
    """Return what a call of the driver returns, which may block for as long as a kernel runs. Raises `TimeoutError`."""
    answer = Future[T]()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked is told
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return answer.result(timeout)
    except TimeoutError as error:
        raise TimeoutError(f"no answer in {timeout:g} s") from error


def _bytes(copied: Any) -> bytes:
    """Return what wgpu read, a memoryview, though it does not say so."""
    return bytes(copied)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _limits(adapter: wgpu.GPUAdapter) -> dict[str, int | None]:
    """Return what is asked of the device: all that the adapter has of what a kernel may need."""
    names = (
        "max-storage-buffers-per-shader-stage",
        "max-storage-buffer-binding-size",
        "max-buffer-size",
        "max-compute-invocations-per-workgroup",
        "max-compute-workgroup-size-x",
        "max-compute-workgroup-storage-size",
        "min-storage-buffer-offset-alignment",
    )
    return {name: adapter.limits[name] for name in names}


def open_device(adapter: wgpu.GPUAdapter, capabilities: Capabilities) -> CheckedDevice[Program]:
    """Open an adapter whose capabilities are known."""
    driver = WebGpuDriver(adapter, capabilities.limits.buffer_bytes)
    compiler = WgslCompiler(shifted=driver.alignment > ALIGNMENT)
    errors: Errors = {
        TimeoutError: DeviceHang,
        wgpu.GPUOutOfMemoryError: OutOfMemory,
        wgpu.GPUError: meaning,
        RuntimeError: meaning,
    }
    return CheckedDevice(driver, compiler, errors)
