"""Loads, stores, asynchronous copies and atomic stores as LLVM instructions.

A closed gate makes no access: scalar accesses branch around it, vectors use the masked intrinsics, and the address of a
gated vector access is computed without `inbounds`, because it may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from portkit.backends.toolkit.code import Value, memory_element_of, vector
from portkit.backends.toolkit.forms import Emitter, Forms
from portkit.backends.toolkit.llvm_code import PARALLEL, LlvmCode, mangle, splat
from portkit.backends.toolkit.memory import Access, Memory
from portkit.spec.kernel import Kernel
from portkit.spec.types import DType

_BITS = {"i8": 8, "i16": 16, "half": 16, "bfloat": 16, "i32": 32}
"""The bits of elements that a wider one may be cut to."""
_WORD = 32
_ATOMIC_FLOATS = {"add": "fadd", "max": "fmaximum", "min": "fminimum"}


class LlvmMemory(Memory[LlvmCode]):
    """Writes the memory forms; the bases are pointers."""

    def masked(self, access: Access, gate: Value) -> Value | None:
        """Write a gated access of lanes by a masked intrinsic."""
        return _MASKED[access.instr.name](self, replace(access, gate=gate))

    def address(self, mem: str, index: Value, *, anywhere: bool = False) -> Value:
        """Return the address of an element, or of one for each lane of the index."""
        base, element = self.bases[mem], memory_element_of(self.kernel.memories[mem].dtype)
        inbounds = "" if anywhere else "inbounds "
        return self.code.define(f"getelementptr {inbounds}{element}, {base}, {index}", base.element, index.lanes, mem)

    # --- plain accesses -------------------------------------------------------------------------------------------

    def load(self, access: Access) -> Value:
        return self._load(access, access.bytes, 1)

    def load_vec(self, access: Access) -> Value:
        lanes = access.instr.type.lanes if access.instr.type else 1
        return self._load(access, access.instr.imms[0], lanes)

    def _load(self, access: Access, align: int, lanes: int) -> Value:
        address, element = self.address(access.instr.mems[0], access.args[0]), memory_element_of(access.dtype)
        text = f"load {vector(element, lanes)}, {address}, align {align}, {PARALLEL}"
        return self.code.define(text, element, lanes, access.instr.result)

    def store(self, access: Access) -> None:
        self._store(access, access.bytes)

    def store_vec(self, access: Access) -> None:
        self._store(access, access.instr.imms[0])

    def _store(self, access: Access, align: int) -> None:
        address = self.address(access.instr.mems[0], access.args[0])
        self.code.do(f"store {access.args[1]}, {address}, align {align}, {PARALLEL}")

    def copy(self, access: Access) -> None:
        """Copy at once, which async_c1 allows."""
        target, source = (self.address(*pair) for pair in zip(access.instr.mems, access.args, strict=True))
        name = f"llvm.memcpy.{mangle(target.element)}.{mangle(source.element)}.i64"
        ends = ", ".join(f"{end.element} align {access.bytes} {end.text}" for end in (target, source))
        self.code.do(f"call void @{name}({ends}, i64 {access.instr.imms[0] * access.bytes}, i1 false)")

    # --- masked accesses ------------------------------------------------------------------------------------------

    def masked_load(self, access: Access) -> Value:
        return self._masked("load", access, access.instr.imms[0], access.other)

    def masked_store(self, access: Access) -> None:
        index, value = access.args
        fenced = self._fenced(value) if value.element in _BITS else value
        self._masked("store", replace(access, args=(index, fenced)), access.instr.imms[0])

    def _fenced(self, value: Value) -> Value:
        """Return a vector of narrow elements such that LLVM does not look at how it came about.

        Of a masked store of truncated lanes whose constant mask has one open lane, LLVM 22 makes a scalar store of the
        wide element, which writes past the end of the narrow one (llvm-project 179489).
        """
        bits = value.lanes * _BITS[value.element]
        if bits < _WORD:
            whole = self.code.reinterpret(value, f"i{bits}", 1)
            word = self._fence(self.code.convert("zext", whole, f"i{_WORD}"))
            return self.code.reinterpret(self.code.convert("trunc", word, f"i{bits}"), value.element, value.lanes)
        return self._fence(value)

    def _fence(self, value: Value) -> Value:
        words = value.lanes * _BITS[value.element] // _WORD
        fence = self.code.call("arithmetic.fence", self.code.reinterpret(value, "float", words))
        return self.code.reinterpret(fence, value.element, value.lanes)

    def gather(self, access: Access) -> Value:
        lanes, element = access.args[0].lanes, memory_element_of(access.dtype)
        return self._masked("gather", access, access.bytes, access.other or Value("poison", element, lanes))

    def scatter(self, access: Access) -> None:
        self._masked("scatter", access, access.bytes)

    def _masked(self, name: str, access: Access, align: int, other: Value | None = None) -> Value:
        """Call a masked intrinsic; a load gives `other` where the mask is closed."""
        address = self.address(access.instr.mems[0], access.args[0], anywhere=access.gate is not None)
        where = f"{address.type} align {align} {address.text}"
        value = other or access.args[1]
        mask = access.gate or splat(Value("true", "i1"), value.lanes)
        name = f"@llvm.masked.{name}.{mangle(value.element, value.lanes)}.{mangle(address.element, address.lanes)}"
        if other is None:
            self.code.do(f"call void {name}({value}, {where}, {mask})")
            return value
        return self.code.define(f"call {value.type} {name}({where}, {mask}, {value})", value.element, value.lanes)

    # --- atomic stores --------------------------------------------------------------------------------------------

    def atomic(self, access: Access) -> None:
        """Fold the value into memory indivisibly; which element a lane meets first is open (Spec: atomic_c1)."""
        kind, dtype = access.instr.form.kind, access.dtype
        address = self.address(access.instr.mems[0], access.args[0])
        if dtype.is_float and dtype.bits < 32:
            self._swap_until_done(kind, dtype, address, access.args[1])
            return
        of_int = kind if kind == "add" or dtype.is_signed else f"u{kind}"
        operation = _ATOMIC_FLOATS[kind] if dtype.is_float else of_int
        self.code.do(f"atomicrmw {operation} {address}, {access.args[1]} monotonic, align {access.bytes}")

    def _swap_until_done(self, kind: str, dtype: DType, address: Value, value: Value) -> None:
        """Repeat compute and compare-and-swap, for a format that the processor cannot add."""
        code, before = self.code, self.code.block
        again, done = code.fresh("again"), code.fresh("done")
        first = code.define(f"load atomic {value.type}, {address} monotonic, align {dtype.bytes}", value.element)
        code.jump(again)
        code.start(again)
        old = code.phi(first, before)
        new = self.forms.step(kind, dtype, old, value)
        swap = f"cmpxchg {address}, {old}, {new} monotonic monotonic, align {dtype.bytes}"
        both = code.define(swap, f"{{ {value.type}, i1 }}")
        code.feed(old, code.define(f"extractvalue {both}, 0", value.element))
        code.branch(code.define(f"extractvalue {both}, 1", "i1"), done, again)
        code.start(done)


_MASKED: dict[str, Callable[[LlvmMemory, Access], Value | None]] = {
    "load.vec": LlvmMemory.masked_load,
    "load.gather": LlvmMemory.gather,
    "store.vec": LlvmMemory.masked_store,
    "store.scatter": LlvmMemory.scatter,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What the printer must know of a target of LLVM: what it cannot do itself, and what it does better itself."""

    native_half: bool
    """Whether f16 converts to and from f32 in an instruction; otherwise integer code does it."""
    emitters: Mapping[str, Emitter] = field(default_factory=dict[str, Emitter])
    """By form, how the target writes a pure form in its own instructions, in place of the shared expansion."""

    def code(self) -> LlvmCode:
        """Begin the text of a function."""
        return LlvmCode()

    def memory(self, code: LlvmCode, forms: Forms, kernel: Kernel, bases: Mapping[str, Value]) -> LlvmMemory:
        """Return the writer of a kernel's memory forms."""
        return LlvmMemory(code, forms, kernel, bases)
