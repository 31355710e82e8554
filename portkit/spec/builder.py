"""Writing kernels in Python.

b = Builder("axpy")
x, y = b.buffer("x", "f32", "n", "read"), b.buffer("y", "f32", "n", "readwrite")
n, a = b.scalar("n", "i32"), b.scalar("a", "f32")
g = b.grid(b.scalar("groups", "i32"))
l = b.lane(256)
i = b.add(b.mul(g, b.const("i32", 256)), l)
inside = b.lt(i, n)
zero = b.const("f32", 0.0)
t = b.add(b.mul(a, b.load(x, i, gate=inside, other=zero)), b.load(y, i, gate=inside, other=zero))
b.store(y, i, t, gate=inside)
kernel = b.build()
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

from portkit.errors import SpecError
from portkit.spec.forms import form as find_form
from portkit.spec.infer import infer
from portkit.spec.kernel import Access, Buffer, Extent, Instr, Kernel, Numeric, Scalar, Shared
from portkit.spec.types import DTYPES, I32, DType, Type, encode, parse_type


@dataclass(frozen=True, slots=True)
class Reg:
    """A register: its name and type."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Mem:
    """A buffer or a shared array: its name and element dtype."""

    name: str
    dtype: DType


@dataclass(slots=True)
class SerialLoop:
    """An open serial loop: its index, its carries by name, and the next values given so far."""

    index: Reg
    carries: dict[str, Reg]
    following: dict[str, Reg] = field(default_factory=dict[str, Reg])

    def __getitem__(self, carry: str) -> Reg:
        return self.carries[carry]

    def next(self, **values: Reg) -> None:
        """Give carries their next values."""
        self.following.update(values)


