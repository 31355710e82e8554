"""The driver: one qemu-riscv64 process for each device, whose buffers are memory that it shares with this process."""

from __future__ import annotations

import mmap
import os
import platform
import resource
import select
import struct
import subprocess
import tempfile
import time
from bisect import insort

from portkit.backends.riscv.resident import CODE, CODE_BYTES, DATA, PAYLOAD, resident
from portkit.contract import ALIGNMENT, DeviceInfo
from portkit.errors import CannotRunHere

COMMAND = "qemu-riscv64"
_MEMORY_LOG2 = 32
_QUEUE = 4096
"""Commands that may be under way: their answers must fit into a pipe."""
_LARGE = 1 << 20
"""Freed memory from this size on goes back to the system at once."""
_START_SECONDS = 20.0


class Space:
    """A range of addresses that is given out in parts, the first that fits."""

    def __init__(self, start: int, size: int, what: str) -> None:
        """Own `size` bytes from `start`; `what` names them in messages."""
        self._free = [(start, start + size)]
        self._taken: dict[int, int] = {}
        self._what = f"{what} of {size} bytes"

    def take(self, size: int, align: int = ALIGNMENT) -> int:
        """Return the address of a free part. Raises `MemoryError`."""
        for place, (start, end) in enumerate(self._free):
            address = -(-start // align) * align
            after = address + -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
            if after <= end:
                self._free[place : place + 1] = [part for part in ((start, address), (after, end)) if part[0] < part[1]]
                self._taken[address] = after
                return address
        raise MemoryError(f"the {self._what} has no {size} bytes in a row left")

    def give(self, address: int) -> int:
        """Take a part back, and return its size."""
        end = self._taken.pop(address)
        insort(self._free, (address, end))
        merged: list[tuple[int, int]] = []
        for start, stop in self._free:
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], stop)
            else:
                merged.append((start, stop))
        self._free = merged
        return end - address


class Emulator:
    """A running emulator; fills the driver protocol of `CheckedDevice`, a loaded program is its address."""

    def __init__(self, vlen: int) -> None:
        """Start it, with vector registers of `vlen` bits. Raises `CannotRunHere`."""
        self._vlen = vlen
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the device
        file, program = os.memfd_create("portkit-memory"), os.memfd_create("portkit-resident")
        os.truncate(file, 1 << _MEMORY_LOG2)
        self._memory = mmap.mmap(file, 1 << _MEMORY_LOG2)
        elf, self._return = resident(file, _MEMORY_LOG2)
        os.write(program, elf)
        cpu = f"rv64,v=true,vlen={vlen},elen=64,vext_spec=v1.0"
        try:
            self._process = subprocess.Popen(
                [COMMAND, "-cpu", cpu, f"/proc/self/fd/{program}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                pass_fds=(file, program),
                bufsize=0,
            )
        except OSError as error:
            raise CannotRunHere(
                f"{COMMAND} does not start ({error}); install it, as in: apt install qemu-user"
            ) from error
        finally:
            os.close(file)
            os.close(program)
        resource.prlimit(self._process.pid, resource.RLIMIT_CORE, (0, 0))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._under_way = 1
        self._buffers, self._kernels = Space(DATA, 1 << _MEMORY_LOG2, "memory"), Space(CODE, CODE_BYTES, "code memory")
        self._scratch = (0, 0)
        try:
            self.wait(_START_SECONDS)
        except (ChildProcessError, TimeoutError) as error:
            self.close()
            raise CannotRunHere(f"{COMMAND} -cpu {cpu} does not run: {error}") from error

    def info(self) -> DeviceInfo:
        """Return which emulator this is, and how long its vectors are."""
        version = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True).stdout
        return DeviceInfo(
            device=f"RV64IMAFV, VLEN {self._vlen}, one hart",
            driver=version.splitlines()[0],
            compiler="portkit riscv, machine code without an assembler",
            extra={"vlen": str(self._vlen), "host": platform.machine()},
        )

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int) -> int:
        """Return the guest's address of a part of the shared memory."""
        return self._buffers.take(size, align)

    def free(self, address: int) -> None:
        """Give memory back, large parts to the system too."""
        self._finish()
        size = self._buffers.give(address)
        if size >= _LARGE:
            start = -(-(address - DATA) // mmap.PAGESIZE) * mmap.PAGESIZE
            self._memory.madvise(
                mmap.MADV_REMOVE, start, (address - DATA + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
            )

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy to the shared memory."""
        self._finish()
        self._memory[address - DATA : address - DATA + len(data)] = bytes(data)

    def read(self, address: int, size: int) -> bytes:
        """Copy from the shared memory."""
        self._finish()
        return self._memory[address - DATA : address - DATA + size]

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy inside the shared memory."""
        self._finish()
        self._memory.move(target - DATA, source - DATA, size)

    # --- kernels --------------------------------------------------------------------------------------------------

    def load(self, binary: bytes) -> int:
        """Let the guest put a kernel into its memory."""
        address = self._kernels.take(len(binary))
        self._send(address, binary, self._return, 0)
        return address

    def unload(self, program: int) -> None:
        """Let another kernel have the place."""
        self._kernels.give(program)

    def start(self, program: int, arguments: bytes, groups: int, scratch: int) -> None:
        """Start the work-groups."""
        if scratch > self._scratch[1]:
            self._finish()
            if self._scratch[1]:
                self._buffers.give(self._scratch[0])
            self._scratch = (0, 0)
            self._scratch = (self._buffers.take(scratch), scratch)
        self._send(PAYLOAD, struct.pack("<QQ", 0, groups) + arguments, program, self._scratch[0])

    def wait(self, timeout: float) -> None:
        """Wait for all answers.

        Raises:
            TimeoutError: there was none in time; the emulator is ended.
            ChildProcessError: the emulator died.
        """
        deadline = time.monotonic() + timeout
        while self._under_way:
            self._receive(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """End the emulator."""
        self._end()
        for stream in (self._process.stdin, self._process.stdout, self._words, self._memory):
            if stream is not None:
                stream.close()

    # --- the pipe -------------------------------------------------------------------------------------------------

    def _send(self, place: int, payload: bytes, entry: int, scratch: int) -> None:
        if self._under_way >= _QUEUE:
            self._receive(None)
        data = memoryview(struct.pack("<QQQQ", place, len(payload), entry, scratch) + payload)
        try:
            while data:
                data = data[os.write(self._commands, data) :]
        except (BrokenPipeError, ValueError) as error:
            raise ChildProcessError(self._last_words()) from error
        self._under_way += 1

    def _receive(self, timeout: float | None) -> None:
        """Take the answers that are there, or wait for the first."""
        ready, _, _ = select.select([self._answers], [], [], timeout)
        if not ready:
            self._end()
            raise TimeoutError(f"{COMMAND} gave no answer within the time limit and was ended")
        answers = os.read(self._answers, _QUEUE)
        if not answers:
            raise ChildProcessError(self._last_words())
        self._under_way -= len(answers)

    def _finish(self) -> None:
        while self._under_way:
            self._receive(None)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._under_way = 0

    def _last_words(self) -> str:
        """Say how the emulator ended."""
        self._end()
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip()
        return f"{COMMAND} ended with status {self._process.returncode}{': ' + said if said else ''}"
