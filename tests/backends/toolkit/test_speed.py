"""What fast kernels rely on, read off the machine code of a processor with wide vectors."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import pytest

from portkit.backends.toolkit.llvm import CodeGenerator
from portkit.backends.toolkit.llvm_kernel import Target, print_kernel
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

ROWS, VECTORS, LANES = 12, 2, 16


@pytest.fixture(scope="module")
def wide() -> CodeGenerator:
    """Generates code for x86-64 with AVX-512, on any host."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    return CodeGenerator(target.create_target_machine(cpu="x86-64-v4", reloc="pic"))


def assembly(generator: CodeGenerator, kernel: Kernel) -> str:
    return generator.assembly(print_kernel(kernel, Target(native_half=True)).text)


def register_tile() -> Kernel:
    """A tile of accumulators as carries: C += A B with A read unpacked and B packed in shared memory."""
    b = Builder("tile")
    a, panel = b.buffer("a", "f32", ROWS * 256, "read"), b.shared("panel", "f32", 256 * VECTORS * LANES)
    c = b.buffer("c", "f32", ROWS * VECTORS * LANES, "readwrite")
    b.grid(1)
    b.lane(1)
    at = [b.const("i32", place * LANES) for place in range(ROWS * VECTORS)]
    start = {f"s{i}": b.load_vec(c, place, LANES, 64) for i, place in enumerate(at)}
    with b.serial(256, **start) as loop:
        first = b.mul(loop.index, b.const("i32", VECTORS * LANES))
        columns = [b.load_vec(panel, b.add(first, at[v]), LANES, 64) for v in range(VECTORS)]
        for row in range(ROWS):
            element = b.splat(b.load(a, b.add(loop.index, b.const("i32", row * 256))), LANES)
            for v, column in enumerate(columns):
                name = f"s{row * VECTORS + v}"
                loop.next(**{name: b.fma(element, column, loop[name])})
    for i, place in enumerate(at):
        b.store_vec(c, place, loop[f"s{i}"], 64)
    return b.build()


def axpy() -> Kernel:
    b = Builder("axpy")
    n, factor = b.scalar("n", "i32"), b.scalar("factor", "f32")
    x, y = b.buffer("x", "f32", "n", "read"), b.buffer("y", "f32", "n", "readwrite")
    at = b.add(b.mul(b.grid(b.scalar("groups", "i32")), b.const("i32", 256)), b.lane(256))
    inside, zero = b.lt(at, n), b.const("f32", 0.0)
    product = b.mul(factor, b.load(x, at, gate=inside, other=zero))
    b.store(y, at, b.add(product, b.load(y, at, gate=inside, other=zero)), gate=inside)
    return b.build()


def test_a_tile_of_24_accumulators_stays_in_registers(wide: CodeGenerator) -> None:
    text = assembly(wide, register_tile())
    assert len(re.findall(r"vfmadd\w+ps\s.*%zmm", text)) == ROWS * VECTORS
    assert not re.findall(r"zmm.*\(%rsp\)|\(%rsp\).*zmm", text)


def test_the_lanes_of_a_gated_kernel_become_vectors(wide: CodeGenerator) -> None:
    text = assembly(wide, axpy())
    assert re.findall(r"vmulps\s.*%[yz]mm", text)
    assert "vfmadd" not in text
