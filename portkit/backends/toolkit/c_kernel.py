"""A whole kernel as C for gcc and clang, for targets whose threads run one work-group at a time.

The function is `void kernel(const u64 *args, s64 begin, s64 end, u8 *scratch)`: it runs the work-groups [begin, end).
`args` holds 8 bytes each for the address of every buffer, every scalar and the extent of every grid loop, in the order
of the kernel. `scratch` is memory of the calling thread: the shared arrays, then the slots of the lane serialiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from portkit.backends.toolkit.c_code import CCode, Dialect
from portkit.backends.toolkit.c_lanes import memory_name, scalar_name
from portkit.backends.toolkit.c_memory import CMemory
from portkit.backends.toolkit.code import Value, element_of, memory_element_of
from portkit.backends.toolkit.forms import Forms
from portkit.backends.toolkit.groups import Groups, Printed
from portkit.spec.kernel import Kernel
from portkit.spec.types import BOOL

_PROLOGUE = """\
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef float f32;
typedef double f64;
enum { false, true };
#define AS(T, x) __extension__({ __typeof__(x) from = (x); T to; __builtin_memcpy(&to, &from, sizeof to); to; })
"""
_WIDTHS = (8, 16, 32, 64)
_INTEGERS = [f"{sign}{width}" for sign in "iu" for width in _WIDTHS]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDialect(Dialect):
    """A dialect of C whose functions run on a processor."""

    prologue: str = _PROLOGUE
    """What stands before the functions: names of types, and AS, which reads the bits of a value as another type."""
    device_fence: str = "__atomic_thread_fence(__ATOMIC_ACQ_REL);"
    """A line that orders memory accesses as the other processors see them."""
    writer: Callable[[Dialect], CCode] = CCode
    """Writes the instructions; one for a language with vectors writes those too, as does the next."""
    accesses: Callable[[CCode, Forms, Kernel, Mapping[str, Value]], CMemory] = CMemory
    """Writes the memory forms."""

    def code(self) -> CCode:
        """Begin the text of a function."""
        return self.writer(self)

    def memory(self, code: CCode, forms: Forms, kernel: Kernel, bases: Mapping[str, Value]) -> CMemory:
        """Return the writer of a kernel's memory forms."""
        return self.accesses(code, forms, kernel, bases)


GNU_C = GroupDialect(
    types={"i1": "_Bool", **{f"i{n}": f"u{n}" for n in _WIDTHS}, "float": "f32", "double": "f64"},
    signed={f"i{n}": f"s{n}" for n in _WIDTHS},
    suffixes={"i32": "u", "i64": "ull", "float": "f", "double": ""},
    functions={
        **{f"{name}.float": f"__builtin_{name}f" for name in ("fma", "fabs", "sqrt", "trunc")},
        **{f"{name}.double": f"__builtin_{name}" for name in ("fma", "fabs", "sqrt", "trunc")},
    },
    atomics={
        **{f"add.{dtype}": "__atomic_fetch_add(&{at}, {value}, __ATOMIC_RELAXED);" for dtype in _INTEGERS},
        **{
            f"swap.i{n}": f"__atomic_compare_exchange_n((u{n} *)&{{at}}, &{{expected}}, {{new}}, 1, "
            "__ATOMIC_RELAXED, __ATOMIC_RELAXED)"
            for n in _WIDTHS
        },
    },
    reinterpret="AS({type}, {x})",
    parallel="#pragma GCC ivdep",
)
"""C as gcc and clang have it, for little-endian processors."""


def print_c_kernel(kernel: Kernel, dialect: GroupDialect = GNU_C) -> Printed:
    """Return the text of a verified kernel that fits the capabilities declared for the dialect."""
    return _Printer(kernel, dialect).printed()


