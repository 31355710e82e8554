"""What the passes share: writing a new kernel instruction by instruction from an old one.

A register of the old kernel becomes one or several *parts*, registers of the new one: the pieces of a vector, the words
of a 64-bit integer, the f32 that carries an f16. The type of a register fixes how many parts it has and of which types,
so that loops carry parts as they carried the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import prod
from typing import TypeAlias

from portkit.contract import Capabilities
from portkit.errors import UsageError
from portkit.spec.assemble import MAX_EXTENT, MAX_FACTORS, written_type
from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.kernel import Buffer, Extent, Instr, Kernel, Shared
from portkit.spec.types import DTYPES, DType, Type, encode

Parts: TypeAlias = tuple[Reg, ...]


class Output(Builder):
    """The kernel being written; constants of any lane count come first and are shared.

    Names of the old kernel stay taken, so that instructions may be copied as they are.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel.name, kernel.numeric)
        self._scalars = list(kernel.scalars)
        self._names = {*kernel.types, *kernel.memories}
        self._number = len(self._names)

    def _fresh(self, prefix: str) -> str:
        """Return a new name; numbers only grow, so that the search is short however many there are."""
        while f"{prefix}{self._number}" in self._names:
            self._number += 1
        return self._claim(f"{prefix}{self._number}")

    def fresh(self, prefix: str) -> str:
        """Return a name that is not taken."""
        return self._fresh(prefix)

    def declare(self, memory: Buffer | Shared) -> Mem:
        """Declare memory whose name is already taken."""
        if isinstance(memory, Buffer):
            self._buffers.append(memory)
        else:
            self._shared.append(memory)
        return Mem(memory.name, memory.dtype)

    def append(self, instr: Instr) -> None:
        """Append an instruction as it is."""
        self._body.append(instr)

    def finish(self) -> Kernel:
        """Return the kernel; its loops were closed by the instructions appended."""
        body = (*self._constants.values(), *self._body)
        return Kernel(
            self.name, tuple(self._buffers), tuple(self._scalars), tuple(self._shared), body, numeric=self.numeric
        )

    # --- shorthand, lane by lane ------------------------------------------------------------------------------------

    def pattern(self, dtype: DType, bits: int, lanes: int = 1) -> Reg:
        """Return a constant of the given bit pattern in every lane."""
        scalar = self.bits_const(dtype.name, bits)
        type_ = Type(dtype, lanes)
        if lanes > 1 and (type_, bits) not in self._constants:
            splat = Instr("mov.splat", result=self._fresh("c"), type=type_, args=(scalar.name,))
            self._constants[type_, bits] = splat
            self._known[splat.result] = bits
        return Reg(self._constants[type_, bits].result, type_)

    def number(self, value: float | int | bool, type_: Type) -> Reg:
        """Return the constant of a value in every lane; integers wrap."""
        dtype = type_.dtype
        bits = int(value) & ((1 << dtype.bits) - 1) if dtype.is_int else _encoded(dtype.name, repr(value))
        return self.pattern(dtype, bits, type_.lanes)

    def like(self, value: Reg | float, other: Reg) -> Reg:
        """Return `value` itself, or as a constant of the type of `other`."""
        return value if isinstance(value, Reg) else self.number(value, other.type)

    def plus(self, a: Reg, b: Reg | float) -> Reg:
        return self.op("add", a, self.like(b, a))

    def minus(self, a: Reg, b: Reg) -> Reg:
        """Return a - b, for floats and integers alike exact or rounded once."""
        return self.op("add", a, self.times(b, -1))

    def times(self, a: Reg, b: Reg | float) -> Reg:
        return self.op("mul", a, self.like(b, a))

    def high(self, a: Reg, b: Reg) -> Reg:
        return self.op("mul.hi", a, b)

    def left(self, a: Reg, n: Reg | int) -> Reg:
        return a if n == 0 else self.op("mul.shl", a, self.like(n, a))

    def right(self, a: Reg, n: Reg | int) -> Reg:
        return a if n == 0 else self.op("mul.shr", a, self.like(n, a))

    def both(self, a: Reg, b: Reg | int) -> Reg:
        return self.op("reduce.and", a, self.like(b, a))

    def either(self, a: Reg, b: Reg | int) -> Reg:
        return self.op("reduce.or", a, self.like(b, a))

    def differ(self, a: Reg, b: Reg | int) -> Reg:
        return self.op("reduce.xor", a, self.like(b, a))

    def least(self, a: Reg, b: Reg | int) -> Reg:
        return self.op("reduce.min", a, self.like(b, a))

    def most(self, a: Reg, b: Reg | int) -> Reg:
        return self.op("reduce.max", a, self.like(b, a))

    def if_less(self, a: Reg, b: Reg | float, x: Reg | int, y: Reg | int) -> Reg:
        """Return x where a < b, else y; literals take the type of the other, or of a."""
        return self._choose("phi.lt", a, b, x, y)

    def if_equal(self, a: Reg, b: Reg | float, x: Reg | int, y: Reg | int) -> Reg:
        """Return x where a == b, else y; literals take the type of the other, or of a."""
        return self._choose("phi.eq", a, b, x, y)

    def _choose(self, form: str, a: Reg, b: Reg | float, x: Reg | int, y: Reg | int) -> Reg:
        model = x if isinstance(x, Reg) else y if isinstance(y, Reg) else a
        return self.op(form, a, self.like(b, a), self.like(x, model), self.like(y, model))

    def less(self, a: Reg, b: Reg | float) -> Reg:
        """Return a < b as bool."""
        return self._truth_of("phi.lt", a, b)

    def equal(self, a: Reg, b: Reg | float) -> Reg:
        """Return a == b as bool."""
        return self._truth_of("phi.eq", a, b)

    def _truth_of(self, form: str, a: Reg, b: Reg | float) -> Reg:
        truths = (self.pattern(DTYPES["bool"], bit, a.type.lanes) for bit in (1, 0))
        return self.op(form, a, self.like(b, a), *truths)

    def where(self, condition: Reg, x: Reg | int, y: Reg | int) -> Reg:
        """Return x where a bool holds, else y; at least one of them is a register."""
        return self._choose("phi.eq", condition, self.pattern(DTYPES["bool"], 1, condition.type.lanes), x, y)

    def to(self, x: Reg, dtype: DType) -> Reg:
        """Return x cast to a dtype; itself where it has it."""
        return x if x.type.dtype == dtype else self.cast(x, x.type.with_dtype(dtype))

    def as_bits(self, x: Reg, dtype: DType) -> Reg:
        """Return the bits of x read as a dtype of the same size."""
        return x if x.type.dtype == dtype else self.bits(x, x.type.with_dtype(dtype))

    def lane_of(self, x: Reg, lane: int) -> Reg:
        return self.op("mov.lane", x, imms=(lane,))

    def pack(self, lanes: Parts) -> Reg:
        """Return a vector of its lanes; the lane itself for one."""
        return lanes[0] if len(lanes) == 1 else self.op("mov.pack", *lanes)


