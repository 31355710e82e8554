"""A thread pool that costs microseconds to wake, compiled on the spot (its native half is `pool.ll`).

The workers are Python threads that enter native code once, with the interpreter lock released, and stay there. They
wait for work spinning, at most `spin_us` microseconds, and then block in a condition variable, so an idle pool uses no
processor time. Only pthreads is needed of the system.
"""

from __future__ import annotations

import ctypes
import importlib.resources
import mmap
import os
import platform
import threading
import time
import weakref
from collections.abc import Callable
from typing import ClassVar

from portkit.backends.toolkit.host import usable_processors
from portkit.backends.toolkit.host_jit import HostJit, LoadedCode
from portkit.errors import DeviceError, OutOfMemory

_HOSTS = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_WORKER_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
_LAUNCH_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_POOL_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_SPIN_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_int64)
_EXPORTS = ("open", "spin", "worker", "launch", "stop")
_STRIDE_UNIT = 128  # no two threads share a cache line, nor a pair that is prefetched together


class _JobRecord(ctypes.Structure):
    """`%job` of pool.ll, with which `%pool` begins; the rest of that is touched by native code only."""

    _fields_: ClassVar = [
        ("kernel", ctypes.c_void_p),
        ("args", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("scratch", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("spins", ctypes.c_int64),
    ]


class CallRecord(ctypes.Structure):
    """`%call` of pool.ll: the kernel's address, the address of its arguments, and how many work-groups."""

    _fields_: ClassVar = [("kernel", ctypes.c_void_p), ("args", ctypes.c_void_p), ("groups", ctypes.c_int64)]


class _Pages:
    """Zeroed pages from the system, given back when nobody holds this object."""

    def __init__(self, size: int) -> None:
        try:
            self.memory = mmap.mmap(-1, size)
        except (OSError, ValueError, OverflowError) as error:
            raise OutOfMemory(f"cannot map {size} bytes for the thread pool: {error}") from error
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))


def native_text(processor: str) -> str:
    """Return the LLVM IR text of the pool for *processor*, as `platform.machine()` names it."""
    folder = importlib.resources.files("portkit.backends.cpu")
    host = _HOSTS.get(processor, "other")
    return (folder / "pool.ll").read_text() + (folder / f"host_{host}.ll").read_text()


class ThreadPool:
    """Runs kernels over ranges of work-groups on all its threads; the calling thread is one of them.

    Safe to use from several threads: launches take turns. A child made by `os.fork` has no workers, so the pool counts
    as closed there.
    """

    def __init__(self, jit: HostJit, threads: int | None = None, *, spin_us: float = 50.0, pin: bool = True) -> None:
        """Start *threads* - 1 workers (default: one thread per usable processor), which spin *spin_us* before blocking.

        With *pin*, where the system can and has enough processors, each worker stays on a processor of its own. Without
        it Linux may wake a worker on the launcher's, to wait there for the end of a time slice beside an idle one.

        Raises:
            DeviceError: *threads* is less than 1, or the system starts no more threads.
            CompileError: the pool's native code cannot be compiled here.
        """
        self.threads = len(usable_processors()) if threads is None else threads
        if self.threads < 1:
            raise DeviceError(f"a thread pool needs at least 1 thread, not {self.threads}")
        self._lock = threading.Lock()
        self._code = jit.load(jit.object_code(native_text(platform.machine())), _EXPORTS)
        self._pages = _Pages(mmap.PAGESIZE)
        self._scratch: _Pages | None = None
        self._record = _JobRecord.from_buffer(self._pages.memory)
        self._record.threads = self.threads
        self._record.spins = round(spin_us / self._pause_us())
        self._launch = _LAUNCH_ENTRY(self._code.address("launch"))
        _POOL_ENTRY(self._code.address("open"))(self._pages.address)
        workers: list[threading.Thread] = []
        stop = _POOL_ENTRY(self._code.address("stop"))
        self._finalizer = weakref.finalize(self, _stop, stop, workers, self._pages, self._code)
        self._start(workers)
        if pin:
            _pin(workers)
        _POOLS.add(self)

    def launch(self, kernel: int, args: int, groups: int, scratch: int = 0) -> None:
        """Run the kernel at address *kernel* over work-groups [0, *groups*) and return when all are done.

        The kernel is `void(ptr args, i64 group_begin, i64 group_end, ptr scratch)`; it is called with disjoint ranges
        that cover all groups, in any order, from any thread, in the plain float mode. *args* is passed through. Each
        thread has its own block of at least *scratch* bytes, 128-byte aligned, left as the launch before left it.

        Raises:
            DeviceError: the pool is closed, or belongs to the parent of this process.
            OutOfMemory: there is no room for the scratch blocks.
        """
        record = CallRecord(kernel, args, groups)
        self.run(ctypes.addressof(record), 1, scratch)

    def run(self, calls: int, count: int, scratch: int = 0) -> None:
        """Run *count* kernels, whose `CallRecord`s lie at address *calls*, one after the other, each as by `launch`.

        Raises:
            DeviceError, OutOfMemory: as for `launch`.
        """
        with self._lock:
            if not self._finalizer.alive:
                raise DeviceError("this thread pool is closed (or was opened before a fork); open the device again")
            if scratch > self._record.stride:
                self._grow(scratch)
            self._launch(self._pages.address, calls, count)

    def close(self) -> None:
        """Stop and join the workers and free all memory; a second call does nothing."""
        with self._lock:
            self._finalizer()
            self._scratch = None

    def _pause_us(self) -> float:
        """Measure one turn of the native spin loop, in microseconds; the least of five, as others may use the core."""
        spin, turns = _SPIN_ENTRY(self._code.address("spin")), 1000
        return max(1e-3, min(_seconds(lambda: spin(turns)) for _ in range(5)) * 1e6 / turns)

    def _start(self, workers: list[threading.Thread]) -> None:
        enter = _WORKER_ENTRY(self._code.address("worker"))
        for index in range(1, self.threads):
            worker = threading.Thread(
                target=enter, args=(self._pages.address, index), name=f"portkit-cpu-{index}", daemon=True
            )
            try:
                worker.start()
            except RuntimeError as error:
                self._finalizer()
                raise DeviceError(f"the system starts no more than {index} threads; ask for fewer: {error}") from error
            workers.append(worker)

    def _grow(self, scratch: int) -> None:
        """Replace the scratch blocks by larger ones; called between launches, when no worker looks at them."""
        stride = -(-scratch // _STRIDE_UNIT) * _STRIDE_UNIT
        self._scratch = _Pages(stride * self.threads)
        self._record.scratch = self._scratch.address
        self._record.stride = stride


def _pin(workers: list[threading.Thread]) -> None:
    """Give each worker a processor of its own, leaving the first for the launcher, where the system has such a call."""
    processors = usable_processors()
    if hasattr(os, "sched_setaffinity") and len(workers) < len(processors):
        for worker, processor in zip(workers, processors[1:], strict=False):
            os.sched_setaffinity(worker.native_id or 0, {processor})


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _stop(stop: Callable[[int], None], workers: list[threading.Thread], pages: _Pages, code: LoadedCode) -> None:
    """End a pool's threads, then unload their code; runs at close, at garbage collection or at exit, once."""
    stop(pages.address)
    for worker in workers:
        worker.join()
    code.release()


def _close_after_fork() -> None:
    """Disown every pool in a forked child: its threads do not exist there, and its mutex may be held by one of them."""
    for pool in _POOLS:
        pool._lock = threading.Lock()
        pool._finalizer.detach()


_POOLS: weakref.WeakSet[ThreadPool] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_after_fork)
