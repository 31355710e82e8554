"""A whole kernel as machine code: lanes are elements of vectors.

One hart runs the work-groups one after the other. Between two barriers the lanes of a group run in *strips*, each as
long as vsetvli grants, so that the same code uses vectors of any length. What differs per lane is in v registers, what
does not in x registers; what lanes keep across a barrier stands in a slot of memory for each lane.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager

from portkit.backends.riscv.code import MASK, Code, Register, Value, const
from portkit.backends.riscv.forms import MASKS, operate, pure
from portkit.backends.riscv.isa import (
    ARGUMENTS,
    ENCODER,
    MACHINE,
    RA,
    SCRATCH,
    SPILLS,
    TEMPORARY,
    VECTOR_SLOT,
    VECTOR_SPILLS,
    VTYPE,
    ZERO,
    constant,
)
from portkit.backends.riscv.memory import ATOMIC_BYTES, Memory
from portkit.backends.toolkit.encoder import Line
from portkit.backends.toolkit.register_allocator import allocate
from portkit.backends.toolkit.serialise import Around, Once, Region, Step, is_group_reduction, reduction_slot, serialise
from portkit.contract import Code as Compiled
from portkit.errors import CompileError
from portkit.spec.forms import Op
from portkit.spec.kernel import Instr, Kernel, Loop
from portkit.spec.types import BOOL, TOKEN, U32

_ALIGN = 64
_WORD = 4
_FENCE_RW = 0x33
_HEADER_WORDS = 2
"""The words before the packed arguments: the first work-group, and the one after the last."""
_COPIES = {"scalar": ("x", "mv"), "vector": ("v", "vmv.v.v"), "mask": ("v", "vmv1r.v")}
"""For each kind of value the kind of its registers, and the instruction that copies them."""
_AMO = {"add/i32": "amoadd.w", "add/u32": "amoadd.w"} | {
    f"{kind}/{dtype}": f"amo{kind}{'u' if dtype == 'u32' else ''}.w"
    for kind in ("max", "min")
    for dtype in ("i32", "u32")
}


def compile_kernel(kernel: Kernel) -> Compiled:
    """Return machine code that depends on no vector length, and its listing."""
    writer = _Writer(kernel)
    writer.groups()
    allocated = allocate(writer.code.items, MACHINE)
    vectors = -(-8 * allocated.slots["x"] // _ALIGN) * _ALIGN
    items = [
        *constant(TEMPORARY, writer.scratch),
        Line("add", (SPILLS, SCRATCH, TEMPORARY)),
        *constant(TEMPORARY, vectors),
        Line("add", (VECTOR_SPILLS, SPILLS, TEMPORARY)),
        *allocated.items,
        Line("jalr", (ZERO, 0, RA)),
    ]
    scratch = writer.scratch + vectors + VECTOR_SLOT * allocated.slots["v"]
    return Compiled(ENCODER.listing(items), ENCODER.assemble(items), scratch)


class _Writer:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.code = Code()
        self.plan = serialise(kernel)
        self.group: dict[str, Value] = {}
        self.lane: dict[str, Value] = {}
        self.varying: frozenset[str] = frozenset()
        self.offsets, self.scratch = self._layout()
        names = dict.fromkeys([*(b.name for b in kernel.buffers), *(s.name for s in kernel.shared)])
        self.memory = Memory(self.code, {n: self.code.fresh("x") for n in names}, single=kernel.lanes == 1)

    def _layout(self) -> tuple[dict[str, int], int]:
        """Lay out shared arrays, the slots of lanes, and room for atomic stores; return offsets and the end."""
        sizes = {s.name: s.dtype.bytes * s.extent for s in self.kernel.shared}
        sizes |= dict.fromkeys(self.plan.slots, _WORD * self.kernel.lanes)
        sizes[".atomic"] = ATOMIC_BYTES
        offsets: dict[str, int] = {}
        end = 0
        for name, size in sizes.items():
            offsets[name] = end
            end += -(-size // _ALIGN) * _ALIGN
        return offsets, end

    # --- once for each group --------------------------------------------------------------------------------------

    def groups(self) -> None:
        """Write the whole kernel: what is read of the arguments, then the loop over work-groups."""
        kernel, code = self.kernel, self.code
        for place, buffer in enumerate(kernel.buffers):
            self._argument("ld", self.memory.bases[buffer.name], place)
        for shared in kernel.shared:
            code.emit("add", self.memory.bases[shared.name], SCRATCH, code.x(const(self.offsets[shared.name])))
        for place, scalar in enumerate(kernel.scalars, len(kernel.buffers)):
            self.group[scalar.name] = Value("scalar", self._argument("lw", code.fresh("x"), place))
        begin, end = (self._argument("ld", code.fresh("x"), place - _HEADER_WORDS) for place in range(_HEADER_WORDS))
        with code.count("group", begin, Value("scalar", end)) as number:
            self._grid_indices(number)
            for position in kernel.nest.setup:
                instr = kernel.body[position]
                if instr.result in self.plan.group and instr.name != "loop.grid":
                    self._emit(position, self.group)
            self._steps(self.plan.steps)

    def _argument(self, load: str, register: Register, place: int) -> Register:
        """Load a word of the arguments."""
        offset = 8 * (place + _HEADER_WORDS)
        if offset < 2048:
            self.code.emit(load, register, offset, ARGUMENTS)
        else:
            self.code.emit(load, register, 0, self.code.into("x", "add", ARGUMENTS, self.code.x(const(offset))))
        return register

    def _grid_indices(self, number: Register) -> None:
        """Split the linear group number, of which the last grid loop counts fastest (Spec: nest_c5)."""
        words = len(self.kernel.buffers) + len(self.kernel.scalars)
        for place in reversed(range(len(self.kernel.nest.grids))):
            index = self.kernel.body[self.kernel.nest.grids[place]].result
            if place == 0:
                self.group[index] = Value("scalar", number)
                return
            extent = self._argument("lw", self.code.fresh("x"), words + place)
            self.group[index] = Value("scalar", self.code.into("x", "remuw", number, extent))
            number = self.code.into("x", "divuw", number, extent)

    def _steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Region):
                self._region(step)
            elif isinstance(step, Around):
                self._around(step)
            else:
                self._once(step)

    def _once(self, step: Once) -> None:
        instr = self.kernel.body[step.position]
        if reduction_slot(instr) in self.plan.slots:
            self.group[instr.result] = self._fold(instr)
        else:
            self._emit(step.position, self.group)

    def _around(self, step: Around) -> None:
        self._counted(step.loop, step.carries, self.group, lambda: self._steps(step.body))

    def _fold(self, instr: Instr) -> Value:
        """Fold the operands that the lanes stored, by halves (Spec: numeric_c5); what is missing folds to nothing."""
        code, dtype = self.code, self.kernel.types[instr.args[0]].dtype
        size = self.kernel.lanes
        base = self._slot(reduction_slot(instr))
        while size > 1:
            half = 1 << (size - 1).bit_length() - 1
            upper = code.into("x", "add", base, code.x(const(half * _WORD)))
            with self._strips(size - half) as first:
                low, high = (code.into("x", "add", start, code.into("x", "slli", first, 2)) for start in (base, upper))
                pair = [Value("vector", code.into("v", "vle32.v", at)) for at in (low, high)]
                name = instr.form.kind if instr.form.kind in ("add", "mul") else f"reduce.{instr.form.kind}"
                folded = operate(code, name, U32 if dtype == BOOL else dtype, pair)
                code.emit("vse32.v", code.v(folded), low)
            size = half
        return Value("scalar", code.into("x", "lw", 0, base))

    # --- for each strip of lanes ----------------------------------------------------------------------------------

    @contextmanager
    def _strips(self, count: int) -> Generator[Register]:
        """Write a loop over elements, as many at a time as the hardware takes; yield the number of the first."""
        length = self.memory.length = self.code.fresh("x")
        with self.code.count("strip", ZERO, const(count), length) as first:
            rest = self.code.into("x", "sub", self.code.x(const(count)), first)
            self.code.emit("vsetvli", length, rest, VTYPE)
            yield first

    def _region(self, region: Region) -> None:
        self.lane = {}
        self.varying = self._varying(region)
        if self.kernel.lanes == 1:
            self.lane.update((self.kernel.body[head].result, const(0)) for head in self.kernel.nest.lanes)
            self._items((*region.again, *region.items))
        else:
            with self._strips(self.kernel.lanes) as first:
                self._strip(region, first)
        self.lane = {}

    def _strip(self, region: Region, first: Register) -> None:
        self._lane_indices(first)
        for name in region.loads:
            self.lane[name] = self._load_slot(name, first)
        self._items((*region.again, *region.items))
        stored = [(name, self._stored(name)) for name in region.saves]
        stored += [(slot, self._stored(register)) for slot, register in region.copies]
        for slot, register in stored:
            self.code.emit("vse32.v", register, self._slot(slot, first))

    def _lane_indices(self, first: Register) -> None:
        """Split the linear lane number, of which the last lane loop counts fastest (Spec: nest_c5)."""
        code, number = self.code, Value("ramp", first)
        heads = [self.kernel.body[head].result for head in self.kernel.nest.lanes]
        sizes = list(zip(heads, self.kernel.lane_counts, strict=True))
        self.lane.update((head, const(0)) for head, count in sizes if count == 1)
        split = [(head, count) for head, count in reversed(sizes) if count > 1]
        for head, count in split[:-1]:
            extent, vector = code.x(const(count)), code.v(number)
            self.lane[head] = Value("vector", code.into("v", "vremu.vx", vector, extent))
            number = Value("vector", code.into("v", "vdivu.vx", vector, extent))
        self.lane[split[-1][0]] = number

    def _varying(self, region: Region) -> frozenset[str]:
        """Return the registers that may differ between lanes; a loop's index never does, as lanes run in step."""
        body, found = self.kernel.body, set(region.loads)
        if self.kernel.lanes > 1:
            found.update(body[head].result for head in self.kernel.nest.lanes)
        before = -1
        while len(found) != before:  # once more for each carry that is found to differ
            before = len(found)
            self._spread((*region.again, *region.items), found)
        return frozenset(found)

    def _spread(self, items: Iterable[int | Loop], found: set[str]) -> None:
        body = self.kernel.body
        for item in items:
            if isinstance(item, int):
                found.update({body[item].result} if found.intersection(body[item].reads) else ())
                continue
            self._spread(item.body, found)
            following = dict(body[item.end].carries)
            for carry in (body[at] for at in item.carries):
                sources = {*carry.args, following[carry.result], *body[item.head].args}
                found.update({carry.result} if found & sources else ())

    # --- instructions and loops -----------------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """Return a register; the group reads one that only lanes have, the count of a loop, from lane 0's slot."""
        scope = self.lane if name in self.lane else self.group
        return scope[name] if name in scope else Value("scalar", self.code.into("x", "lw", 0, self._slot(name)))

    def _items(self, items: Iterable[int | Loop]) -> None:
        for item in items:
            if isinstance(item, int):
                self._emit(item, self.lane)
            elif (count := self._count(item)).uniform:
                self._counted(item, item.carries, self.lane, lambda inner=item.body: self._items(inner))
            else:
                self._diverging(item, count)

    def _emit(self, position: int, scope: dict[str, Value]) -> None:
        instr = self.kernel.body[position]
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
        gate, other = (self.value(name) if name else None for name in (instr.gate, instr.other))
        return self._access(instr, args, gate, other)

    def _sync(self, instr: Instr) -> Value | None:
        """Write what is left of synchronisation on one hart: barriers are the gaps between regions."""
        if instr.form.op is Op.FENCE:
            self.code.emit("fence", _FENCE_RW)
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
            amo = _AMO.get(f"{instr.form.kind}/{self.kernel.memories[mem].dtype}")
            if amo is None:
                raise CompileError(f"{instr.name} on {mem} has no instruction; legalise to the declared forms")
            memory.atomic(amo, mem, args[0], args[1], gate, self._slot(".atomic"))
        return None

    def _count(self, loop: Loop) -> Value:
        head = self.kernel.body[loop.head]
        return const(head.imms[0]) if head.imms else self.value(head.args[0])

    def _counted(self, loop: Loop, carries: Iterable[int], scope: dict[str, Value], body: Callable[[], None]) -> None:
        """Write a loop that all lanes leave together."""
        count, carried = self._count(loop), self._start(carries)
        scope.update(carried)
        index = self.kernel.body[loop.head].result
        with self.code.count(index, ZERO, count) as register:
            scope[index] = Value("scalar", register)
            body()
            self._next(loop, carried)

    def _diverging(self, loop: Loop, count: Value) -> None:
        """Write a loop that lanes leave one by one: a mask has those that still run, and it ends with the last."""
        code, outer = self.code, self.memory.active
        counts, carried = code.v(count), self._start(loop.carries)
        head = self.kernel.body[loop.head].result
        index = code.into("x", "mv", ZERO)
        self.lane |= {**carried, head: Value("scalar", index)}
        with code.loop(head) as out:
            active = code.into("v", "vmsgt.vx", counts, index)
            if outer is not None:
                active = code.into("v", "vmand.mm", active, outer)
            code.leave_unless("bge", code.into("x", "vfirst.m", active), ZERO, out)
            self.memory.active = active
            self._items(loop.body)
            self._next(loop, carried, active)
            code.emit("addi", index, index, 1)
        self.memory.active = outer

    def _start(self, carries: Iterable[int]) -> dict[str, Value]:
        """Return the registers of carries, with their first values; tokens are no values, so they are not carried."""
        carried: dict[str, Value] = {}
        for instr in (self.kernel.body[at] for at in carries):
            dtype = self.kernel.types[instr.result].dtype
            if dtype is not TOKEN:
                differs = instr.result in self.varying
                kind = ("mask" if dtype == BOOL else "vector") if differs else "scalar"
                carried[instr.result] = self._copied(kind, self._as(kind, self.value(instr.args[0])))
        return carried

    def _next(self, loop: Loop, carried: dict[str, Value], active: Register | None = None) -> None:
        """Give all carries their next values at once, in the lanes that run."""
        following = dict(self.kernel.body[loop.end].carries)
        targets = {value.register for value in carried.values()}
        pairs: list[tuple[Value, Register]] = []
        for name, target in carried.items():
            source = self._as(target.kind, self.value(following[name]))
            taken = source in targets and source != target.register
            pairs.append((target, self._copied(target.kind, source).register if taken else source))
        for target, source in pairs:
            self._assign(target, source, active)

    def _as(self, kind: str, value: Value) -> Register:
        return {"scalar": self.code.x, "vector": self.code.v, "mask": self.code.mask}[kind](value)

    def _copied(self, kind: str, register: Register) -> Value:
        place, copy = _COPIES[kind]
        return Value(kind, self.code.into(place, copy, register))

    def _assign(self, target: Value, source: Register, active: Register | None) -> None:
        code, register = self.code, target.register
        if active is None or target.kind == "scalar":
            code.emit(_COPIES[target.kind][1], register, source)
        elif target.kind == "vector":
            code.emit("vmv1r.v", MASK, active)
            code.emit("vmerge.vvm", register, register, source)
        else:
            chosen = code.template(MASKS["select"], {"a": active, "b": source, "c": register})
            code.emit("vmv1r.v", register, chosen)

    # --- slots ----------------------------------------------------------------------------------------------------

    def _slot(self, name: str, first: Register = ZERO) -> Register:
        """Return the address of a lane's slot."""
        base = self.code.into("x", "add", SCRATCH, self.code.x(const(self.offsets[name])))
        return base if first == ZERO else self.code.into("x", "add", base, self.code.into("x", "slli", first, 2))

    def _load_slot(self, name: str, first: Register) -> Value:
        vector = Value("vector", self.code.into("v", "vle32.v", self._slot(name, first)))
        is_bool = self.kernel.types[name].dtype == BOOL
        return Value("mask", self.code.into("v", "vmsne.vi", vector.register, 0)) if is_bool else vector

    def _stored(self, name: str) -> Register:
        """Return a register as the slots have it: bool as 0 or 1."""
        value = self.value(name)
        if value.kind != "mask":
            return self.code.v(value)
        zeros = self.code.v(const(0))
        self.code.emit("vmv1r.v", MASK, value.register)
        return self.code.into("v", "vmerge.vim", zeros, 1)
