"""Random kernels on a device that draws every free choice: what it computes is always admitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.reference.bounds import NumericModel, bounds
from portkit.reference.generator import Stream, stream
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.types import DTYPES
from tests.reference import wild
from tests.reference.floats import draw

LANES = 16
GROUPS = 3
STEPS = 14


class _Writer:
    """Writes a random kernel of one float dtype: a growing pool of float and integer registers."""

    def __init__(self, draws: Stream, dtype: str) -> None:
        self.draws, self.dtype = draws, dtype
        self.b = b = Builder("random")
        self.x = b.buffer("x", dtype, GROUPS * LANES, "read")
        self.shared: list[Mem] = []
        self.group = b.grid(GROUPS)
        self.lane = b.lane(LANES)
        self.index = b.add(b.mul(self.group, b.const("i32", LANES)), self.lane)
        self.floats = [b.load(self.x, self.index), b.const(dtype, 0.75), b.const(dtype, -0.0)]
        self.integers = [self.lane, self.index, b.const("i32", 3)]

    def pick(self, choices: list[Any]) -> Any:
        return choices[int(self.draws.integers(0, len(choices) - 1, 1)[0])]

    def f(self) -> Reg:
        recent = self.floats[-4:] if self.draws.bits(1)[0] & 1 else self.floats
        return self.pick(recent)

    def i(self) -> Reg:
        return self.pick(self.integers)

    def step(self) -> None:
        self.pick(_STEPS)(self)

    def kernel(self) -> Kernel:
        for _ in range(STEPS):
            self.step()
        size = GROUPS * LANES
        for k, value in enumerate(self.floats[-6:]):
            self.b.store(self.b.buffer(f"f{k}", self.dtype, size, "write"), self.index, value)
        for k, value in enumerate(self.integers[-4:]):
            self.b.store(self.b.buffer(f"i{k}", "i32", size, "write"), self.index, value)
        return self.b.build()


def _float(form: str, operands: int) -> Callable[[_Writer], None]:
    return lambda w: w.floats.append(w.b.op(form, *(w.f() for _ in range(operands))))


def _same(form: str) -> Callable[[_Writer], None]:
    def step(w: _Writer) -> None:
        x = w.f()
        w.floats.append(w.b.op(form, *[x] * (3 if form == "mul.add" else 2)))

    return step


def _integer(form: str) -> Callable[[_Writer], None]:
    return lambda w: w.integers.append(w.b.op(form, w.i(), w.i()))


def _select(form: str, kind: str) -> Callable[[_Writer], None]:
    def step(w: _Writer) -> None:
        a, b = (w.f(), w.f()) if w.draws.bits(1)[0] & 1 else (w.i(), w.i())
        own = a.type.dtype.is_float and kind == "floats" and w.draws.bits(1)[0] & 1
        x, y = w.pick([(a, b), (b, a)]) if own else ((w.f(), w.f()) if kind == "floats" else (w.i(), w.i()))
        getattr(w, kind).append(w.b.op(form, a, b, x, y))

    return step


def _to_integer(w: _Writer) -> None:
    w.integers.append(w.b.cast(w.f(), "i32"))


def _to_float(w: _Writer) -> None:
    w.floats.append(w.b.cast(w.i(), w.dtype))


def _through(other: str) -> Callable[[_Writer], None]:
    return lambda w: w.floats.append(w.b.cast(w.b.cast(w.f(), other), w.dtype))


def _gather(w: _Writer) -> None:
    place = w.b.op("reduce.and", w.i(), w.b.const("i32", 15))
    w.floats.append(w.b.load(w.x, place))


def _exchange(w: _Writer) -> None:
    b, array = w.b, w.b.shared(f"s{len(w.shared)}", w.dtype, LANES)
    w.shared.append(array)
    b.store(array, w.lane, w.f())
    b.barrier()
    w.floats.append(b.load(array, b.op("reduce.xor", w.lane, b.const("i32", 1))))


def _gated(w: _Writer) -> None:
    b, array = w.b, w.b.shared(f"s{len(w.shared)}", w.dtype, LANES)
    w.shared.append(array)
    b.store(array, w.lane, w.f())
    b.store(array, w.lane, w.f(), gate=b.lt(w.f(), w.f()))
    w.floats.append(b.load(array, w.lane, gate=b.lt(w.i(), w.i()), other=w.f()))


def _loop(w: _Writer) -> None:
    b = w.b
    count = b.op("reduce.and", w.i(), b.const("i32", 3))
    factor = w.f()
    with b.serial(count, total=w.f(), steps=w.i()) as loop:
        loop.next(total=b.fma(loop["total"], factor, w.f()), steps=b.add(loop["steps"], w.i()))
    w.floats.append(loop["total"])
    w.integers.append(loop["steps"])


def _best(kind: str) -> Callable[[_Writer], None]:
    """Look a value up in the extreme of its group: argmax and argmin."""

    def step(w: _Writer) -> None:
        value = w.f()
        best = w.b.op(f"reduce.group.{kind}", value)
        w.integers.append(w.b.op("reduce.group.min", w.b.eq(value, best, w.lane, w.b.const("i32", LANES))))
        w.floats.append(best)

    return step


_STEPS: list[Callable[[_Writer], None]] = [
    *(_float(form, n) for form, n in (("add", 2), ("mul", 2), ("mul.add", 3), ("reduce.max", 3), ("reduce.min", 2))),
    *(_float(f"mov.{kind}", 1) for kind in ("recip", "sqrt", "rsqrt", "exp2", "log2", "sin", "trunc")),
    *(_float(f"reduce.group.{kind}", 1) for kind in ("add", "mul", "max", "min", "add")),
    *(_same(form) for form in ("add", "mul", "mul.add")),
    *(_integer(form) for form in ("add", "mul", "reduce.min", "mul.shr", "reduce.xor")),
    *(_select(form, kind) for form in ("phi.lt", "phi.eq", "phi.lt") for kind in ("floats", "integers")),
    _best("max"), _best("min"),
    _to_integer, _to_float, _through("f16"), _through("f64"), _gather, _exchange, _gated, _loop,
]  # fmt: skip


@pytest.mark.parametrize("flush", [False, True], ids=["preserve", "flush"])
@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tame=st.booleans())
def test_every_outcome_of_a_random_kernel_is_admitted(dtype: str, flush: bool, seed: int, tame: bool) -> None:
    draws = stream(f"random kernel/{dtype}/{seed}")
    kernel = _Writer(draws, dtype).kernel()
    numpy, size = DTYPES[dtype].numpy, GROUPS * LANES
    x = (draws.floats(size) * 4 - 2).astype(numpy) if tame else draw(draws, DTYPES[dtype], size)
    flushed = frozenset({dtype}) if flush else frozenset[str]()
    admitted = bounds(kernel, {}, {"x": x}, NumericModel(flush=flushed))
    for _ in range(3):
        outcome = wild.run(kernel, {"x": x}, draws, flushed)
        for name, values in outcome.items():
            refused = ~admitted[name].accepts(values)
            assert not refused.any(), _explain(kernel, name, admitted[name], values, int(refused.argmax()))


def _explain(kernel: Kernel, name: str, of: Any, values: Any, place: int) -> str:
    return f"{name}[{place}] = {values[place]!r}, admitted {of.describe(place)}\n{format_kernel(kernel)}"