class Builder:
    """Collects the header and the instructions of one kernel; constants are placed first and shared."""

    def __init__(self, name: str, numeric: Numeric = "fast") -> None:
        self.name = name
        self.numeric: Numeric = numeric
        self._buffers: list[Buffer] = []
        self._scalars: list[Scalar] = []
        self._shared: list[Shared] = []
        self._constants: dict[tuple[Type, int], Instr] = {}
        self._known: dict[str, int] = {}
        self._body: list[Instr] = []
        self._nest: list[Reg] = []
        self._names: set[str] = set()

    # --- header ---------------------------------------------------------------------------------------------------

    def buffer(self, name: str, dtype: str, extent: int | str | tuple[int | str, ...], access: Access) -> Mem:
        """Declare a buffer; `extent` is a literal, a scalar's name, or a tuple of factors."""
        factors = extent if isinstance(extent, tuple) else (extent,)
        self._buffers.append(Buffer(self._claim(name), DTYPES[dtype], Extent(factors), access))
        return Mem(name, DTYPES[dtype])

    def scalar(self, name: str, dtype: str) -> Reg:
        """Declare a launch-time scalar, i32 or f32."""
        self._scalars.append(Scalar(self._claim(name), DTYPES[dtype]))
        return Reg(name, Type(DTYPES[dtype]))

    def shared(self, name: str, dtype: str, extent: int) -> Mem:
        """Declare an array that every work-group has one of."""
        self._shared.append(Shared(self._claim(name), DTYPES[dtype], extent))
        return Mem(name, DTYPES[dtype])

    # --- instructions ---------------------------------------------------------------------------------------------

    def const(self, dtype: str, value: float | int | bool | Fraction) -> Reg:
        """Return a register with a constant, rounded once to the dtype."""
        return self.bits_const(dtype, encode(DTYPES[dtype], value))

    def bits_const(self, dtype: str, bits: int) -> Reg:
        """Return a register with the constant of the given bit pattern."""
        type_ = Type(DTYPES[dtype])
        key = (type_, bits)
        if key not in self._constants:
            name = self._fresh("c")
            self._constants[key] = Instr("mov.const", result=name, type=type_, imms=(bits,))
            self._known[name] = bits
        return Reg(self._constants[key].result, type_)

    def op(
        self,
        name: str,
        *args: Reg,
        mems: tuple[Mem, ...] = (),
        imms: tuple[int, ...] = (),
        type: Type | str | None = None,
        gate: Reg | None = None,
        other: Reg | None = None,
        result: str = "",
    ) -> Reg:
        """Append any form; `type` is the written result type where the form has one.

        Raises `SpecError` where the operand types do not fit the signature.
        """
        found = find_form(name)
        explicit = parse_type(type) if isinstance(type, str) else type
        inferred = infer(found, [a.type for a in args], [m.dtype for m in mems], explicit)
        target = (self._claim(result) if result else self._fresh("t")) if inferred is not None else ""
        self._body.append(
            Instr(
                name,
                result=target,
                type=inferred,
                args=tuple(a.name for a in args),
                mems=tuple(m.name for m in mems),
                imms=imms,
                gate=gate.name if gate else "",
                other=other.name if other else "",
            )
        )
        return Reg(target, inferred if inferred is not None else Type(I32))

    def add(self, a: Reg, b: Reg) -> Reg:
        return self.op("add", a, b)

    def mul(self, a: Reg, b: Reg) -> Reg:
        return self.op("mul", a, b)

    def fma(self, a: Reg, b: Reg, c: Reg) -> Reg:
        return self.op("mul.add", a, b, c)

    def lt(self, a: Reg, b: Reg, x: Reg | None = None, y: Reg | None = None) -> Reg:
        """Return x where a < b, else y; without x and y the comparison itself as bool."""
        return self._select("phi.lt", a, b, x, y)

    def eq(self, a: Reg, b: Reg, x: Reg | None = None, y: Reg | None = None) -> Reg:
        """Return x where a == b, else y; without x and y the comparison itself as bool."""
        return self._select("phi.eq", a, b, x, y)

    def _select(self, name: str, a: Reg, b: Reg, x: Reg | None, y: Reg | None) -> Reg:
        yes = x or self._truth(True, a.type.lanes)
        no = y or self._truth(False, a.type.lanes)
        return self.op(name, a, b, yes, no)

    def _truth(self, value: bool, lanes: int) -> Reg:
        scalar = self.const("bool", value)
        return scalar if lanes == 1 else self.splat(scalar, lanes)

    def cast(self, x: Reg, type: Type | str) -> Reg:
        return self.op("mov.cast", x, type=type)

    def bits(self, x: Reg, type: Type | str) -> Reg:
        return self.op("mov.bits", x, type=type)

    def splat(self, x: Reg, lanes: int) -> Reg:
        """Return a vector with `x` in each of `lanes` lanes (`x` itself for one lane)."""
        if lanes == 1:
            return x
        result = self.op("mov.splat", x, type=Type(x.type.dtype, lanes))
        if x.name in self._known:
            self._known[result.name] = self._known[x.name]
        return result

    def constant(self, x: Reg) -> int | None:
        """Return the bit pattern that each lane of `x` is known to have, None for what is no constant."""
        return self._known.get(x.name)

    def load(self, mem: Mem, index: Reg, gate: Reg | None = None, other: Reg | None = None) -> Reg:
        """Load an element, or a gather where the index is a vector."""
        name = "load" if index.type.lanes == 1 else "load.gather"
        return self.op(name, index, mems=(mem,), gate=gate, other=other)

    def load_vec(
        self, mem: Mem, index: Reg, lanes: int, align: int = 0, gate: Reg | None = None, other: Reg | None = None
    ) -> Reg:
        """Load contiguous elements; `align` in bytes, by default the element size."""
        type_ = Type(mem.dtype, lanes)
        return self.op(
            "load.vec", index, mems=(mem,), imms=(align or mem.dtype.bytes,), type=type_, gate=gate, other=other
        )

    def store(self, mem: Mem, index: Reg, value: Reg, gate: Reg | None = None) -> None:
        """Store an element, or scatter where the index is a vector."""
        name = "store" if index.type.lanes == 1 else "store.scatter"
        self.op(name, index, value, mems=(mem,), gate=gate)

    def store_vec(self, mem: Mem, index: Reg, value: Reg, align: int = 0, gate: Reg | None = None) -> None:
        """Store contiguous elements; `align` in bytes, by default the element size."""
        self.op("store.vec", index, value, mems=(mem,), imms=(align or mem.dtype.bytes,), gate=gate)

    def async_copy(self, target: Mem, at: Reg, source: Mem, start: Reg, count: int) -> Reg:
        """Start an asynchronous copy of `count` elements from global to shared memory; returns its token."""
        return self.op("load.async", at, start, mems=(target, source), imms=(count,))

    def wait(self, token: Reg) -> None:
        self.op("wait.token", token)

    def barrier(self) -> None:
        self.op("barrier")

    # --- loops ----------------------------------------------------------------------------------------------------

    def grid(self, count: int | Reg, name: str = "") -> Reg:
        """Open a grid loop and return its index; it is closed by `build`."""
        return self._open("loop.grid", count, name)

    def lane(self, count: int, name: str = "") -> Reg:
        """Open a lane loop and return its index; it is closed by `build`."""
        return self._open("loop.lane", count, name)

    def _open(self, form: str, count: int | Reg, name: str) -> Reg:
        index = self._loop(form, count, name)
        self._nest.append(index)
        return index

    def _loop(self, form: str, count: int | Reg, name: str = "") -> Reg:
        if isinstance(count, Reg):
            return self.op(form, count, result=name)
        return self.op(form, imms=(count,), result=name)

    @contextmanager
    def serial(self, count: int | Reg, **carries: Reg) -> Generator[SerialLoop]:
        """Open a serial loop with carries given their initial values; every carry needs a `next`."""
        index = self._loop("loop.serial", count)
        loop = SerialLoop(index, {name: self._carry(name, init) for name, init in carries.items()})
        yield loop
        missing = loop.carries.keys() ^ loop.following.keys()
        if missing:
            raise SpecError(
                f"carries without a next value, or the reverse: {', '.join(sorted(missing))}", clause="endloop_c1"
            )
        pairs = tuple((loop.carries[name].name, loop.following[name].name) for name in loop.carries)
        self._body.append(Instr("endloop", args=(index.name,), carries=pairs))

    def _carry(self, name: str, init: Reg) -> Reg:
        return self.op("phi.carry", init, result="" if name in self._names else name)

    def build(self) -> Kernel:
        """Close the nest and return the kernel."""
        ends = [Instr("endloop", args=(index.name,)) for index in reversed(self._nest)]
        body = (*self._constants.values(), *self._body, *ends)
        return Kernel(
            self.name, tuple(self._buffers), tuple(self._scalars), tuple(self._shared), body, numeric=self.numeric
        )

    # --- names ----------------------------------------------------------------------------------------------------

    def _claim(self, name: str) -> str:
        if name in self._names:
            raise SpecError(f"{name} is already defined", clause="header_c2")
        self._names.add(name)
        return name

    def _fresh(self, prefix: str) -> str:
        number = len(self._names)
        while f"{prefix}{number}" in self._names:
            number += 1
        return self._claim(f"{prefix}{number}")