@cache
def _encoded(dtype: str, value: str) -> int:
    """Return the bits of a float or bool, given as text because 0.0 equals -0.0 and 1 equals True."""
    return encode(DTYPES[dtype], value == "True" if value in ("True", "False") else float(value))


class Rewrite:
    """A walk over the old kernel; a pass says what the forms that concern it become."""

    def __init__(self, kernel: Kernel, capabilities: Capabilities) -> None:
        self.kernel = kernel
        self.capabilities = capabilities
        self.types = kernel.types
        self.b = Output(kernel)
        self.made: dict[str, Parts] = {}
        """The parts of the registers that are not copied as they are."""
        self.memories = {m.name: self.b.declare(self.memory(m)) for m in kernel.memories.values()}

    def run(self) -> Kernel:
        """Return the new kernel."""
        self.walk(self.kernel.body)
        return self.b.finish()

    def walk(self, body: tuple[Instr, ...]) -> None:
        """Write what becomes of some instructions of the old kernel, in order."""
        for instr in body:
            self._step(instr)

    # --- what a pass overrides ----------------------------------------------------------------------------------------

    def memory(self, memory: Buffer | Shared) -> Buffer | Shared:
        """Return the declaration that takes the place of one of the old kernel."""
        return memory

    def rule(self, instr: Instr) -> Callable[[Instr], Parts] | None:
        """Return what writes an instruction and returns the parts of its result, if it has one; None to copy it."""
        raise NotImplementedError

    # --- what a pass uses ---------------------------------------------------------------------------------------------

    def parts(self, name: str) -> Parts:
        """Return the parts of a register."""
        return self.made.get(name) or (Reg(name, self.types[name]),)

    def one(self, name: str) -> Reg:
        """Return the only part of a register."""
        (part,) = self.parts(name)
        return part

    def again(self, instr: Instr, *args: Reg, type_: Type | None = None) -> Reg:
        """Write the same form on other operands, with memory, literals and the rest as in the old instruction."""
        gate, other = (self.one(name) if name else None for name in (instr.gate, instr.other))
        mems = tuple(self.memories[name] for name in instr.mems)
        written = type_ if written_type(instr) is not None else None
        return self.b.op(instr.name, *args, mems=mems, imms=instr.imms, type=written, gate=gate, other=other)

    # --- the walk -----------------------------------------------------------------------------------------------------

    def _step(self, instr: Instr) -> None:
        match instr.name:
            case "phi.carry":
                self._carry(instr)
            case "endloop":
                self._endloop(instr)
            case _:
                rule = self.rule(instr)
                if rule is None:
                    self._copy(instr)
                elif parts := rule(instr):
                    self.made[instr.result] = parts

    def _copy(self, instr: Instr) -> None:
        if self.made.keys().isdisjoint(instr.reads):
            self.b.append(instr)
            return
        names = tuple(self.one(name).name for name in instr.args)
        gate, other = (self.one(name).name if name else "" for name in (instr.gate, instr.other))
        self.b.append(replace(instr, args=names, gate=gate, other=other))

    def _carry(self, instr: Instr) -> None:
        inits = self.parts(instr.args[0])
        if len(inits) == 1 and inits[0].type == instr.type:
            self._copy(instr)
        else:
            self.made[instr.result] = tuple(self.b.op("phi.carry", init) for init in inits)

    def _endloop(self, instr: Instr) -> None:
        pairs = tuple(
            (carry.name, value.name)
            for name, given in instr.carries
            for carry, value in zip(self.parts(name), self.parts(given), strict=True)
        )
        self.b.append(replace(instr, args=(self.one(instr.args[0]).name,), carries=pairs))


