"""Proves what can be proved about a kernel without its inputs; every failure cites the clause that it breaks.

One walk over the instructions checks parts, names, scopes, types, the nest, carries, tokens and the rules of single
forms; then the control flow of what synchronises is checked to be uniform. The time is linear in the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from portkit.errors import SpecError, VerifyError
from portkit.spec.assemble import (
    MAX_DECLARATIONS,
    MAX_DEPTH,
    MAX_EXTENT,
    MAX_FACTORS,
    MAX_INSTRUCTIONS,
    find_dtype,
    infer_instr,
    written_type,
)
from portkit.spec.forms import FORMS, VERSION
from portkit.spec.infer import gate_type
from portkit.spec.kernel import Buffer, Instr, Kernel, Scalar, Shared
from portkit.spec.names import check_name, near
from portkit.spec.rules import Facts, rules
from portkit.spec.shape import check_shape, check_spaces, misfit
from portkit.spec.text import format_instr
from portkit.spec.tokens import TokenQueue
from portkit.spec.types import DTYPES, I32, MAX_LANES, TOKEN, Type
from portkit.spec.uniform import uniform_registers


def verify(kernel: Kernel) -> None:
    """Check a kernel against every rule that does not depend on its inputs.

    Raises `VerifyError` with the clause and the instruction. Spec: header, type, nest, loop, load, async clauses.
    """
    try:
        _check_header(kernel)
    except SpecError as error:
        raise VerifyError(error.message, clause=error.clause) from error
    walk = _Walk(kernel)
    position = 0
    try:
        for position, instr in enumerate(kernel.body):
            walk.step(position, instr)
        position = len(kernel.body) - 1
        walk.finish()
        position, error = _divergent_synchronisation(kernel, walk)
        if error is not None:
            raise error
    except SpecError as error:
        instr = kernel.body[position] if kernel.body else None
        raise VerifyError(
            error.message,
            clause=error.clause,
            instruction=position if instr else -1,
            text=describe(instr) if instr else "",
        ) from error


def describe(instr: Instr) -> str:
    """Return an instruction as text, cut to a line; its name alone where it has not the parts to print."""
    printable = instr.name in FORMS and not misfit(instr)
    written = written_type(instr) if printable else None
    printable = printable and (written is None or written.dtype != TOKEN)
    text = format_instr(instr) if printable else instr.name
    return text if len(text) <= 120 else f"{text[:120]}..."


# --- header -------------------------------------------------------------------------------------------------------


def _check_header(kernel: Kernel) -> None:
    """Check sizes and declarations. Raises `SpecError` (limit_c2, header_c1..c5, type_c1)."""
    declarations = (*kernel.buffers, *kernel.scalars, *kernel.shared)
    if len(kernel.body) > MAX_INSTRUCTIONS:
        raise SpecError(f"a kernel has at most {MAX_INSTRUCTIONS} instructions", clause="limit_c2")
    if len(declarations) > MAX_DECLARATIONS:
        raise SpecError(f"a header has at most {MAX_DECLARATIONS} declarations", clause="limit_c2")
    if kernel.version != VERSION:
        raise SpecError(f"version {kernel.version!r} is not {VERSION}", clause="header_c1")
    check_name(kernel.name)
    seen: set[str] = set()
    for declaration in declarations:
        if check_name(declaration.name) in seen:
            raise SpecError(f"{declaration.name} is declared twice", clause="header_c2")
        seen.add(declaration.name)
    scalars = {s.name: s for s in kernel.scalars}
    for scalar in kernel.scalars:
        find_dtype(scalar.dtype.name, "header_c4", "scalar")
    for memory in (*kernel.buffers, *kernel.shared):
        find_dtype(memory.dtype.name, "header_c5", "number")
        _check_extent(memory, scalars)


def _check_extent(memory: Buffer | Shared, scalars: dict[str, Scalar]) -> None:
    factors = memory.extent.factors if isinstance(memory, Buffer) else (memory.extent,)
    if not 1 <= len(factors) <= MAX_FACTORS:
        raise SpecError(f"the extent of {memory.name} has not 1 to {MAX_FACTORS} factors", clause="header_c3")
    for factor in factors:
        if isinstance(factor, int):
            if not 1 <= factor <= MAX_EXTENT:
                raise SpecError(f"extent {factor} of {memory.name} is not 1 to {MAX_EXTENT}", clause="header_c3")
        elif factor not in scalars or scalars[factor].dtype != I32:
            hint = near(factor, scalars)
            raise SpecError(f"extent {factor!r} of {memory.name} is no i32 scalar{hint}", clause="header_c3")


# --- body ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Frame:
    """An open loop: its head, what was defined in it, its carries, and whether more carries may follow."""

    head: Instr
    reached: bool
    parent: int
    """The position of the enclosing serial loop, -1 if there is none."""
    defined: list[str] = field(default_factory=list[str])
    carries: dict[str, Type] = field(default_factory=dict[str, Type])
    started: bool = False

    @property
    def serial(self) -> bool:
        return self.head.name == "loop.serial"


class _Walk:
    """The state of the verifier between two instructions."""

    def __init__(self, kernel: Kernel) -> None:
        self.visible = {s.name: Type(s.dtype) for s in kernel.scalars}
        self.memories: dict[str, Buffer | Shared] = {m.name: m for m in (*kernel.buffers, *kernel.shared)}
        self.facts = Facts(kernel, self.memories, self.visible)
        self.facts.host.update(s.name for s in kernel.scalars if s.dtype.is_int)
        self.taken = {*self.visible, *self.memories}
        self.tokens = TokenQueue()
        self.frames: list[_Frame] = []
        self.innermost = -1
        """The position of the innermost open serial loop."""
        self.loops: dict[int, int] = {}
        """Serial loops: position of the head to that of the enclosing one, -1 for none."""
        self.synchronises: list[tuple[int, int]] = []
        """What stands in uniform flow only: its position, and that of the loop around it."""
        lanes = [at for at, instr in enumerate(kernel.body) if instr.name == "loop.lane"]
        self.first_lane = lanes[0] if lanes else len(kernel.body)
        self.body_start = lanes[-1] + 1 if lanes else len(kernel.body)
        self.closed = False

    def step(self, position: int, instr: Instr) -> None:
        check_shape(instr)
        self._check_place(position, instr)
        self._check_operands(instr)
        for rule in rules(instr.name):
            rule(instr, self.facts)
        _EFFECTS.get(instr.name, _Walk._plain)(self, position, instr)

    def finish(self) -> None:
        if self.frames:
            raise SpecError(f"loop {self.frames[-1].head.result} is not closed", clause="nest_c1")
        if not self.closed:
            message = "a kernel is one or more grid loops, then one or more lane loops, then the body"
            raise SpecError(message, clause="nest_c1")

    # --- where it may stand ---------------------------------------------------------------------------------------

    def _check_place(self, position: int, instr: Instr) -> None:
        """Spec: nest_c1, nest_c2, carry_c1."""
        name = instr.name
        if name == "loop.grid" and (position > self.first_lane or self.closed):
            raise SpecError("grid loops come before lane loops, in one nest", clause="nest_c1")
        if name == "loop.lane" and (not self.frames or self.closed):
            raise SpecError("lane loops stand inside grid loops, in one nest", clause="nest_c1")
        free = instr.form.effect == "pure" or name in ("loop.grid", "loop.lane", "endloop")
        if not free and (self.closed or position < self.body_start):
            raise SpecError(f"only pure instructions stand outside the body, not {name}", clause="nest_c2")
        if name == "endloop" and position < self.body_start:
            raise SpecError(
                "a loop closes before the innermost lane loop opens: that is not one nest", clause="nest_c1"
            )
        if name == "phi.carry":
            frame = self.frames[-1] if self.frames else None
            if frame is None or not frame.serial or frame.started:
                raise SpecError("phi.carry stands first in a serial loop", clause="carry_c1")
        elif self.frames:
            self.frames[-1].started = True

    # --- operands and types ---------------------------------------------------------------------------------------

    def _check_operands(self, instr: Instr) -> None:
        """Spec: name_c1, name_c2, type_c1..c3, load_c2."""
        for name in instr.reads:
            if name not in self.visible:
                raise SpecError(self._missing(name), clause="name_c1")
        for name in instr.mems:
            if name not in self.memories:
                message = f"no buffer or shared array {name!r} is declared{near(name, self.memories)}"
                raise SpecError(message, clause="name_c2")
        self._check_type(instr)
        if instr.mems:
            check_spaces(instr.form, [self.memories[name] for name in instr.mems])
        if instr.gate:
            self._check_gate(instr)

    def _missing(self, name: str) -> str:
        if name in self.memories:
            return f"{name} is memory, not a register"
        if name in self.taken:
            return f"{name} belongs to a finished loop; only its carries are visible after it"
        return f"no register {name!r} is defined before{near(name, self.visible)}"

    def _check_type(self, instr: Instr) -> None:
        given = instr.type
        if given is not None and given.dtype != TOKEN:
            if given.dtype.name not in DTYPES:
                raise SpecError(f"unknown dtype {given.dtype.name!r}", clause="type_c1")
            if not 1 <= given.lanes <= MAX_LANES:
                raise SpecError(f"{given.lanes} lanes are not 1 to {MAX_LANES}", clause="type_c2")
            if instr.name == "mov.const" and given.lanes > 1:
                raise SpecError("a constant is scalar; use mov.splat or mov.pack for a vector", clause="const_c2")
        inferred = infer_instr(instr, written_type(instr), self.visible, self.memories)
        if inferred != given:
            raise SpecError(f"the result is {inferred}, the instruction says {given}", clause="type_c3")

    def _check_gate(self, instr: Instr) -> None:
        expected = gate_type(instr.form, [self.visible[name] for name in instr.args], instr.type)
        if self.visible[instr.gate] != expected:
            message = f"gate {instr.gate} is {self.visible[instr.gate]}, expected {expected}"
            raise SpecError(message, clause="load_c2")
        if instr.other and self.visible[instr.other] != instr.type:
            message = f"else value {instr.other} is {self.visible[instr.other]}, expected {instr.type}"
            raise SpecError(message, clause="load_c2")

    # --- effects on the state -------------------------------------------------------------------------------------

    def _define(self, instr: Instr) -> None:
        if check_name(instr.result) in self.taken:
            raise SpecError(f"{instr.result} is already defined", clause="header_c2")
        assert instr.type is not None
        self.taken.add(instr.result)
        self._show(instr.result, instr.type)

    def _show(self, name: str, type_: Type) -> None:
        self.visible[name] = type_
        if self.frames:
            self.frames[-1].defined.append(name)

    def _plain(self, position: int, instr: Instr) -> None:
        if instr.result:
            self._define(instr)
            self.facts.learn(instr)
        if "barrier_c2" in instr.form.clauses:
            self.synchronises.append((position, self.innermost))

    def _open(self, position: int, instr: Instr) -> None:
        if len(self.frames) >= MAX_DEPTH:
            raise SpecError(f"loops are nested more than {MAX_DEPTH} deep", clause="limit_c2")
        self.frames.append(_Frame(instr, self.facts.reached, self.innermost))
        self._define(instr)
        if instr.name == "loop.serial":
            count = instr.imms[0] if instr.imms else self.facts.constants.get(instr.args[0], 0)
            self.facts.reached &= count > 0
            self.loops[position] = self.innermost
            self.innermost = position
            self.tokens.enter()

    def _carry(self, position: int, instr: Instr) -> None:
        self._define(instr)
        assert instr.type is not None
        self.frames[-1].carries[instr.result] = instr.type
        if instr.type.dtype == TOKEN:
            self.tokens.carry(instr.result, instr.args[0])

    def _issue(self, position: int, instr: Instr) -> None:
        self._define(instr)
        self.tokens.issue(instr.result)

    def _wait(self, position: int, instr: Instr) -> None:
        self._plain(position, instr)
        self.tokens.wait(instr.args[0])

    def _close(self, position: int, instr: Instr) -> None:
        """Spec: endloop_c1, carry_c2, name_c1."""
        if not self.frames or instr.args != (self.frames[-1].head.result,):
            innermost = self.frames[-1].head.result if self.frames else "none"
            message = f"endloop names {instr.args[0]}, the innermost open loop is {innermost}"
            raise SpecError(message, clause="endloop_c1")
        frame = self.frames[-1]
        self._check_next_values(frame, instr)
        self._leave(frame, instr)

    def _check_next_values(self, frame: _Frame, instr: Instr) -> None:
        given = dict(instr.carries)
        if len(given) != len(instr.carries) or given.keys() != frame.carries.keys():
            odd = sorted({carry for carry, _ in instr.carries} ^ frame.carries.keys()) or ["one twice"]
            message = f"endloop gives each carry of the loop one next value: {', '.join(odd[:5])}"
            raise SpecError(message, clause="endloop_c1")
        for carry, value in instr.carries:
            if self.visible[value] != frame.carries[carry]:
                message = f"carry {carry} is {frame.carries[carry]}, its next value {value} is {self.visible[value]}"
                raise SpecError(message, clause="carry_c2")

    def _leave(self, frame: _Frame, instr: Instr) -> None:
        tokens = {carry: value for carry, value in instr.carries if frame.carries[carry].dtype == TOKEN}
        self.frames.pop()
        for name in frame.defined:
            self.visible.pop(name, None)
        self.facts.reached = frame.reached
        if frame.serial:
            self.tokens.leave(tokens)
            self.innermost = frame.parent
            for name, type_ in frame.carries.items():
                self._show(name, type_)
        elif frame.head.name == "loop.lane":
            self.tokens.finish()
            self.closed = True


_EFFECTS = {
    "loop.grid": _Walk._open,
    "loop.lane": _Walk._open,
    "loop.serial": _Walk._open,
    "endloop": _Walk._close,
    "phi.carry": _Walk._carry,
    "load.async": _Walk._issue,
    "wait.token": _Walk._wait,
}


# --- uniform control flow -----------------------------------------------------------------------------------------


def _divergent_synchronisation(kernel: Kernel, walk: _Walk) -> tuple[int, SpecError | None]:
    """Return the first instruction that synchronises in a loop of differing counts (barrier_c2, loop_c2)."""
    if not any(loop >= 0 for _, loop in walk.synchronises):
        return -1, None
    uniform = uniform_registers(kernel)
    culprit: dict[int, str] = {-1: ""}
    for head, parent in walk.loops.items():
        counts = kernel.body[head].args
        culprit[head] = culprit[parent] or next((count for count in counts if count not in uniform), "")
    for position, loop in walk.synchronises:
        if culprit[loop]:
            message = f"stands in a loop whose count {culprit[loop]} may differ between lanes"
            return position, SpecError(message, clause="barrier_c2")
    return -1, None
