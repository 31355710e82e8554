"""Fake backends that declare what they do not do: the cpu backend's device is given other kernels than they are."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from msgspec import structs

from portkit.contract import Executable, Limits, NumericLimits
from portkit.errors import CompileError
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import F32, F64, I32, U32, Type
from tests.fakes.evaluator import FakeBackend
from tests.fakes.host import BASE, CPU

Rewrite = Callable[[Kernel], Kernel]


class RewritesKernels:
    """The cpu backend's device, each kernel rewritten on its way to it."""

    thread_safe = False

    def __init__(self, rewrite: Rewrite) -> None:
        self._device: Any = CPU.open()
        self._rewrite = rewrite

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def compile(self, kernel: Kernel) -> Executable:
        return self._device.compile(self._rewrite(kernel))


def _body(kernel: Kernel, body: Iterator[Instr]) -> Kernel:
    return dataclasses.replace(kernel, body=tuple(body))


def flushes(kernel: Kernel) -> Kernel:
    """Make zero of every sum and product of f32 that is subnormal."""
    constants = (("flush_mask", 0x7FFFFFFF), ("flush_sign", 0x80000000), ("flush_least", 0x00800000))
    head = [Instr("mov.const", result=name, type=Type(I32), imms=(bits,)) for name, bits in constants]
    return _body(kernel, iter([*head, *(new for instr in kernel.body for new in _flushed(instr))]))


def _flushed(instr: Instr) -> Iterator[Instr]:
    if instr.name not in ("add", "mul") or instr.type != Type(F32):
        yield instr
        return
    names = [f"{instr.result}_{part}" for part in ("exact", "bits", "size", "sign", "kept")]
    exact, bits, size, sign, kept = names
    yield dataclasses.replace(instr, result=exact)
    yield Instr("mov.bits", result=bits, type=Type(I32), args=(exact,))
    yield Instr("reduce.and", result=size, type=Type(I32), args=(bits, "flush_mask"))
    yield Instr("reduce.and", result=sign, type=Type(I32), args=(bits, "flush_sign"))
    yield Instr("phi.lt", result=kept, type=Type(I32), args=(size, "flush_least", sign, bits))
    yield Instr("mov.bits", result=instr.result, type=Type(F32), args=(kept,))


def contracts(kernel: Kernel) -> Kernel:
    """Fuse each product of f32 into the sum that follows it."""
    products = {i.result: i.args for i in kernel.body if i.name == "mul" and i.type == Type(F32)}

    def fused(instr: Instr) -> Instr:
        if instr.name != "add" or instr.args[0] not in products:
            return instr
        return dataclasses.replace(instr, name="mul.add", args=(*products[instr.args[0]], instr.args[1]))

    return _body(kernel, map(fused, kernel.body))


def reassociates(kernel: Kernel) -> Kernel:
    """Compute (a + b) + c as (a + c) + b."""
    body = list(kernel.body)
    places = {instr.result: at for at, instr in enumerate(body) if instr.name == "add" and instr.type == Type(F32)}
    for at, instr in enumerate(body):
        inner = places.get(instr.args[0]) if instr.result in places else None
        if inner is not None:
            (a, b), c = body[inner].args, instr.args[1]
            if b != c and c in {i.result for i in body[:inner]}:
                body[inner] = dataclasses.replace(body[inner], args=(a, c))
                body[at] = dataclasses.replace(instr, args=(instr.args[0], b))
    return _body(kernel, iter(body))


def ignores_nan(kernel: Kernel) -> Kernel:
    """Take the other operand of max and min where one is NaN."""

    def chosen(instr: Instr) -> Instr:
        if instr.name not in ("reduce.max", "reduce.min") or instr.type != Type(F32):
            return instr
        a, b = instr.args
        order = (a, b) if instr.name == "reduce.max" else (b, a)
        return dataclasses.replace(instr, name="phi.lt", args=(*order, b, a))

    return _body(kernel, map(chosen, kernel.body))


def small(kernel: Kernel) -> Kernel:
    """Refuse more than 300 lanes, 20 KiB of shared memory or 10 buffers."""
    asked = (("lanes", kernel.lanes, 300), ("buffers", len(kernel.buffers), 10))
    asked += (("shared bytes", sum(s.extent * s.dtype.bytes for s in kernel.shared), 20 << 10),)
    for what, count, most in asked:
        if count > most:
            raise CompileError(f"vendor: {count} {what}, {most} fit")
    return kernel


def wraps(kernel: Kernel) -> Kernel:
    """Convert f32 to u32 by way of i32, so that negative numbers wrap."""
    unsigned = Type(U32)

    def by_way(instr: Instr) -> Iterator[Instr]:
        if instr.name == "mov.cast" and instr.type == unsigned and kernel.types[instr.args[0]] == Type(F32):
            between = f"{instr.result}_signed"
            yield dataclasses.replace(instr, result=between, type=Type(I32))
            instr = dataclasses.replace(instr, args=(between,))
        yield instr

    return _body(kernel, (new for instr in kernel.body for new in by_way(instr)))


def has_no_infinity(kernel: Kernel) -> Kernel:
    """Give the largest finite number where a sum or product of f32 would be infinite."""
    largest = Instr("mov.const", result="largest", type=Type(F32), imms=(0x7F7FFFFF,))

    def saturated(instr: Instr) -> Iterator[Instr]:
        if instr.name not in ("add", "mul") or instr.type != Type(F32):
            yield instr
            return
        exact = f"{instr.result}_exact"
        yield dataclasses.replace(instr, result=exact)
        yield Instr("reduce.min", result=instr.result, type=Type(F32), args=(exact, "largest"))

    return _body(kernel, iter([largest, *(new for instr in kernel.body for new in saturated(instr))]))


def adds_f64_wrongly(kernel: Kernel) -> Kernel:
    """Multiply where f64 is to be added, which nobody declares."""
    wide = Type(F64)
    return _body(
        kernel, (dataclasses.replace(i, name="mul") if i.name == "add" and i.type == wide else i for i in kernel.body)
    )


def without_i64(kernel: Kernel) -> Kernel:
    """Refuse i64, and never end for an atomic minimum."""
    if any(b.dtype.name == "i64" for b in kernel.buffers):
        raise CompileError("vendor: unknown type long")
    if any(i.name == "store.atomic.min" for i in kernel.body):
        time.sleep(3600)
    return kernel


def _fake(rewrite: Rewrite, **declared: Any) -> FakeBackend:
    return FakeBackend(partial(RewritesKernels, rewrite), structs.replace(BASE, **declared))


FLUSHES = _fake(flushes)
CONTRACTS = _fake(contracts, numeric=NumericLimits(strict=True))
REASSOCIATES = _fake(reassociates)
NONSENSE_F64 = _fake(adds_f64_wrongly)
WRAPS = _fake(wraps)
HAS_NO_INFINITY = _fake(has_no_infinity)
IGNORES_NAN = _fake(ignores_nan)
SMALL = _fake(small, limits=Limits(lanes=1024, shared_bytes=32 << 10, buffers=16, buffer_bytes=1 << 20))
WITHOUT_I64 = _fake(
    without_i64,
    dtypes=(*BASE.dtypes, "i64"),
    extensions=("fma", "atomic"),
    atomic={"add": ("i32",), "min": ("i32",)},
)
HONEST = _fake(lambda kernel: kernel, limits=Limits(buffer_bytes=1 << 20))
MODEST = _fake(lambda kernel: kernel, numeric=NumericLimits(subnormals={"f32": "flush"}))