class Retype(Rewrite):
    """A walk that carries the dtypes of a class that the device lacks in others."""

    dtypes: tuple[DType, ...] = ()

    def __init__(self, kernel: Kernel, capabilities: Capabilities) -> None:
        self._missing = {d.name for d in self.dtypes} - {*capabilities.dtypes}
        super().__init__(kernel, capabilities)
        registers = {name for name, type_ in self.types.items() if self.is_missing(type_.dtype)}
        self._concerned = registers.union(m.name for m in kernel.memories.values() if self.is_missing(m.dtype))

    @property
    def needed(self) -> bool:
        """Whether the kernel has a register or memory of a dtype that is missing."""
        return bool(self._concerned)

    def is_missing(self, dtype: DType) -> bool:
        """Return whether values of a dtype are carried in another."""
        return dtype.name in self._missing

    def concerns(self, instr: Instr) -> bool:
        """Return whether an instruction has an operand, a result or memory of a missing dtype."""
        found = self._concerned
        return instr.result in found or not (found.isdisjoint(instr.reads) and found.isdisjoint(instr.mems))


def scaled_extent(extent: Extent, factor: int) -> Extent:
    """Return an extent times a literal, in as many factors where one of them is a literal.

    Raises `UsageError` for an extent beyond what a kernel may declare (Spec: header_c3).
    """
    factors = list(extent.factors)
    literals = [place for place, old in enumerate(factors) if isinstance(old, int)]
    if literals:
        factors[literals[0]] = prod(f for f in factors if isinstance(f, int)) * factor
        factors = [f for place, f in enumerate(factors) if isinstance(f, str) or place == literals[0]]
    else:
        factors.append(factor)
    if len(factors) > MAX_FACTORS or any(isinstance(f, int) and f > MAX_EXTENT for f in factors):
        raise UsageError(f"{extent} elements of two words each are more than a buffer may have: split it")
    return Extent(tuple(factors))
