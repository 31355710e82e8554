"""Programs as bytes: what is read back is equal in every part; what is no program is none."""

from __future__ import annotations

import random

import pytest

from portkit.compiler.index import Axis, Index, Variable, maximum, minimum
from portkit.compiler.program import Launch, Program, Slot
from portkit.compiler.serial import FORMAT, from_bytes, to_bytes
from portkit.compiler.storage import Storage
from portkit.errors import HarnessError
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel
from portkit.spec.types import BOOL, F32, I64, U8, U32
from tests.spec.random_kernels import random_kernel

N, M = Variable("n", 1, 100), Variable("m", 0, 7)


def again(program: Program) -> Program:
    found = from_bytes(to_bytes(program))
    assert found is not None
    return found[0]


def of_kernels(*kernels: Kernel) -> Program:
    return Program(tuple(Launch(kernel, (), ()) for kernel in kernels), (), (), ())


def kernel() -> Kernel:
    b = Builder("small")
    b.grid(1)
    b.lane(1)
    return b.build()


def parts(program: Program) -> tuple[object, ...]:
    return (program.launches, program.slots, program.inputs, program.outputs)


@pytest.mark.parametrize("seed", range(60))
def test_a_kernel_comes_back_equal(seed: int) -> None:
    first = random_kernel(random.Random(seed))
    assert again(of_kernels(first)).launches[0].kernel == first


def test_a_kernel_of_many_launches_comes_back_as_one() -> None:
    one, other = kernel(), random_kernel(random.Random(1))
    launches = again(of_kernels(one, other, one)).launches
    assert launches[0].kernel is launches[2].kernel
    assert [launch.kernel for launch in launches] == [one, other, one]


def test_slots_launches_and_notes_come_back_equal() -> None:
    slots = (
        Slot(400, "input", F32, (10, 10), Storage(F32)),
        Slot(4 * N, "temporary", BOOL, (N, 1), Storage(U8, native=False)),
        Slot(8 * N * M, "output", I64, (N, M), Storage(U32, 2, native=False)),
    )
    launches = (
        Launch(kernel(), (3, N + 1), (0, 1, 2), (N, 2, 0.5, float("inf"))),
        Launch(kernel(), (), (2,)),
    )
    program = Program(launches, slots, (0,), (2, 0, 2))
    found = from_bytes(to_bytes(program, (3, 1, 2)))
    assert found is not None
    assert parts(found[0]) == parts(program)
    assert found[1] == (3, 1, 2)


@pytest.mark.parametrize(
    "expression",
    [
        N,
        N + 1,
        3 * N - 2 * M + 5,
        N * M,
        N * N * M,
        (N + 3) // 4,
        (N + 3) // (M + 1),
        (N * 5) % 7,
        minimum(N, M),
        maximum(minimum(N, 50), M * 3),
        ((N + 3) // 4 * 4 + M) * minimum(N, 9) % 11,
    ],
    ids=str,
)
def test_an_expression_comes_back_as_the_same(expression: Index) -> None:
    program = Program((Launch(kernel(), (expression,), (), (expression,)),), (), (), ())
    (launch,) = again(program).launches
    assert launch.grid == launch.scalars == (expression,)


def test_an_expression_over_an_axis_is_no_part_of_a_program() -> None:
    with pytest.raises(HarnessError, match="not known at launch"):
        to_bytes(Program((Launch(kernel(), (Axis(5, "i") + 1,), ()),), (), (), ()))


def test_bytes_of_another_format_are_no_program() -> None:
    data = to_bytes(of_kernels(kernel()))
    assert data[1] == FORMAT
    for other in (b"", data[:-1], data + b"\0", data[:1] + bytes([FORMAT + 1]) + data[2:], b"\xc0", b"\xff" * 40):
        assert from_bytes(other) is None
