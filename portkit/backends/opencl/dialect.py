"""OpenCL C 1.2 as a dialect of the C-family printer: a table of what it spells its own way."""

from __future__ import annotations

from portkit.backends.toolkit.c_lanes import LaneDialect, print_c_lanes
from portkit.backends.toolkit.forms import Emitter
from portkit.contract import Code
from portkit.spec.kernel import Kernel

_ATOMICS = ("add", "max", "min")
_INT, _LONG = {"i32": "int", "u32": "uint"}, {"i64": "long", "u64": "ulong"}


def _function(kind: str) -> Emitter:
    """Return an emitter that calls the language's own function."""
    return lambda forms, _, types, args: forms.code.call(kind, args[0])


def _atomics(prefix: str, types: dict[str, str]) -> dict[str, str]:
    return {
        f"{kind}.{dtype}": f"{prefix}{kind}((volatile global {type_} *)&{{at}}, ({type_}){{value}});"
        for kind in _ATOMICS
        for dtype, type_ in types.items()
    }


OPENCL = LaneDialect(
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
    functions={name: name for name in ("fma", "fabs", "sqrt", "trunc", "rsqrt", "exp2", "log2", "sin")},
    emitters={f"mov.{kind}": _function(kind) for kind in ("rsqrt", "exp2", "log2", "sin")},
    atomics=_atomics("atomic_", _INT) | _atomics("atom_", _LONG),
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
        "barrier": ("barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);",),
        "fence.group": ("mem_fence(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);",),
        "fence.device": ("mem_fence(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);",),
    },
)


class OpenClCompiler:
    """Prints kernels; the driver builds the text, as each driver's binaries are its own."""

    def __init__(self, declarations: str = "") -> None:
        """Put `declarations` before each text."""
        self._declarations = declarations

    def compile(self, kernel: Kernel) -> Code:
        """Print a kernel that fits the capabilities; the binary is its text."""
        text = print_c_lanes(kernel, OPENCL)
        return Code(text, (self._declarations + text).encode())
