"""What the text and the JSON reader share: names are looked up, result types derived, parts collected to a kernel.

Every failure is a `SpecError` with its clause; the readers add the position.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from portkit.errors import SpecError
from portkit.spec.forms import CLASSES, Role
from portkit.spec.infer import infer
from portkit.spec.kernel import Access, Buffer, Extent, Instr, Kernel, Numeric, Scalar, Shared
from portkit.spec.names import check_name, near, show
from portkit.spec.types import DTYPES, DType, Type

MAX_INSTRUCTIONS = 100_000
MAX_DEPTH = 64
MAX_DECLARATIONS = 1024
MAX_BYTES = 32 << 20
MAX_FACTORS = 16
MAX_EXTENT = 2**31 - 1


def find_dtype(name: str, clause: str, members: str) -> DType:
    """Return a dtype of the class `members`; raises `SpecError` with the clause that restricts it."""
    if name in CLASSES[members]:
        return DTYPES[name]
    if name in DTYPES:
        raise SpecError(f"{name} is not possible here, expected one of {' '.join(CLASSES[members])}", clause=clause)
    raise SpecError(f"unknown dtype {show(name)}{near(name, DTYPES)}", clause="type_c1")


class Assembler:
    """Collects declarations and instructions in order and knows the type of every name so far."""

    def __init__(self) -> None:
        self.name = ""
        self.numeric: Numeric = "fast"
        self.types: dict[str, Type] = {}
        self.memories: dict[str, Buffer | Shared] = {}
        self._buffers: list[Buffer] = []
        self._scalars: list[Scalar] = []
        self._shared: list[Shared] = []
        self._body: list[Instr] = []

    def buffer(self, name: str, dtype: str, factors: Iterable[int | str], access: Access) -> None:
        extent = Extent(tuple(islice(factors, MAX_FACTORS + 1)))
        if not 1 <= len(extent.factors) <= MAX_FACTORS:
            raise SpecError(f"an extent has 1 to {MAX_FACTORS} factors", clause="header_c3")
        buffer = Buffer(self._claim(name), find_dtype(dtype, "header_c5", "number"), extent, access)
        self._buffers.append(buffer)
        self.memories[name] = buffer

    def scalar(self, name: str, dtype: str) -> None:
        scalar = Scalar(self._claim(name), find_dtype(dtype, "header_c4", "scalar"))
        self._scalars.append(scalar)
        self.types[name] = Type(scalar.dtype)

    def shared(self, name: str, dtype: str, extent: int) -> None:
        shared = Shared(self._claim(name), find_dtype(dtype, "header_c5", "number"), extent)
        self._shared.append(shared)
        self.memories[name] = shared

    def append(self, instr: Instr, explicit: Type | None) -> Type | None:
        """Add an instruction, derive its type and return it; `explicit` is the written result type."""
        if len(self._body) >= MAX_INSTRUCTIONS:
            raise SpecError(f"a kernel has at most {MAX_INSTRUCTIONS} instructions", clause="limit_c2")
        for name in instr.reads:
            self.register(name)
        for name in instr.mems:
            self.memory(name)
        inferred = infer_instr(instr, explicit, self.types, self.memories)
        if inferred is None:
            if instr.result:
                raise SpecError(f"{instr.name} has no result", clause="form_c1")
        else:
            if not instr.result:
                raise SpecError(f"{instr.name} gives a {inferred}: name it, as in `x = ...`", clause="form_c1")
            self.types[self._claim(instr.result)] = inferred
        self._body.append(instr if inferred is None else replace(instr, type=inferred))
        return inferred

    def register(self, name: str) -> str:
        """Return `name`; raises `SpecError` (name_c1) if it is not a register or scalar defined so far."""
        if name not in self.types:
            hint = "; it is memory" if name in self.memories else near(name, self.types)
            raise SpecError(f"no register {show(name)} is defined before{hint}", clause="name_c1")
        return name

    def memory(self, name: str) -> str:
        """Return `name`; raises `SpecError` (name_c2) if it is not a declared buffer or shared array."""
        if name not in self.memories:
            hint = "; it is a register" if name in self.types else near(name, self.memories)
            raise SpecError(f"no buffer or shared array {show(name)} is declared{hint}", clause="name_c2")
        return name

    def kernel(self) -> Kernel:
        return Kernel(
            self.name,
            tuple(self._buffers),
            tuple(self._scalars),
            tuple(self._shared),
            tuple(self._body),
            numeric=self.numeric,
        )

    def _claim(self, name: str) -> str:
        if name in self.types or name in self.memories:
            raise SpecError(f"{show(name)} is already defined", clause="header_c2")
        if len(self._buffers) + len(self._scalars) + len(self._shared) > MAX_DECLARATIONS:
            raise SpecError(f"a header has at most {MAX_DECLARATIONS} declarations", clause="limit_c2")
        return check_name(name)


def infer_instr(
    instr: Instr, explicit: Type | None, types: dict[str, Type], memories: dict[str, Buffer | Shared]
) -> Type | None:
    """Return the result type of an instruction whose operands are known; raises `SpecError` as `infer` does."""
    args = [types[name] for name in instr.args]
    mems = [memories[name].dtype for name in instr.mems]
    return infer(instr.form, args, mems, explicit)


def written_type(instr: Instr) -> Type | None:
    """Return the result type where the text form writes it out, else None."""
    return instr.type if any(operand.role is Role.TYPE for operand in instr.form.operands) else None
