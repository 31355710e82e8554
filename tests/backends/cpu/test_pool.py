"""The thread pool: every group once, a scratch block per thread, the plain float mode, and clean ends."""

from __future__ import annotations

import ctypes
import gc
import itertools
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from portkit.backends.cpu.pool import ThreadPool
from portkit.backends.toolkit.host_jit import HostJit, LoadedCode
from portkit.errors import DeviceError, OutOfMemory

KERNELS = """
; Add 1 to args[i] for each group i, without atomics: a group that ran twice at once could be lost, so sizes vary.
define void @mark(ptr %args, i64 %begin, i64 %end, ptr %scratch) {
start:
  br label %next
next:
  %i = phi i64 [ %begin, %start ], [ %j, %next ]
  %p = getelementptr i8, ptr %args, i64 %i
  %old = load i8, ptr %p
  %new = add i8 %old, 1
  store i8 %new, ptr %p
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %end
  br i1 %more, label %next, label %stop
stop:
  ret void
}

; args[0] += groups of this range
define void @tally(ptr %args, i64 %begin, i64 %end, ptr %scratch) {
  %groups = sub i64 %end, %begin
  atomicrmw add ptr %args, i64 %groups monotonic
  ret void
}

; Report the scratch address in args[1 + group], then wait until args[0] groups are here at once.
define void @meet(ptr %args, i64 %begin, i64 %end, ptr %scratch) {
start:
  %slot = add i64 %begin, 1
  %p = getelementptr ptr, ptr %args, i64 %slot
  store ptr %scratch, ptr %p
  atomicrmw sub ptr %args, i64 1 seq_cst
  br label %look
look:
  %missing = load atomic i64, ptr %args seq_cst, align 8
  %wait = icmp sgt i64 %missing, 0
  br i1 %wait, label %look, label %stop
stop:
  ret void
}

; args = { i64 groups, float x, float halves[groups] }: halve x in each group once all groups are here
define void @halve(ptr %args, i64 %begin, i64 %end, ptr %scratch) {
start:
  atomicrmw sub ptr %args, i64 1 seq_cst
  br label %look
look:
  %missing = load atomic i64, ptr %args seq_cst, align 8
  %wait = icmp sgt i64 %missing, 0
  br i1 %wait, label %look, label %halve
halve:
  %x.p = getelementptr float, ptr %args, i64 2
  %x = load float, ptr %x.p
  %y = fmul float %x, 0.5
  %slot = add i64 %begin, 3
  %p = getelementptr float, ptr %args, i64 %slot
  store float %y, ptr %p
  ret void
}
"""
FLUSH_TO_ZERO = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)

define i32 @swap(i32 %mode) {
  %slot = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %slot)
  %old = load i32, ptr %slot
  store i32 %mode, ptr %slot
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret i32 %old
}
"""
SIZES = [0, 1, 2, 3, 5, 64, 1_001, 300_007]
LINUX_ONLY = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc or forks")


@pytest.fixture(scope="module")
def jit() -> HostJit:
    return HostJit()


@pytest.fixture(scope="module")
def kernels(jit: HostJit) -> LoadedCode:
    return jit.load(jit.object_code(KERNELS), ["mark", "tally", "meet", "halve"])


@pytest.fixture(scope="module", params=[1, 2, 3, 8], ids=lambda count: f"{count}threads")
def pool(jit: HostJit, request: pytest.FixtureRequest) -> Iterator[ThreadPool]:
    pool = ThreadPool(jit, request.param)
    yield pool
    pool.close()


@pytest.fixture
def pair(jit: HostJit) -> Iterator[ThreadPool]:
    pool = ThreadPool(jit, 2)
    yield pool
    pool.close()


def meet(pool: ThreadPool, kernels: LoadedCode, scratch: int = 0) -> list[int]:
    """Bring all threads of *pool* together in one launch and return each one's scratch address, sorted."""
    args = np.zeros(1 + pool.threads, np.int64)
    args[0] = pool.threads
    pool.launch(kernels.address("meet"), args.ctypes.data, pool.threads, scratch)
    return sorted(args[1:].tolist())


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("portkit-cpu-")]


@pytest.mark.parametrize("groups", SIZES)
def test_each_group_runs_exactly_once(pool: ThreadPool, kernels: LoadedCode, groups: int) -> None:
    marks = np.zeros(groups + 1, np.uint8)
    pool.launch(kernels.address("mark"), marks.ctypes.data, groups)
    assert (marks[:groups] == 1).all()
    assert marks[groups] == 0


@pytest.mark.parametrize("groups", [2**31 - 1, 2**62])
def test_a_huge_launch_covers_all_its_groups(pool: ThreadPool, kernels: LoadedCode, groups: int) -> None:
    count = np.zeros(1, np.int64)
    pool.launch(kernels.address("tally"), count.ctypes.data, groups)
    assert count[0] == groups


def test_thousands_of_launches_stay_right(pool: ThreadPool, kernels: LoadedCode) -> None:
    tally, count, expected = kernels.address("tally"), np.zeros(1, np.int64), 0
    for groups in range(3_000):
        pool.launch(tally, count.ctypes.data, groups % 37)
        expected += groups % 37
        assert count[0] == expected


