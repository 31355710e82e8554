"""Random kernels that verify: every form in use, any dtype and lane count, nested loops with carries."""

from __future__ import annotations

from random import Random

from portkit.spec.builder import Builder, Mem, Reg
from portkit.spec.forms import FORMS, Form, Operand, Role
from portkit.spec.kernel import Access, Kernel
from portkit.spec.types import BOOL, DTYPES, F32, I32, DType, Type

LANES = (1, 1, 1, 2, 3, 8, 64)
EXTENT = 1 << 20
STRICT_MATH = ("trunc", "recip", "sqrt")
IN_COMPANY = ("phi.carry", "load.async")
GENERIC = [
    f
    for f in FORMS.values()
    if f.effect in ("pure", "read", "write") and not f.specified_only and f.name not in IN_COMPANY
]
GROUP = [f for f in FORMS.values() if f.extension == "group"]


def random_kernel(rng: Random) -> Kernel:
    """Return a kernel that verifies; the same draws give the same kernel."""
    return _Writer(rng).write()


class _Writer:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.strict = rng.random() < 0.3
        self.b = Builder("random", "strict" if self.strict else "fast")
        self.visible: list[Reg] = []
        self.mems: dict[str, Mem] = {}
        self.uniform = True

    def write(self) -> Kernel:
        n = self.b.scalar("n", "i32")
        self.visible += [n, self.b.scalar("a", "f32")]
        self.tile = self.b.shared("tile", "f32", EXTENT)
        for count in self.rng.choices([n, 3, 7], k=self.rng.randint(1, 2)):
            self.visible.append(self.b.grid(count))
        for count in self.rng.choices([1, 4, 32], k=self.rng.randint(1, 2)):
            self.visible.append(self.b.lane(count))
        self.lane = self.visible[-1]
        self._block(0)
        return self.b.build()

    def _block(self, depth: int) -> None:
        for _ in range(self.rng.randint(1, 8)):
            draw = self.rng.random()
            if draw < 0.15 and depth < 3:
                self._loop(depth)
            elif draw < 0.25:
                self._synchronise()
            else:
                self._plain(self.rng.choice(GENERIC))

    def _loop(self, depth: int) -> None:
        count = self.rng.choice([2, 0, self.visible[0], self.lane])
        types = [self._type(DTYPES[self.rng.choice(list(DTYPES))], True) for _ in range(self.rng.randint(0, 3))]
        inits = {f"carry{len(self.visible)}_{depth}_{i}": self._register(t) for i, t in enumerate(types)}
        before, outside = len(self.visible), self.uniform
        self.uniform = outside and count is not self.lane
        with self.b.serial(count, **inits) as loop:
            self.visible += [loop.index, *loop.carries.values()]
            self._block(depth + 1)
            loop.next(**{name: self._register(carry.type) for name, carry in loop.carries.items()})
        del self.visible[before:]
        self.visible += loop.carries.values()
        self.uniform = outside

    def _synchronise(self) -> None:
        if not self.uniform:
            self.b.op(self.rng.choice(["fence.group", "fence.device"]))
            return
        match self.rng.randrange(3):
            case 0:
                self.b.barrier()
            case 1:
                source = self._memory(F32, "read", "")
                self.b.wait(self.b.async_copy(self.tile, self.lane, source, self.lane, self.rng.randint(1, 9)))
            case _:
                self._plain(self.rng.choice(GROUP))

    def _plain(self, form: Form) -> None:
        if self.strict and form.extension == "math" and form.kind not in STRICT_MATH:
            return
        types = self._choose_types(form)
        if self.strict and form.extension == "atomic" and types["M"].dtype.is_float:
            return
        args = [register for operand in form.operands for register in self._operands(operand, types)]
        mems = tuple(
            self._memory(types["M"].dtype, "write" if form.effect == "write" else "read", form.extension and form.name)
            for operand in form.operands
            if operand.role is Role.MEMORY
        )
        explicit = types.get("R") if any(o.role is Role.TYPE for o in form.operands) else None
        gate, other = self._gate(form, types)
        imms = tuple(self._literal(o, types) for o in form.operands if o.role in (Role.INTEGER, Role.VALUE))
        result = self.b.op(form.name, *args, mems=mems, imms=imms, type=explicit, gate=gate, other=other)
        if form.result:
            self.visible.append(result)

    def _choose_types(self, form: Form) -> dict[str, Type]:
        wide = form.lanes and not (form.has_memory and not form.vector)
        types = {v: self._type(self.rng.choice(form.dtypes(v)), wide, least=1 + form.vector) for v, _ in form.types}
        lanes = max((t.lanes for t in types.values()), default=1)
        if form.name in ("phi.lt", "phi.eq", "mov.cast"):
            types = {v: Type(t.dtype, lanes) for v, t in types.items()}
        elif form.name == "mov.splat":
            types = {"R": Type(types["R"].dtype, max(lanes, 2)), "S": Type(types["R"].dtype)}
        elif form.name == "mov.bits":
            types["S"] = types["R"]
        elif form.has_memory:
            value = types.get("R") or types.get("V")
            types["M"] = Type(value.dtype if value else types["M"].dtype)
        return types

    def _type(self, dtype: DType, wide: bool, least: int = 1) -> Type:
        return Type(dtype, max(least, self.rng.choice(LANES)) if wide else 1)

    def _operands(self, operand: Operand, types: dict[str, Type]) -> list[Reg]:
        if operand.role is Role.REGISTERS:
            return [self._register(types[operand.pattern]) for _ in range(self.rng.randint(2, 4))]
        if operand.role is not Role.REGISTER:
            return []
        if operand.pattern == "i32":
            return [self.lane]
        if operand.pattern == "MxI":
            return [self._register(Type(types["M"].dtype, types["I"].lanes))]
        return [self._register(types[operand.pattern])]

    def _register(self, type_: Type) -> Reg:
        """Return a visible register of the type, or make a new one."""
        known = [r for r in self.visible if r.type == type_]
        if known and self.rng.random() < 0.9:
            return self.rng.choice(known)
        if type_.lanes > 1:
            return self.b.splat(self._register(type_.scalar), type_.lanes)
        return self.b.bits_const(
            type_.dtype.name, self.rng.randrange(2 if type_.dtype == BOOL else 1 << type_.dtype.bits)
        )

    def _memory(self, dtype: DType, access: Access, use: str) -> Mem:
        atomic = use.startswith("store.atomic")
        name = f"{dtype.name}_{use.replace('.', '_') if atomic else access}"
        if name not in self.mems:
            self.mems[name] = self.b.buffer(name, dtype.name, (EXTENT, "n"), "readwrite" if atomic else access)
        return self.mems[name]

    def _literal(self, operand: Operand, types: dict[str, Type]) -> int:
        if operand.role is Role.VALUE:
            return self.rng.randrange(2 if types["R"].dtype == BOOL else 1 << types["R"].dtype.bits)
        if operand.name == "align":
            return self.rng.choice([a for a in (1, 2, 4, 8, 16, 32, 64) if a >= types["M"].dtype.bytes])
        return self.rng.randrange(types["T"].lanes)

    def _gate(self, form: Form, types: dict[str, Type]) -> tuple[Reg | None, Reg | None]:
        if not form.gated or self.rng.random() < 0.5:
            return None, None
        value = types.get("R") or types.get("V") or Type(types["M"].dtype, types.get("I", Type(I32)).lanes)
        gate = self._register(Type(BOOL, value.lanes))
        loads = any(o.role is Role.GATE_ELSE for o in form.operands)
        return gate, self._register(value) if loads else None
