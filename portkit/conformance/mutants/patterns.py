"""Faults of a compiler that takes one pattern of instructions for another, or leaves a register too wide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from portkit.conformance.mutants.control import in_a_loop
from portkit.conformance.mutants.forms import again
from portkit.conformance.rewriting import Emitter, rewrite
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import BOOL, F16, F32, I32, U32, DType, Type

NARROW = 32
CROWDED = 5


def rotate_turns_the_other_way(kernel: Kernel) -> Kernel:
    """Take (x << n) | (x >> (32 - n)) for a rotation, and print the one to the right."""
    made = {i.result: i for i in kernel.body if i.result}

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name not in ("reduce.or", "add", "reduce.xor") or i.type != Type(U32):
            return False
        parts = [made.get(a) for a in i.args]
        shifts = {p.name: p for p in parts if p is not None and p.name in ("mul.shl", "mul.shr")}
        if len(shifts) != 2 or shifts["mul.shl"].args[0] != shifts["mul.shr"].args[0]:
            return False
        left, right = shifts["mul.shl"], shifts["mul.shr"]
        high = e.op("mul.shl", left.args[0], right.args[1])
        e.op("reduce.or", high, e.op("mul.shr", left.args[0], left.args[1]), result=i.result)
        return True

    return rewrite(kernel, expand)


def contracts_into_carries(kernel: Kernel) -> Kernel:
    """Fuse an f32 product into the sum that a serial loop carries."""
    carries = {i.result for i in kernel.body if i.name == "phi.carry"}
    products = {i.result: i for i in kernel.body if i.name == "mul" and i.type is not None and i.type.dtype is F32}

    def expand(i: Instr, e: Emitter) -> bool:
        fused = [a for a in i.args if a in products] if i.name == "add" else []
        others = [a for a in i.args if a in carries] if fused else []
        if not fused or not others:
            return False
        e.op("mul.add", *products[fused[0]].args, others[0], result=i.result)
        return True

    return rewrite(kernel, expand)


def contracts_in(dtype: DType) -> Callable[[Kernel], Kernel]:
    """Make the fault of fusing a product of a dtype into the sum that it feeds."""

    def fault(kernel: Kernel) -> Kernel:
        products = {
            i.result: i for i in kernel.body if i.name == "mul" and i.type is not None and i.type.dtype is dtype
        }

        def expand(i: Instr, e: Emitter) -> bool:
            fused = [a for a in i.args if a in products] if i.name == "add" else []
            if not fused:
                return False
            other = i.args[1] if i.args[0] == fused[0] else i.args[0]
            e.op("mul.add", *products[fused[0]].args, other, result=i.result)
            return True

        return rewrite(kernel, expand)

    fault.__doc__ = f"Fuse every {dtype} multiplication that feeds an addition into one mul.add."
    return fault


def unwrapped(
    form: str, wide: DType, wanted: Callable[[DType], bool], summary: str, read_by: tuple[str, ...] = ()
) -> Callable[[Kernel], Kernel]:
    """Make the fault of keeping a narrow sum or product in a wider register where the next instruction reads it.

    `read_by` are the forms of that instruction, by default all of them.
    """

    def fault(kernel: Kernel) -> Kernel:
        made = {
            i.result: i
            for i in kernel.body
            if i.name == form and i.type is not None and wanted(i.type.dtype) and i.type.lanes == 1
        }

        def widened(e: Emitter, register: str) -> str:
            i = made.get(register)
            return e.cast(register, wide.name) if i is None else e.op(i.name, *(e.cast(a, wide.name) for a in i.args))

        def expand(i: Instr, e: Emitter) -> bool:
            if i.type is None or not any(a in made for a in i.args) or (read_by and i.name not in read_by):
                return False
            if i.name == "mov.cast" and i.args[0] in made:
                e.op("mov.cast", widened(e, i.args[0]), type=i.type, result=i.result)
            elif i.name in ("phi.lt", "phi.eq") and set(i.args[:2]) & set(made):
                a, b = (widened(e, a) for a in i.args[:2])
                e.op(i.name, a, b, *i.args[2:], result=i.result)
            elif i.result in made:
                parts = [widened(e, a) for a in i.args]
                e.op("mov.cast", e.op(i.name, *parts), type=i.type, result=i.result)
            else:
                return False
            return True

        return rewrite(kernel, expand)

    fault.__doc__ = summary
    return fault


def narrow_integer(dtype: DType) -> bool:
    """Whether a dtype is an integer narrower than a register."""
    return dtype.is_int and dtype.bits < NARROW


def is_f16(dtype: DType) -> bool:
    """Whether a dtype is f16."""
    return dtype is F16


def late_groups_lose_atomics(kernel: Kernel) -> Kernel:
    """Lose the atomic stores of work-groups from the 64th on."""
    groups = [i.result for i in kernel.body if i.name == "loop.grid"]

    def expand(i: Instr, e: Emitter) -> bool:
        if not i.name.startswith("store.atomic.") or len(groups) != 1:
            return False
        yes, no = e.truth(1, value=True), e.truth(1, value=False)
        early = e.op("phi.lt", groups[0], e.const(Type(I32), 64), yes, no)
        e.out.append(replace(i, gate=e.op("reduce.and", early, i.gate) if i.gate else early))
        return True

    return rewrite(kernel, expand)


def looped_vectors_lag(kernel: Kernel) -> Kernel:
    """Give the last lane of a vector that is computed in a serial loop what the lane before holds."""
    inside = {i.result for k, i in enumerate(kernel.body) if i.result and in_a_loop(kernel, k)}

    def expand(i: Instr, e: Emitter) -> bool:
        if i.result not in inside or i.name not in ("mul.add", "add", "mul") or i.type is None or i.type.lanes < 2:
            return False
        right = again(i, e)
        from_lanes = [*range(i.type.lanes - 1), i.type.lanes - 2]
        parts: list[str] = []
        for k in from_lanes:
            name = e.fresh()
            e.out.append(Instr("mov.lane", result=name, type=i.type.scalar, args=(right,), imms=(k,)))
            e.types[name] = i.type.scalar
            parts.append(name)
        e.op("mov.pack", *parts, result=i.result)
        return True

    return rewrite(kernel, expand)


def chained_gates_lose_else(kernel: Kernel) -> Kernel:
    """Give zero where the gate of a load is closed whose index comes from another gated load."""
    gated = {i.result for i in kernel.body if i.name == "load" and i.gate}

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name != "load" or not i.gate or i.args[0] not in gated or i.type is None:
            return False
        e.out.append(replace(i, other=e.bits(i.type, 0)))
        return True

    return rewrite(kernel, expand)


def spilled_selects_swap(kernel: Kernel) -> Kernel:
    """Run out of registers in kernels with loops and values of five dtypes: selects of wide or float values swap."""
    dtypes = {t.dtype for t in kernel.types.values()}
    if len(dtypes) < CROWDED or not any(i.name == "loop.serial" for i in kernel.body):
        return kernel

    def expand(i: Instr, e: Emitter) -> bool:
        if i.name not in ("phi.lt", "phi.eq") or i.type is None or i.type.dtype in (I32, U32, BOOL):
            return False
        a, b, x, y = i.args
        e.out.append(replace(i, args=(a, b, y, x)))
        return True

    return rewrite(kernel, expand)