def test_launches_stay_right_when_workers_never_spin(jit: HostJit, kernels: LoadedCode) -> None:
    pool, count = ThreadPool(jit, 4, spin_us=0, pin=False), np.zeros(1, np.int64)
    for _ in range(1_000):
        pool.launch(kernels.address("tally"), count.ctypes.data, 9)
    pool.close()
    assert count[0] == 9_000


def test_launches_from_several_threads_take_turns(pair: ThreadPool, kernels: LoadedCode) -> None:
    def many(groups: int) -> bool:
        marks = np.zeros(groups, np.uint8)
        for _ in range(20):
            pair.launch(kernels.address("mark"), marks.ctypes.data, groups, scratch=groups // 1_000)
        return bool((marks == 20).all())

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(many, [3_000_000, 5_000_000, 7_000_000, 11_000_000]))


def test_all_threads_work_at_once(pool: ThreadPool, kernels: LoadedCode) -> None:
    assert len(meet(pool, kernels, scratch=1)) == pool.threads


@pytest.mark.parametrize("size", [1, 128, 5_000, 3 << 20])
def test_each_thread_has_a_scratch_block_of_its_own(pool: ThreadPool, kernels: LoadedCode, size: int) -> None:
    blocks = meet(pool, kernels, scratch=size)
    assert all(address % 128 == 0 for address in blocks)
    assert all(after - before >= size for before, after in itertools.pairwise(blocks))
    for address in blocks:
        ctypes.memset(address, 0xFF, size)


def test_a_smaller_launch_reuses_the_scratch_blocks(pair: ThreadPool, kernels: LoadedCode) -> None:
    large = meet(pair, kernels, scratch=4_096)
    assert meet(pair, kernels, scratch=64) == large


def test_scratch_that_the_system_cannot_map_is_out_of_memory(pair: ThreadPool, kernels: LoadedCode) -> None:
    with pytest.raises(OutOfMemory, match="bytes"):
        pair.launch(kernels.address("mark"), 0, 0, scratch=1 << 60)


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="sets the x86 float mode")
def test_a_flush_to_zero_mode_of_the_caller_reaches_no_kernel(jit: HostJit, kernels: LoadedCode) -> None:
    args = np.zeros(3, np.int64)
    args[0] = 2
    floats = args.view(np.float32)
    floats[2] = np.finfo(np.float32).smallest_normal
    code = jit.load(jit.object_code(FLUSH_TO_ZERO), ["swap"])
    swap: Callable[[int], int] = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)(code.address("swap"))
    flushing, flags = 0x9FC0, 0x3F
    before = swap(flushing)
    try:
        pool = ThreadPool(jit, 2)  # its worker inherits the mode of this thread
        pool.launch(kernels.address("halve"), args.ctypes.data, 2)
        pool.close()
    finally:
        after = swap(before)
    assert after & ~flags == flushing
    assert floats.view(np.uint32)[3:5].tolist() == [1 << 22, 1 << 22]


@LINUX_ONLY
def test_idle_workers_block(jit: HostJit, kernels: LoadedCode) -> None:
    before = workers()
    pool = ThreadPool(jit, 2)
    (worker,) = set(workers()) - set(before)
    meet(pool, kernels)
    status = Path(f"/proc/self/task/{worker.native_id}/stat")
    deadline = time.monotonic() + 30
    while status.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < deadline
    pool.close()


def test_close_joins_the_workers_and_may_be_repeated(jit: HostJit) -> None:
    before = workers()
    pool = ThreadPool(jit, 3)
    assert len(workers()) == len(before) + 2
    pool.close()
    pool.close()
    assert workers() == before


def test_a_closed_pool_refuses_launches(jit: HostJit, kernels: LoadedCode) -> None:
    pool = ThreadPool(jit, 2)
    pool.close()
    with pytest.raises(DeviceError, match="closed"):
        pool.launch(kernels.address("mark"), 0, 0)


def test_a_forgotten_pool_ends_its_workers(jit: HostJit) -> None:
    before = workers()
    pool = ThreadPool(jit, 2)
    del pool
    gc.collect()
    assert workers() == before


def test_a_pool_needs_a_thread(jit: HostJit) -> None:
    with pytest.raises(DeviceError, match="at least 1"):
        ThreadPool(jit, 0)


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    imports = (
        "from portkit.backends.cpu.pool import ThreadPool",
        "from portkit.backends.toolkit.host_jit import HostJit",
    )
    prelude = "\n".join((*imports, ""))
    command = [sys.executable, "-W", "ignore", "-c", prelude + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_interpreter_may_exit_with_a_pool_open() -> None:
    finished = run_script("pool = ThreadPool(HostJit(), 3)")
    assert (finished.returncode, finished.stderr) == (0, "")


@LINUX_ONLY
def test_a_forked_child_refuses_launches_and_exits() -> None:
    finished = run_script("""
import os
from portkit.errors import DeviceError
pool = ThreadPool(HostJit(), 3)
if os.fork() == 0:
    try:
        pool.launch(0, 0, 0)
    except DeviceError as error:
        pool.close()
        os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
""")
    assert (finished.stdout, finished.stderr) == ("7\n", "")