class _Printer(Groups[CCode]):
    def __init__(self, kernel: Kernel, dialect: GroupDialect) -> None:
        super().__init__(kernel, dialect, {name: Value(memory_name(name), "ptr") for name in kernel.memories})
        self.dialect = dialect
        self.accesses = dialect.memory(self.code, self.forms, kernel, {})
        self.group = {s.name: Value(scalar_name(s.name), element_of(s.dtype)) for s in kernel.scalars}
        self.slot_names = {name: f"{name.replace('.', '_')}_slot{place}" for place, name in enumerate(self.slots)}

    def printed(self) -> Printed:
        """Return the whole text."""
        self.groups(Value("begin", "i64"), Value("end", "i64"))
        passed = [*self._buffers(), *self._numbers(), *self._arrays()]
        parameters = ", ".join([*(f"{type_}{name}" for type_, name, _ in passed), "s64 begin", "s64 end"])
        calls = ",\n         ".join([*(given for _, _, given in passed), "begin", "end"])
        text = (
            self.dialect.prologue + "".join(f"{line}\n" for line in self.code.declarations()) + "\n"
            f"static __attribute__((noinline)) void body({parameters})\n{{\n" + "\n".join(self.code.lines) + "\n}\n\n"
            f"void kernel(const u64 *args, s64 begin, s64 end, u8 *scratch)\n{{\n    body({calls});\n}}\n"
        )
        return Printed(text, self.scratch)

    # --- the parameters: type, name, and what the entry passes ----------------------------------------------------

    def _buffers(self) -> list[tuple[str, str, str]]:
        """Only parameters can be promised not to overlap, which is why there are two functions."""
        found: list[tuple[str, str, str]] = []
        for place, buffer in enumerate(self.kernel.buffers):
            type_ = self.code.type(memory_element_of(buffer.dtype))
            type_ = f"const {type_}" if buffer.access == "read" else type_
            found.append((f"{type_} *restrict ", memory_name(buffer.name), f"({type_} *)args[{place}]"))
        return found

    def _numbers(self) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        numbers = [self.group[s.name] for s in self.kernel.scalars]
        numbers += [self.grid_extent(place) for place in range(len(self.kernel.nest.grids))]
        for place, number in enumerate(numbers, len(self.kernel.buffers)):
            word = f"(u32)args[{place}]"
            given = f"AS(f32, {word})" if number.element == "float" else word
            found.append((f"{self.code.type(number.element)} ", number.text, given))
        return found

    def _arrays(self) -> list[tuple[str, str, str]]:
        """Return the shared arrays and the slots, at their offsets in the scratch memory."""
        shared = [(memory_name(s.name), s.dtype, self.shared_offsets[s.name]) for s in self.kernel.shared]
        slots = [
            (self.slot_names[name], slot.type.dtype, self.slots_offset + slot.offset)
            for name, slot in self.slots.items()
        ]
        types = [(name, self.code.type(memory_element_of(dtype)), offset) for name, dtype, offset in shared + slots]
        return [(f"{type_} *restrict ", name, f"({type_} *)(scratch + {offset})") for name, type_, offset in types]

    def grid_extent(self, place: int) -> Value:
        return Value(f"extent{place}", "i32")

    def device_fence(self) -> None:
        self.code.do(self.dialect.device_fence)

    # --- slots ----------------------------------------------------------------------------------------------------

    def load_slot(self, name: str, lane: Value) -> Value:
        type_, at = self.slots[name].type, self._slot(name, lane)
        element = memory_element_of(type_.dtype)
        value = self.accesses.load_at(at, element, type_.lanes, name)
        return self.code.convert("trunc", value, "i1") if type_.dtype == BOOL else value

    def store_slot(self, name: str, lane: Value, value: Value) -> None:
        at = self._slot(name, lane)
        stored = self.code.convert("zext", value, "i8") if self.slots[name].type.dtype == BOOL else value
        self.accesses.store_at(at, stored)

    def _slot(self, name: str, lane: Value) -> str:
        """Return the first element of a lane's slot."""
        lanes = self.slots[name].type.lanes
        return f"{self.slot_names[name]}[{lane.text}{f' * {lanes}' if lanes > 1 else ''}]"
