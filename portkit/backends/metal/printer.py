"""Kernels in the Metal Shading Language: a table of how it spells C, and the entry function around what a lane does.

    work    what one lane does: the text of the shared printer, which knows neither bindings nor address spaces
    entry   what Metal calls: buffers in slots 0, 1, ...; behind them one slot with the words of all scalars and grid
            extents, as Metal has 31 slots, and the number of the first threadgroup; all shared arrays in one block

Source: Metal Shading Language Specification 3.2: 1.6 (compiler options), 2.1 (scalar types), 4 (address spaces), 5.1
and 5.2 (attributes), 6.9 (synchronisation), 6.15 (atomics).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from portkit.backends.toolkit.c_lanes import LaneDialect, memory_name, print_c_lanes
from portkit.backends.toolkit.code import Value, memory_element_of
from portkit.backends.toolkit.forms import EMITTERS, Emitter, Forms
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import F16, DType, Type

_ALIGN = 64
"""Of shared arrays in their block; also what Metal asks of the block's length, a multiple of 16."""
ENTRY = "entry"
SHARED_BLOCK = "[[threadgroup(0)]]"
_LINES = ",\n    "
_BOTH = "mem_flags::mem_device | mem_flags::mem_threadgroup"
_TYPES = {"i1": "bool", "i8": "uchar", "i16": "ushort", "i32": "uint", "i64": "ulong", "half": "half", "float": "float"}


def _atomic(kind: str, dtype: str, cast: str) -> str:
    """Return the statement of a relaxed atomic operation whose result is not used."""
    return f"atomic_fetch_{kind}_explicit((device atomic_{dtype}*)&{{at}}, ({cast}){{value}}, memory_order_relaxed);"


_EXTREMES = (
    "static int ordered(const float x) {",
    "    const int bits = as_type<int>(x);",
    "    return bits ^ ((bits >> 31) & 0x7fffffff);",
    "}",
    *(
        f"static float {name}(const float a, const float b) "
        f"{{ return a != a ? a : b != b ? b : ordered(a) {comparison} ordered(b) ? a : b; }}"
        for name, comparison in (("maximum", ">"), ("minimum", "<"))
    ),
)
"""max and min that give NaN for NaN. They compare integers: a comparison of floats flushes what it compares."""


def _in_half(name: str) -> Emitter:
    """Return what writes an operation in Metal's own `half` where it is on f16, else as the toolkit does."""

    def emit(forms: Forms, instr: Instr, types: Sequence[Type], args: Sequence[Value]) -> Value:
        if types[0].dtype != F16:
            return EMITTERS[instr.name](forms, instr, types, args)
        halves = [forms.code.convert("bitcast", x, "half") for x in args]
        result = forms.code.call(*("fma", *halves)) if name == "fma" else forms.code.op(name, *halves)
        return forms.code.convert("bitcast", result, "i16")

    return emit


MSL = LaneDialect(
    types=_TYPES,
    signed={"i8": "char", "i16": "short", "i32": "int", "i64": "long"},
    suffixes={"i32": "u", "i64": "ul", "float": "f"},
    functions={
        "fma": "fma",
        "fabs": "fabs",
        "sqrt": "precise::sqrt",
        "trunc": "trunc",
        **{n: n for n in ("maximum", "minimum")},
    },
    emitters={"add": _in_half("fadd"), "mul": _in_half("fmul"), "mul.add": _in_half("fma")},
    reinterpret="as_type<{type}>({x})",
    native_half=True,
    atomics={
        **{f"{kind}.i32": _atomic(kind, "int", "int") for kind in ("add", "max", "min")},
        **{f"{kind}.u32": _atomic(kind, "uint", "uint") for kind in ("add", "max", "min")},
        "swap.i32": "atomic_compare_exchange_weak_explicit((device atomic_uint*)&{at}, &{expected}, {new}, "
        "memory_order_relaxed, memory_order_relaxed)",
    },
    prologue=(
        "#include <metal_stdlib>",
        "using namespace metal;",
        "#pragma METAL fp math_mode(safe)",
        "#pragma METAL fp contract(off)",
        "",
        *_EXTREMES,
        "",
    ),
    head="static void work(\n    {parameters})",
    buffer="device {const}{type}* {name}",
    scalar="const {type} {name}",
    parameters=("const uint group", "const uint lane"),
    shared="// {name} is threadgroup memory: {extent} x {type}",
    group_number="group",
    lane_number="lane",
    sync={
        "barrier": (f"threadgroup_barrier({_BOTH});",),
        "fence.group": (f"atomic_thread_fence({_BOTH}, memory_order_seq_cst, thread_scope_threadgroup);",),
        "fence.device": (f"atomic_thread_fence({_BOTH}, memory_order_seq_cst, thread_scope_device);",),
    },
)


