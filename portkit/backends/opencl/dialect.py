"""OpenCL C 1.2 as a dialect of the C-family printer: a table of what it spells its own way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from portkit.backends.opencl.vectors import VectorCode, VectorMemory
from portkit.backends.toolkit.c_code import CCode
from portkit.backends.toolkit.c_lanes import LaneDialect, print_c_lanes
from portkit.backends.toolkit.c_memory import CMemory
from portkit.backends.toolkit.code import Turn, Value, integer_of
from portkit.backends.toolkit.forms import Emitter, Forms
from portkit.contract import Code
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import Type

ENTRY = "run"
"""The name of the function, as `kernel` is a word of the language."""
FUNCTIONS = ("fma", "fabs", "sqrt", "trunc", "rsqrt", "exp2", "log2", "sin")
"""Functions of the language that kernels use; they are called as the spec calls them."""
ATOMICS = ("add", "max", "min")
ATOMIC_TYPES = {
    "i32": ("atomic_", "int"),
    "u32": ("atomic_", "uint"),
    "i64": ("atom_", "long"),
    "u64": ("atom_", "ulong"),
}
"""By dtype, how the names of atomic functions begin, and the type that they take."""
_WIDE_ATOMICS = "".join(
    f"#pragma OPENCL EXTENSION cl_khr_int64_{group}_atomics : enable\n" for group in ("base", "extended")
)
"""What some compilers want to be told before they take `atom_`."""
_EVERYWHERE = "CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE"
_BEYOND = Value("beyond", "i32")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClDialect(LaneDialect):
    """OpenCL C, with what a driver must be told about a kernel."""

    varying: frozenset[str] = field(default_factory=frozenset[str])
    """Carries that a driver must not take for the same in all lanes; see `pocl`."""
    rereads_gates: bool = False
    """Whether each gate is read anew from memory, so that a driver cannot reason from one `if` to the next."""

    def code(self) -> CCode:
        """Begin the text of a function."""
        return _Code(self)

    def memory(self, code: CCode, forms: Forms, kernel: Kernel, bases: Mapping[str, Value]) -> CMemory:
        """Return the writer of a kernel's memory forms."""
        return VectorMemory(code, forms, kernel, bases)


class _Code(VectorCode):
    """OpenCL C with carries marked as varying, and with gates that are read anew."""

    def __init__(self, dialect: OpenClDialect) -> None:
        super().__init__(dialect)
        self._varying = dialect.varying
        self._rereads_gates = dialect.rereads_gates

    def when(self, gate: Value, then: Callable[[], Value | None], other: Value | None, hint: str = "v") -> Value | None:
        """Write an `if`."""
        if self._rereads_gates:
            name = self.fresh("gate")
            self.do(f"volatile uint {name} = {gate.text};")
            gate = Value(name, gate.element, gate.lanes)
        return super().when(gate, then, other, hint)

    @contextmanager
    def loop(
        self,
        count: Value,
        firsts: Sequence[Value] = (),
        *,
        parallel: bool = False,
        hint: str = "i",
        names: Sequence[str] = (),
    ) -> Generator[Turn]:
        """Write a `for`."""
        named = zip(names or [""] * len(firsts), firsts, strict=True)
        marked = [self._marked(x) if name in self._varying else x for name, x in named]
        with super().loop(count, marked, parallel=parallel, hint=hint, names=names) as turn:
            yield turn

    def _marked(self, x: Value) -> Value:
        """Return a value that looks as if it depended on the lane.

        Those bits are flipped that the lane's number has beyond the largest work-group: none.
        """
        bits = self.convert("bitcast", x, integer_of(x.element))
        grow = "trunc" if bits.element in ("i1", "i8", "i16") else "zext"
        flip = self.broadcast(self.convert(grow, _BEYOND, bits.element), x.lanes)
        return self.convert("bitcast", self.op("xor", bits, flip), x.element)


def _function(kind: str) -> Emitter:
    """Return an emitter that calls the language's own function."""
    return lambda forms, _, types, args: forms.code.call(kind, args[0])


def _lane_by_lane(kind: str) -> Emitter:
    """Return an emitter that calls it for one lane after the other."""

    def emit(forms: Forms, _: Instr, types: Sequence[Type], args: Sequence[Value]) -> Value:
        code, x = forms.code, args[0]
        if x.lanes == 1:
            return code.call(kind, x)
        return code.pack([code.call(kind, code.extract(x, lane)) for lane in range(x.lanes)])

    return emit


def _atomic(prefix: str, kind: str, type_: str) -> str:
    return f"{prefix}{kind}((volatile global {type_} *)&{{at}}, ({type_}){{value}});"


OPENCL = OpenClDialect(
    types={
        "i1": "bool",
        "i8": "uchar",
        "i16": "ushort",
        "i32": "uint",
        "i64": "ulong",
        "float": "float",
        "double": "double",
    },
    signed={"i8": "char", "i16": "short", "i32": "int", "i64": "long"},
    suffixes={"i32": "u", "i64": "ul", "float": "f"},
    functions={name: name for name in FUNCTIONS},
    # Of vectors PoCL 3.1 has a sine that is wrong for small lanes beside large ones.
    emitters={f"mov.{kind}": _function(kind) for kind in ("rsqrt", "exp2", "log2")} | {"mov.sin": _lane_by_lane("sin")},
    atomics={
        f"{kind}.{dtype}": _atomic(prefix, kind, type_)
        for kind in ATOMICS
        for dtype, (prefix, type_) in ATOMIC_TYPES.items()
    },
    prologue=("#pragma OPENCL FP_CONTRACT OFF",),
    head="kernel __attribute__((reqd_work_group_size({lanes}, 1, 1)))\nvoid run({parameters})",
    # A buffer is an object; which part of it is meant, views of `CheckedDevice` included, is a number beside it.
    buffer="global {const}uchar *{name}_all, ulong {name}_at",
    buffer_opening="global {const}{type} *restrict {name} = (global {const}{type} *)({name}_all + {name}_at);",
    scalar="{type} {name}",
    parameters=("uint first_group",),
    shared="local {type} {name}[{extent}];",
    group_number="first_group + (uint)get_group_id(0)",
    lane_number="(uint)get_local_id(0)",
    sync={
        "barrier": (f"barrier({_EVERYWHERE});",),
        "fence.group": (f"mem_fence({_EVERYWHERE});",),
        "fence.device": (f"mem_fence({_EVERYWHERE});",),
    },
)


class OpenClCompiler:
    """Prints kernels; the driver builds the text, as each vendor's binaries are its own."""

    def __init__(self, dialect: Callable[[Kernel], OpenClDialect]) -> None:
        """Print in the dialect that a driver wants for a kernel."""
        self._dialect = dialect

    def compile(self, kernel: Kernel) -> Code:
        """Print a kernel that fits the capabilities; its binary is its text."""
        text = print_c_lanes(kernel, self._dialect(kernel))
        if " atom_" in text:
            text = _WIDE_ATOMICS + text
        return Code(text, text.encode())
