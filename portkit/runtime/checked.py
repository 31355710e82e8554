"""Index checks for kernels from outside: a kernel that cannot read or write beyond its buffers.

    v = load x i if p else zero

becomes, unless the interval of `i` (refined by what the gate `p` says) lies inside the extent of `x`,

    above = phi.lt minus1 i true false
    below = phi.lt i extent true false
    ok = reduce.and above below p
    low = reduce.min i last
    at = reduce.max low zero
    v = load x at if ok else zero

and, where the device has an atomic i32 maximum, a store that reports the first such access in an extra buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from portkit.contract import Capabilities
from portkit.errors import InvalidKernelError
from portkit.runtime.ranges import Facts, Interval, below_extent, intervals, refine, whole
from portkit.spec.kernel import Buffer, Extent, Instr, Kernel, Shared
from portkit.spec.types import BOOL, I32, DType, Type, encode

REPORT = "violation"
_CONTIGUOUS = ("load.vec", "store.vec")


@dataclass(frozen=True, slots=True)
class _Access:
    """One access of an instruction: which index register, to which memory, how many elements, aligned to how many."""

    index: str
    memory: Buffer | Shared
    span: int = 1
    multiple: int = 1

    @property
    def extent(self) -> Extent:
        extent = self.memory.extent
        return Extent((extent,)) if isinstance(extent, int) else extent


def add_index_checks(
    kernel: Kernel, capabilities: Capabilities, scalars: Mapping[str, int | float] | None = None
) -> Kernel:
    """Return the kernel with a check before every access that is not proven to be inside its memory.

    `scalars` are the launch values where they are known; more is proven with them. If `report_buffer` of the result is
    not None, the launch needs that buffer too: an i32 of value 0, to be given to `first_violation` afterwards.
    Raises `InvalidKernelError` (valid_c3) for an asynchronous copy that is not known to fit its buffer at all.
    Spec: valid_c3, valid_c7.
    """
    return _Pass(kernel, capabilities, scalars).run()


def report_buffer(kernel: Kernel, checked: Kernel) -> Buffer | None:
    """Return the buffer that `add_index_checks` added, None if it added none."""
    return checked.buffers[-1] if len(checked.buffers) > len(kernel.buffers) else None


def first_violation(kernel: Kernel, value: int) -> Instr | None:
    """Return the first instruction of the original kernel that left its memory; `value` is the report."""
    return kernel.body[len(kernel.body) - value] if value else None


class _Pass:
    """One run over one kernel: the instructions that come first, and the body so far."""

    def __init__(self, kernel: Kernel, capabilities: Capabilities, scalars: Mapping[str, int | float] | None) -> None:
        self.kernel = kernel
        self.scalars = scalars
        self.ranges = intervals(kernel, scalars)
        self.facts = Facts(kernel)
        self.first: list[Instr] = []
        self.body: list[Instr] = []
        self.names = {*kernel.types, *kernel.memories}
        self.made: dict[tuple[object, ...], str] = {}
        self.report = self._report(capabilities)
        self.reported = False

    def _report(self, capabilities: Capabilities) -> str:
        atomic = capabilities.has("atomic") and "i32" in capabilities.atomic.get("max", ())
        room = len(self.kernel.buffers) < capabilities.limits.buffers
        return self._name(REPORT) if atomic and room else ""

    def run(self) -> Kernel:
        for position, instr in enumerate(self.kernel.body):
            if instr.name == "load.async":
                self.body.append(self._clamped_copy(instr, position))
            elif instr.mems:
                self._access(instr, position)
            else:
                self.body.append(instr)
        buffers = self.kernel.buffers
        if self.reported:
            buffers = (*buffers, Buffer(self.report, I32, Extent((1,)), "readwrite"))
        return replace(self.kernel, buffers=buffers, body=(*self.first, *self.body))

    # --- instructions ---------------------------------------------------------------------------------------------

    def _name(self, stem: str) -> str:
        name, number = stem, 0
        while name in self.names:
            number += 1
            name = f"{stem}{number}"
        self.names.add(name)
        return name

    def emit(self, name: str, type_: Type, *args: str, imms: tuple[int, ...] = (), first: bool = False) -> str:
        """Append an instruction and return its result."""
        result = self._name("chk")
        (self.first if first else self.body).append(Instr(name, result=result, type=type_, args=args, imms=imms))
        return result

    def setup(self, name: str, type_: Type, *args: str, imms: tuple[int, ...] = ()) -> str:
        """Return the result of a pure instruction before the nest; the same one is made once."""
        key = (name, type_, args, imms)
        if key not in self.made:
            self.made[key] = self.emit(name, type_, *args, imms=imms, first=True)
        return self.made[key]

    def constant(self, dtype: DType, value: int, lanes: int = 1) -> str:
        scalar = self.setup("mov.const", Type(dtype), imms=(encode(dtype, value),))
        return self.splat(scalar, Type(dtype, lanes))

    def splat(self, register: str, type_: Type) -> str:
        """Return a register defined before the nest in every lane of a vector."""
        return register if type_.lanes == 1 else self.setup("mov.splat", type_, register)

    def select(self, form: str, a: str, b: str, lanes: int, *, first: bool = False) -> str:
        make = self.setup if first else self.emit
        yes, no = self.constant(BOOL, 1, lanes), self.constant(BOOL, 0, lanes)
        return make(form, Type(BOOL, lanes), a, b, yes, no)

    # --- extents --------------------------------------------------------------------------------------------------

    def limit(self, access: _Access, lanes: int) -> str:
        """Return the first index that is too large for an access, at least 0, as a register."""
        known = self._known(access.extent)
        if known is not None:
            return self.constant(I32, min(max(0, known - access.span + 1), I32.max_int), lanes)
        extent = self._product(access.extent)
        if access.span > 1:
            less = self.setup("add", Type(I32), extent, self.constant(I32, 1 - access.span))
            extent = self.setup("reduce.max", Type(I32), less, self.constant(I32, 0))
        return self.splat(extent, Type(I32, lanes))

    def _known(self, extent: Extent) -> int | None:
        names = [f for f in extent.factors if isinstance(f, str)]
        if self.scalars is None or any(n not in self.scalars for n in names):
            return None if names else extent.evaluate({})
        return extent.evaluate(self.scalars)

    def _product(self, extent: Extent) -> str:
        """Return the extent as an i32 register; the largest i32 where the product does not fit."""
        zero, top = self.constant(I32, 0), self.constant(I32, I32.max_int)
        product = ""
        for factor in extent.factors:
            register = factor if isinstance(factor, str) else self.constant(I32, min(factor, I32.max_int))
            register = self.setup("reduce.max", Type(I32), register, zero)
            if not product:
                product = register
                continue
            low = self.setup("mul", Type(I32), product, register)
            high = self.setup("mul.hi", Type(I32), product, register)
            small = self.select("phi.eq", high, zero, 1, first=True)
            positive = self.select("phi.lt", self.constant(I32, -1), low, 1, first=True)
            fits = self.setup("reduce.and", Type(BOOL), small, positive)
            yes = self.constant(BOOL, 1)
            product = self.setup("phi.eq", Type(I32), fits, yes, low, top)
        return product

    # --- accesses -------------------------------------------------------------------------------------------------

    def _access(self, instr: Instr, position: int) -> None:
        access = self._describe(instr)
        value_lanes = (instr.type or self.kernel.types[instr.args[-1]]).lanes
        index_lanes = self.kernel.types[access.index].lanes
        tests = self._tests(access, instr.gate, index_lanes)
        if not tests:
            self.body.append(instr)
            return
        inside = tests[0] if len(tests) == 1 else self.emit("reduce.and", Type(BOOL, index_lanes), *tests)
        if value_lanes > index_lanes:
            inside = self.emit("mov.splat", Type(BOOL, value_lanes), inside)
        if self.report:
            self._store_report(inside, instr.gate, value_lanes, len(self.kernel.body) - position)
        gate = self.emit("reduce.and", Type(BOOL, value_lanes), inside, instr.gate) if instr.gate else inside
        args = (self._clamp(access, index_lanes), *instr.args[1:])
        other = instr.other
        if instr.type is not None and not other:
            other = self.constant(instr.type.dtype, 0, value_lanes)
        self.body.append(replace(instr, args=args, gate=gate, other=other))

    def _describe(self, instr: Instr) -> _Access:
        memory = self.kernel.memories[instr.mems[0]]
        if instr.name not in _CONTIGUOUS:
            return _Access(instr.args[0], memory)
        span = (instr.type or self.kernel.types[instr.args[-1]]).lanes
        return _Access(instr.args[0], memory, span, max(1, instr.imms[0] // memory.dtype.bytes))

    def _tests(self, access: _Access, gate: str, lanes: int) -> list[str]:
        """Return the registers that must all be true for the access to be made; none where it is proven."""
        found = refine(access.index, gate, self.ranges, self.facts) if gate else self.range(access.index)
        tests: list[str] = []
        if found.lo < 0:
            tests.append(self.select("phi.lt", self.constant(I32, -1, lanes), access.index, lanes))
        known = self._known(access.extent)
        proven = known is not None and found.hi + access.span <= known
        if not proven and not (access.span == 1 and below_extent(access.index, gate, access.extent, self.facts)):
            tests.append(self.select("phi.lt", access.index, self.limit(access, lanes), lanes))
        aligned = access.multiple == 1 or (found.lo == found.hi and found.lo % access.multiple == 0)
        if not aligned:
            rest = self.emit("reduce.and", Type(I32), access.index, self.constant(I32, access.multiple - 1))
            tests.append(self.select("phi.eq", rest, self.constant(I32, 0), 1))
        return tests

    def range(self, register: str) -> Interval:
        return self.ranges.get(register, whole(I32))

    def _clamp(self, access: _Access, lanes: int) -> str:
        """Return the index moved into the memory, for devices that load first and select afterwards."""
        type_ = Type(I32, lanes)
        last = self.setup("add", Type(I32, 1), self.limit(access, 1), self.constant(I32, -1))
        low = self.emit("reduce.min", type_, access.index, self.splat(last, type_))
        inside = self.emit("reduce.max", type_, low, self.constant(I32, 0, lanes))
        if access.multiple > 1:
            return self.emit("reduce.and", type_, inside, self.constant(I32, -access.multiple))
        return inside

    def _store_report(self, inside: str, gate: str, lanes: int, code: int) -> None:
        self.reported = True
        outside = self.select("phi.eq", inside, self.constant(BOOL, 0, lanes), lanes)
        bad = self.emit("reduce.and", Type(BOOL, lanes), outside, gate) if gate else outside
        if lanes > 1:
            bad = self.emit("reduce.vec.or", Type(BOOL), bad)
        args = (self.constant(I32, 0), self.constant(I32, code))
        self.body.append(Instr("store.atomic.max", args=args, mems=(self.report,), gate=bad))

    def _clamped_copy(self, instr: Instr, position: int) -> Instr:
        """A copy has no gate: it is moved inside, which is only possible where it fits at all."""
        target, source = (self.kernel.memories[m] for m in instr.mems)
        count = instr.imms[0]
        moved: list[str] = []
        for index, memory in zip(instr.args, (target, source), strict=True):
            access = _Access(index, memory, count)
            known = self._known(access.extent)
            if known is None or known < count:
                what = f"a copy of {count} elements is not known to fit {memory.name}[{access.extent}]"
                raise InvalidKernelError(f"{what}; give the launch scalars", clause="valid_c3", instruction=position)
            found = self.range(index)
            proven = found.lo >= 0 and found.hi + count <= known
            moved.append(index if proven else self._clamp(access, 1))
        return replace(instr, args=tuple(moved))