class Printed(msgspec.Struct, frozen=True):
    """A kernel's text, and what a launch must know of it: how many lanes and buffers, and bytes of shared arrays."""

    text: str
    lanes: int
    buffers: int
    shared_bytes: int

    def pack(self) -> bytes:
        """Return it as bytes, which may be kept in a file."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> Printed:
        """Return what was packed."""
        return msgspec.msgpack.decode(data, type=cls)


def print_msl(kernel: Kernel, dialect: LaneDialect = MSL) -> Printed:
    """Return a verified kernel that fits the declared capabilities in the Metal language.

    Raises `CompileError` for a form that the dialect has no text for.
    """
    arrays = [f"threadgroup {_type(s.dtype)}* {memory_name(s.name)}" for s in kernel.shared]
    work = print_c_lanes(kernel, replace(dialect, parameters=(*dialect.parameters, *arrays)))
    offsets, shared_bytes = _layout(kernel)
    return Printed(f"{work}\n{_entry(kernel, offsets)}", kernel.lanes, len(kernel.buffers), shared_bytes)


def _type(dtype: DType) -> str:
    return MSL.types[memory_element_of(dtype)]


def _layout(kernel: Kernel) -> tuple[list[int], int]:
    """Return where each shared array starts in their block, and the length of the block."""
    offsets: list[int] = []
    end = 0
    for shared in kernel.shared:
        offsets.append(end)
        end += -(-shared.extent * shared.dtype.bytes // _ALIGN) * _ALIGN
    return offsets, end


def _entry(kernel: Kernel, offsets: list[int]) -> str:
    constness = {"read": "const ", "write": "", "readwrite": ""}
    parameters = [
        f"device {constness[b.access]}{_type(b.dtype)}* {memory_name(b.name)} [[buffer({place})]]"
        for place, b in enumerate(kernel.buffers)
    ]
    parameters += [
        f"constant ulong* words [[buffer({len(kernel.buffers)})]]",
        "uint group [[threadgroup_position_in_grid]]",
        "uint lane [[thread_index_in_threadgroup]]",
        *([f"threadgroup uchar* shared {SHARED_BLOCK}"] if offsets else []),
    ]
    given = [memory_name(b.name) for b in kernel.buffers] + _words(kernel)
    given += [f"(threadgroup {_type(s.dtype)}*)(shared + {at})" for s, at in zip(kernel.shared, offsets, strict=True)]
    most = f"[[max_total_threads_per_threadgroup({kernel.lanes})]]"  # lest registers leave room for fewer
    return f"{most}\nkernel void {ENTRY}(\n    {_LINES.join(parameters)}) {{\n    work({_LINES.join(given)});\n}}\n"


def _words(kernel: Kernel) -> list[str]:
    """Return how each scalar, each grid extent, the group's number and the lane's are had from the words."""
    kinds = [s.dtype.is_float for s in kernel.scalars] + [False] * len(kernel.nest.grids)
    texts = [f"as_type<float>(uint(words[{i}]))" if f else f"uint(words[{i}])" for i, f in enumerate(kinds)]
    return [*texts, f"uint(words[{len(kinds)}]) + group", "lane"]
