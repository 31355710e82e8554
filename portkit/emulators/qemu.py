"""A device out of a user-mode QEMU: one process stays, runs what it is sent, and shares its memory with this one.

The port gives the program that stays: an executable for the emulated processor that maps the shared file, reads
commands from its standard input, and answers each, and its own start, with one byte.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import select
import signal
import struct
import subprocess
import tempfile
import time
from bisect import insort
from collections.abc import Callable

from portkit.errors import CannotRunHere

_QUEUE = 4096
"""Commands that may be under way: their answers must fit into a pipe."""
_LARGE = 1 << 20
"""Freed memory from this size on goes back to the system at once."""
_START_SECONDS = 20.0
_GRANULE = 64


class Space:
    """A range of addresses that is given out in parts, the first that fits."""

    def __init__(self, start: int, size: int, what: str) -> None:
        """Own `size` bytes from `start`; `what` names them in messages."""
        self._free = [(start, start + size)]
        self._taken: dict[int, int] = {}
        self._what = f"{what} of {size} bytes"

    def take(self, size: int, align: int = _GRANULE) -> int:
        """Return the address of a free part; even an empty one has its own. Raises `MemoryError`."""
        for place, (start, end) in enumerate(self._free):
            address = -(-start // align) * align
            after = address + -(-max(size, 1) // _GRANULE) * _GRANULE
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


class Qemu:
    """A running emulator, and the memory that it shares: a file of 2^`log2` bytes that the guest has at `base`.

    What is sent runs in order; reading, writing and copying wait for it. Once the emulator has ended, whoever needs it
    gets a `ChildProcessError` with its last words.
    """

    def __init__(self, command: str, cpu: str, base: int, log2: int, program: Callable[[int], bytes]) -> None:
        """Start it. `program` returns the executable that stays, from the number of its open file of shared memory.

        Raises:
            CannotRunHere: the emulator is not installed, or does not start.
        """
        self.command = command
        self.space = Space(base, 1 << log2, "memory")
        self._base = base
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the device
        file = os.memfd_create("memory")
        os.truncate(file, 1 << log2)
        self._memory = mmap.mmap(file, 1 << log2)
        self._process, self._lifeline = self._started(cpu, file, program(file))
        os.close(file)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout
        self._under_way = 1
        try:
            self.wait(_START_SECONDS)
        except (ChildProcessError, TimeoutError) as error:
            self.close()
            raise CannotRunHere(f"{command} -cpu {cpu} does not run here: {error}") from error

    def _started(self, cpu: str, file: int, program: bytes) -> tuple[subprocess.Popen[bytes], int]:
        """Start the process, and return it with the end of a pipe whose closing ends it."""
        executable, (life, lifeline) = os.memfd_create("program"), os.pipe()
        os.write(executable, program)
        try:
            process = subprocess.Popen(
                [self.command, "-cpu", cpu, f"/proc/self/fd/{executable}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                pass_fds=(file, executable, life),
                bufsize=0,
            )
            _end_with_us(life, process.pid)
        except OSError as error:
            for descriptor in (file, lifeline):
                os.close(descriptor)
            self._words.close()
            self._memory.close()
            how = "install it, as in: apt install qemu-user"
            raise CannotRunHere(f"{self.command} does not start ({error}); {how}") from error
        finally:
            for descriptor in (executable, life):
                os.close(descriptor)
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))  # no file of the guest's memory where it crashes
        return process, lifeline

    def version(self) -> str:
        """Return what the emulator calls itself."""
        return subprocess.run([self.command, "--version"], capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )[0]

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int, align: int) -> int:
        """Return the guest's address of a part of the shared memory, at most half of it. Raises `MemoryError`."""
        self._check()
        if size > len(self._memory) // 2:
            raise MemoryError(f"{size} bytes are more than the {len(self._memory) // 2} that a buffer may have")
        return self.space.take(size, align)

    def free(self, address: int) -> None:
        """Give memory back, large parts to the system too."""
        self.finish(needed=False)
        size, start = self.space.give(address), address - self._base
        if size >= _LARGE:
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            self._memory.madvise(mmap.MADV_REMOVE, first, (start + size - first) // mmap.PAGESIZE * mmap.PAGESIZE)

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy to the shared memory."""
        self.finish()
        self._memory[address - self._base : address - self._base + len(data)] = bytes(data)

    def read(self, address: int, size: int) -> bytes:
        """Copy from the shared memory."""
        self.finish()
        return self._memory[address - self._base : address - self._base + size]

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy inside the shared memory."""
        self.finish()
        self._memory.move(target - self._base, source - self._base, size)

    # --- commands -------------------------------------------------------------------------------------------------

    def send(self, command: bytes) -> None:
        """Send what the program that stays answers with one byte."""
        if self._under_way >= _QUEUE:
            self._receive(None)
        rest = memoryview(command)
        try:
            while rest:
                rest = rest[os.write(self._commands.fileno(), rest) :]
        except OSError as error:
            raise ChildProcessError(self._last_words()) from error
        self._under_way += 1

    def wait(self, timeout: float) -> None:
        """Wait for all answers.

        Raises:
            TimeoutError: there was none in time; the emulator is ended.
            ChildProcessError: the emulator has ended.
        """
        deadline = time.monotonic() + timeout
        self._check()
        while self._under_way:
            self._receive(max(0.0, deadline - time.monotonic()))

    def finish(self, *, needed: bool = True) -> None:
        """Wait for all answers, without a limit; an emulator that has ended is a fault only where it is `needed`."""
        if needed:
            self._check()
        while self._under_way:
            self._receive(None)

    def close(self) -> None:
        """End the emulator; a second call does nothing."""
        self._end()
        if not self._memory.closed:
            os.close(self._lifeline)
        for stream in (self._commands, self._answers, self._words, self._memory):
            stream.close()

    def _receive(self, timeout: float | None) -> None:
        """Take the answers that are there, or wait for the first."""
        waiting = select.poll()  # select() knows no file above 1023
        waiting.register(self._answers, select.POLLIN)
        if not waiting.poll(None if timeout is None else 1000 * timeout):
            self._end()
            raise TimeoutError(f"{self.command} gave no answer in time, and was ended")
        answers = os.read(self._answers.fileno(), _QUEUE)
        if not answers:
            raise ChildProcessError(self._last_words())
        self._under_way -= len(answers)

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise ChildProcessError(self._last_words())

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._under_way = 0

    def _last_words(self) -> str:
        """Say how the emulator ended."""
        self._end()
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip()
        status = self._process.returncode
        by_signal = f", {signal.strsignal(-status)}" if status < 0 else ""
        return f"{self.command} ended with status {status}{by_signal}{': ' + said if said else ''}"


def _end_with_us(life: int, process: int) -> None:
    """Let the kernel end a process when nobody has the other end of a pipe any more that it holds an end of.

    A guest that computes without end does not notice that its standard input closed.
    """
    fcntl.fcntl(life, fcntl.F_SETOWN, process)
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def executable(machine: int, code: bytes) -> tuple[bytes, int]:
    """Return a static ELF file of one segment for a 64-bit machine, and the address of its code, where it starts.

    Source: Tool Interface Standard, ELF 1.2, chapter 1.
    """
    origin, header = 0x10000, 64 + 56
    size = header + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    fields = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, origin + header, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, origin, origin, size, size, 0x1000)
    return ident + fields + segment + code, origin + header
