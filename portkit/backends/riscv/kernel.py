"""A whole kernel as machine code: lanes are elements of vectors.

One hart runs the work-groups one after the other. Between two barriers the lanes of a group run in *strips*, each as
long as vsetvli grants, so that the same code uses vectors of any length. What differs per lane is in v registers, what
does not in x registers; what lanes keep across a barrier stands in a slot of memory for each lane.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import accumulate

from portkit.backends.riscv import isa
from portkit.backends.riscv.code import Code, Register, Value, const
from portkit.backends.riscv.forms import find, operate, pure, select
from portkit.backends.riscv.isa import ZERO
from portkit.backends.riscv.memory import ATOMIC_BYTES, Memory
from portkit.backends.toolkit.encoder import Line
from portkit.backends.toolkit.register_allocator import allocate
from portkit.backends.toolkit.serialise import Around, Region, Step, is_group_reduction, reduction_slot, serialise
from portkit.contract import Code as Compiled
from portkit.spec.kernel import Instr, Kernel, Loop
from portkit.spec.types import BOOL, TOKEN, U32
from portkit.spec.uniform import uniform_registers

_ALIGN = 64
_WORD = 4
_LONG = 4000
"""From so many instructions of a kernel on, jumps may be too far for `jal`."""
_COPIES = {"scalar": "mv", "vector": "vmv.v.v", "mask": "vmv1r.v"}
"""The instruction that copies each kind of value."""


def compile_kernel(kernel: Kernel) -> Compiled:
    """Return machine code that depends on no vector length, and its listing."""
    writer = _Writer(kernel)
    writer.groups()
    allocated = allocate(writer.code.items, isa.MACHINE)
    vectors = 8 * allocated.slots["x"]
    items = [
        *isa.constant(isa.TEMPORARY, writer.scratch),
        Line("add", (isa.SPILLS, isa.SCRATCH, isa.TEMPORARY)),
        *isa.constant(isa.TEMPORARY, vectors),
        Line("add", (isa.VECTOR_SPILLS, isa.SPILLS, isa.TEMPORARY)),
        *allocated.items,
        Line("jalr", (ZERO, 0, isa.RA)),
    ]
    scratch = writer.scratch + vectors + isa.VECTOR_BYTES * allocated.slots["v"]
    return Compiled(isa.ENCODER.listing(items), isa.ENCODER.assemble(items), scratch)


class _Writer:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.body = kernel.body
        self.code = Code(far=len(kernel.body) > _LONG)
        self.plan = serialise(kernel)
        self.single = kernel.lanes == 1
        self.uniform = kernel.types.keys() if self.single else uniform_registers(kernel)
        self.group: dict[str, Value] = {}
        self.lane: dict[str, Value] = {}
        self.offsets, self.scratch = self._layout()
        self.memory = Memory(self.code, single=self.single)

    def _layout(self) -> tuple[dict[str, int], int]:
        """Lay out shared arrays, the slots of lanes, and room for atomic stores; return offsets and the end."""
        sizes = {s.name: s.dtype.bytes * s.extent for s in self.kernel.shared}
        sizes |= {**dict.fromkeys(self.plan.slots, _WORD * self.kernel.lanes), ".atomic": ATOMIC_BYTES}
        ends = list(accumulate((-(-size // _ALIGN) * _ALIGN for size in sizes.values()), initial=0))
        return dict(zip(sizes, ends, strict=False)), ends[-1]

    # --- once for each group --------------------------------------------------------------------------------------

    def groups(self) -> None:
        """Write the whole kernel: what is read of the arguments, then the loop over work-groups."""
        kernel, bases = self.kernel, self.memory.bases
        bases |= {buffer.name: self._argument("ld", place) for place, buffer in enumerate(kernel.buffers)}
        bases |= {shared.name: self._slot(shared.name) for shared in kernel.shared}
        for place, scalar in enumerate(kernel.scalars, len(kernel.buffers)):
            self.group[scalar.name] = Value("scalar", self._argument("lw", place))
        words = len(kernel.buffers) + len(kernel.scalars)
        grids = [(head, Value("scalar", self._argument("lw", at))) for at, head in enumerate(kernel.nest.grids, words)]
        groups = self._argument("ld", words + len(grids))
        with self.code.count("group", ZERO, Value("scalar", groups)) as number:
            self.group |= self._indices(grids, Value("scalar", number))
            for position in kernel.nest.setup:
                if self.body[position].result in self.plan.group and self.body[position].name != "loop.grid":
                    self._emit(position, self.group)
            self._steps(self.plan.steps)

    def _argument(self, load: str, place: int) -> Register:
        """Load a word of the arguments."""
        offset = 8 * place
        if offset < 2048:
            return self.code.into(load, offset, isa.ARGUMENTS)
        return self.code.into(load, 0, self.code.into("add", isa.ARGUMENTS, self.code.x(const(offset))))

    def _indices(self, loops: Sequence[tuple[int, Value]], number: Value) -> dict[str, Value]:
        """Split a linear number by loops and their extents, of which the last counts fastest (Spec: nest_c5)."""
        found: dict[str, Value] = {}
        for head, extent in reversed(loops[1:]):
            kind, register = ("scalar", number.register) if number.uniform else ("vector", self.code.v(number))
            rest, whole = ("remuw", "divuw") if number.uniform else ("vremu.vx", "vdivu.vx")
            found[self.body[head].result] = Value(kind, self.code.into(rest, register, self.code.x(extent)))
            number = Value(kind, self.code.into(whole, register, self.code.x(extent)))
        return {**found, self.body[loops[0][0]].result: number}

    def _steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Region):
                self._region(step)
            elif isinstance(step, Around):
                self._counted(step.loop, step.carries, self.group, lambda inner=step.body: self._steps(inner))
            elif reduction_slot(instr := self.body[step.position]) in self.plan.slots:
                self.group[instr.result] = self._fold(instr)
            else:
                self._emit(step.position, self.group)

    def _fold(self, instr: Instr) -> Value:
        """Fold the operands that the lanes stored, by halves (Spec: numeric_c5); what is missing folds to nothing."""
        code, dtype, kind = self.code, self.kernel.types[instr.args[0]].dtype, instr.form.kind
        base, size = self._slot(reduction_slot(instr)), self.kernel.lanes
        while size > 1:
            half = 1 << (size - 1).bit_length() - 1
            upper = code.into("add", base, code.x(const(half * _WORD)))
            with self._strips(size - half) as first:
                low = code.element(base, first)
                pair = [Value("vector", code.into("vle32.v", at)) for at in (low, code.element(upper, first))]
                name = kind if kind in ("add", "mul") else f"reduce.{kind}"
                code.emit("vse32.v", code.v(operate(code, name, U32 if dtype == BOOL else dtype, pair)), low)
            size = half
        return Value("scalar", code.into("lw", 0, base))

    # --- for each strip of lanes ----------------------------------------------------------------------------------

    @contextmanager
    def _strips(self, count: int) -> Generator[Register]:
        """Write a loop over elements, as many at a time as the hardware takes; yield the number of the first."""
        length = self.memory.length = self.code.fresh("x")
        with self.code.count("strip", ZERO, const(count), length) as first:
            rest = self.code.into("sub", self.code.x(const(count)), first)
            self.code.emit("vsetvli", length, rest, isa.VTYPE)
            yield first

    def _region(self, region: Region) -> None:
        self.lane = {self.body[head].result: const(0) for head in self.kernel.nest.lanes}
        if self.single:
            self._items((*region.again, *region.items))
        else:
            with self._strips(self.kernel.lanes) as first:
                self._strip(region, first)
        self.lane = {}

    def _strip(self, region: Region, first: Register) -> None:
        loops = zip(self.kernel.nest.lanes, self.kernel.lane_counts, strict=True)
        long = [(head, const(count)) for head, count in loops if count > 1]
        self.lane |= self._indices(long, Value("ramp", first))
        self.lane.update((name, self._load_slot(name, first)) for name in region.loads)
        self._items((*region.again, *region.items))
        stored = [(name, self._stored(name)) for name in region.saves]
        stored += [(slot, self._stored(register)) for slot, register in region.copies]
        for slot, register in stored:
            self.code.emit("vse32.v", register, self.code.element(self._slot(slot), first))

    # --- instructions ---------------------------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """Return a register; the group reads one that only lanes have, the count of a loop, from lane 0's slot."""
        scope = self.lane if name in self.lane else self.group
        return scope[name] if name in scope else Value("scalar", self.code.into("lw", 0, self._slot(name)))

    def _items(self, items: Iterable[int | Loop]) -> None:
        for item in items:
            if isinstance(item, int):
                self._emit(item, self.lane)
            elif self._count(item).uniform:
                self._counted(item, item.carries, self.lane, lambda inner=item.body: self._items(inner))
            else:
                self._diverging(item)

    def _emit(self, position: int, scope: dict[str, Value]) -> None:
        instr = self.body[position]
        value = self._result(instr) if instr.name != "loop.lane" else None
        if value is not None:
            scope[instr.result] = value

    def _result(self, instr: Instr) -> Value | None:
        if instr.name == "mov.const":
            return const(instr.imms[0])
        if instr.form.effect == "sync":
            return self._sync(instr)
        args = [self.value(name) for name in instr.args]
        if instr.form.effect == "pure":
            return pure(self.code, instr, [self.kernel.types[name] for name in instr.args], args)
        return self._access(instr, args, *(self.value(name) if name else None for name in (instr.gate, instr.other)))

    def _sync(self, instr: Instr) -> Value | None:
        """Write what is left of synchronisation on one hart: barriers are the gaps between regions."""
        if instr.name.startswith("fence"):
            self.code.emit("fence")
        return self.value(instr.args[0]) if is_group_reduction(instr) else None

    def _access(self, instr: Instr, args: Sequence[Value], gate: Value | None, other: Value | None) -> Value | None:
        memory, mem = self.memory, instr.mems[0]
        if instr.name == "load":
            return memory.load(mem, args[0], gate, other)
        if instr.name == "store":
            memory.store(mem, args[0], args[1], gate)
        elif instr.name == "load.async":
            memory.copy(mem, args[0], instr.mems[1], args[1], instr.imms[0])
        else:
            template, _ = find(instr.name, self.kernel.memories[mem].dtype)
            memory.atomic(template, mem, args[0], args[1], gate, self._slot(".atomic"))
        return None

    # --- serial loops ---------------------------------------------------------------------------------------------

    def _count(self, loop: Loop) -> Value:
        head = self.body[loop.head]
        return const(head.imms[0]) if head.imms else self.value(head.args[0])

    def _counted(self, loop: Loop, carries: Iterable[int], scope: dict[str, Value], body: Callable[[], None]) -> None:
        """Write a loop that all lanes leave together."""
        count, carried, index = self._count(loop), self._start(carries), self.body[loop.head].result
        with self.code.count(index, ZERO, count) as register:
            scope |= {**carried, index: Value("scalar", register)}
            body()
            self._next(loop, carried)

    def _diverging(self, loop: Loop) -> None:
        """Write a loop that lanes leave one by one: a mask has those that still run, and it ends with the last."""
        code, outer, head = self.code, self.memory.active, self.body[loop.head].result
        counts, carried, index = code.v(self._count(loop)), self._start(loop.carries), code.into("mv", ZERO)
        self.lane |= {**carried, head: Value("scalar", index)}
        with code.loop(head) as out:
            active = code.into("vmsgt.vx", counts, index)
            active = active if outer is None else code.into("vmand.mm", active, outer)
            code.leave_unless("bge", code.into("vfirst.m", active), ZERO, out)
            self.memory.active = active
            self._items(loop.body)
            self._next(loop, carried)
            code.emit("addi", index, index, 1)
        self.memory.active = outer

    def _start(self, carries: Iterable[int]) -> dict[str, Value]:
        """Return the registers of carries, with their first values; tokens are no values, so they are not carried."""
        carried: dict[str, Value] = {}
        for instr in (self.body[at] for at in carries):
            dtype = self.kernel.types[instr.result].dtype
            if dtype is not TOKEN:
                kind = "scalar" if instr.result in self.uniform else "mask" if dtype == BOOL else "vector"
                carried[instr.result] = self._copied(kind, instr.args[0])
        return carried

    def _next(self, loop: Loop, carried: dict[str, Value]) -> None:
        """Give all carries their next values at once, in the lanes that run."""
        following = dict(self.body[loop.end].carries)
        pairs = [(target, self._copied(target.kind, following[name])) for name, target in carried.items()]
        for target, source in pairs:
            value = source if self.memory.active is None else self._where_active(source, target)
            self.code.emit(_COPIES[target.kind], target.register, value.register)

    def _where_active(self, x: Value, y: Value) -> Value:
        active = Value("mask", self.memory.active or ZERO)
        return x if x.uniform else select(self.code, active, x, y, BOOL if x.kind == "mask" else U32)

    def _copied(self, kind: str, name: str) -> Value:
        """Return a copy of a register; the allocator does without it where the original ends here."""
        original = {"scalar": self.code.x, "vector": self.code.v, "mask": self.code.mask}[kind](self.value(name))
        return Value(kind, self.code.into(_COPIES[kind], original))

    # --- slots ----------------------------------------------------------------------------------------------------

    def _slot(self, name: str) -> Register:
        """Return the address of lane 0's slot, or of a shared array."""
        return self.code.into("add", isa.SCRATCH, self.code.x(const(self.offsets[name])))

    def _load_slot(self, name: str, first: Register) -> Value:
        own = self.code.element(self._slot(name), first)  # strips before this one have stored new values already
        if name in self.uniform:
            return Value("scalar", self.code.into("lw", 0, own))
        vector = self.code.into("vle32.v", own)
        is_bool = self.kernel.types[name].dtype == BOOL
        return Value("mask", self.code.into("vmsne.vi", vector, 0)) if is_bool else Value("vector", vector)

    def _stored(self, name: str) -> Register:
        """Return a register as the slots have it: bool as 0 or 1."""
        value = self.value(name)
        return self.code.v(select(self.code, value, const(1), const(0), U32) if value.kind == "mask" else value)
