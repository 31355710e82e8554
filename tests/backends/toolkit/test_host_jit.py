"""The host JIT: what it compiles runs, keeps float results exact, and goes away on release."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from portkit.backends.cpu.pool import native_text
from portkit.backends.toolkit.host_jit import HostJit
from portkit.backends.toolkit.llvm import CodeGenerator, Effort
from portkit.errors import CompileError, InvalidHandle

ANSWER = "define i32 @kernel() { ret i32 42 }"
MUL_THEN_ADD = """
define float @kernel(float %a, float %b, float %c) {
  %product = fmul float %a, %b
  %sum = fadd float %product, %c
  ret float %sum
}
"""
ORDERED_SUM = """
define float @kernel(ptr %x, i64 %n) {
start:
  br label %next
next:
  %i = phi i64 [ 0, %start ], [ %j, %next ]
  %sum = phi float [ 0.0, %start ], [ %more, %next ]
  %p = getelementptr inbounds float, ptr %x, i64 %i
  %v = load float, ptr %p
  %more = fadd float %sum, %v
  %j = add i64 %i, 1
  %again = icmp ult i64 %j, %n
  br i1 %again, label %next, label %end
end:
  ret float %more
}
"""
USED_BEFORE_DEFINED = """
define i32 @kernel(i1 %c) {
start:
  br i1 %c, label %define, label %use
define:
  %x = add i32 1, 1
  br label %use
use:
  ret i32 %x
}
"""
EVERY_EFFORT = pytest.mark.parametrize("effort", Effort, ids=lambda effort: effort.name)


@pytest.fixture(scope="module")
def jit() -> HostJit:
    return HostJit()


@EVERY_EFFORT
def test_compiled_text_runs(jit: HostJit, effort: Effort) -> None:
    with jit.load(jit.object_code(ANSWER, effort)) as code:
        assert ctypes.CFUNCTYPE(ctypes.c_int32)(code.address("kernel"))() == 42


@EVERY_EFFORT
def test_a_product_and_a_sum_round_twice(jit: HostJit, effort: Effort) -> None:
    a = np.float32(1 + 2.0**-12)
    twice = a * a - np.float32(1 + 2.0**-11)
    assert twice == 0  # rounded once, 2**-24 remains
    with jit.load(jit.object_code(MUL_THEN_ADD, effort)) as code:
        kernel = ctypes.CFUNCTYPE(ctypes.c_float, *[ctypes.c_float] * 3)(code.address("kernel"))
        assert kernel(float(a), float(a), -(1 + 2.0**-11)) == twice


@EVERY_EFFORT
def test_a_float_sum_keeps_its_order(jit: HostJit, effort: Effort) -> None:
    x = np.resize(np.array([1e8, 1, -1e8, 1], np.float32), 4099)
    in_order = np.float32(0)
    for value in x:
        in_order += value
    with jit.load(jit.object_code(ORDERED_SUM, effort)) as code:
        kernel = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_void_p, ctypes.c_int64)(code.address("kernel"))
        assert kernel(x.ctypes.data, x.size) == in_order


def test_compiled_text_may_call_the_c_library(jit: HostJit) -> None:
    text = "declare i32 @abs(i32)\ndefine i32 @kernel() { %a = call i32 @abs(i32 -7)\n ret i32 %a }"
    with jit.load(jit.object_code(text)) as code:
        assert ctypes.CFUNCTYPE(ctypes.c_int32)(code.address("kernel"))() == 7


def test_assembly_names_the_function(jit: HostJit) -> None:
    assert "kernel:" in jit.assembly(ANSWER)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "parse.*expected top-level entity"),
        ("define i32 @kernel() { ret i64 0 }", "parse.*type"),
        ("define i32 @kernel() { ret i32 %x }", "parse.*undefined value"),
        (USED_BEFORE_DEFINED, "verify.*dominate"),
    ],
)
def test_bad_text_is_refused_in_llvms_words(jit: HostJit, text: str, words: str) -> None:
    with pytest.raises(CompileError, match=f"(?s){words}"):
        jit.object_code(text)


def test_a_missing_function_is_refused_when_loading(jit: HostJit) -> None:
    text = "declare i32 @portkit_missing()\ndefine i32 @kernel() { %a = call i32 @portkit_missing()\n ret i32 %a }"
    with pytest.raises(CompileError, match="does not have"):
        jit.load(jit.object_code(text))


def test_bytes_that_are_no_object_file_are_refused(jit: HostJit) -> None:
    with pytest.raises(CompileError, match="link"):
        jit.load(b"not an object file")


def test_a_name_that_was_not_exported_is_refused(jit: HostJit) -> None:
    with jit.load(jit.object_code(ANSWER)) as code, pytest.raises(InvalidHandle, match="other"):
        code.address("other")


def test_released_code_has_no_address(jit: HostJit) -> None:
    code = jit.load(jit.object_code(ANSWER))
    code.release()
    code.release()
    with pytest.raises(InvalidHandle, match="released"):
        code.address("kernel")


def test_code_outlives_the_compiler_that_loaded_it() -> None:
    jit = HostJit()
    code = jit.load(jit.object_code(ANSWER))
    del jit
    assert ctypes.CFUNCTYPE(ctypes.c_int32)(code.address("kernel"))() == 42


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_released_code_gives_its_memory_back(jit: HostJit) -> None:
    size, times = 1 << 20, 128
    code = jit.object_code(f"@block = global [{size} x i8] zeroinitializer")

    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE

    jit.load(code, ["block"]).release()
    before = mapped()
    for _ in range(times):
        jit.load(code, ["block"]).release()
    assert mapped() - before < size * times // 4


@pytest.mark.parametrize(
    ("processor", "triple", "features", "pause"),
    [
        ("x86_64", "x86_64-unknown-linux-gnu", "", "pause"),
        ("aarch64", "aarch64-unknown-linux-gnu", "", "isb"),
        ("arm64", "arm64-apple-macosx", "", "isb"),
        ("riscv64", "riscv64-unknown-linux-gnu", "+m,+a", "amoadd"),
    ],
)
def test_the_pools_native_half_compiles_for(processor: str, triple: str, features: str, pause: str) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(features=features)
    assert pause in CodeGenerator(machine).assembly(native_text(processor))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_compiling_keeps_no_memory() -> None:
    jit = HostJit()
    sums = "\n".join(f"  %a{n + 1} = fadd float %a{n}, 1.0" for n in range(100))
    text = f"define float @kernel(float %a0) {{\n{sums}\n  ret float %a100\n}}"
    jit.object_code(text)
    before, times = _resident_bytes(), 50
    for _ in range(times):
        jit.object_code(text)
    assert _resident_bytes() - before < times * 4 * len(text)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * mmap.PAGESIZE
