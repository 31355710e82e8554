"""What PoCL, an OpenCL driver for processors, is helped with: time, space, and two mistakes.

*Time.* Its front end reads the declarations of all functions of OpenCL C, 18,000 lines, before each kernel: 80 of the
95 ms of a build. They have an include guard, so they can be left out, and those that kernels use be declared instead.

For kernels of few lanes whose number is known it writes the body once for each lane; of a kernel of some hundred
instructions with barriers that is more than it compiles in ten seconds. Loops over the lanes take a fifth of that. Of
some long kernels its optimiser takes minutes all the same, so that they are built without it.

*Space.* It leaves 70 kB of files for each kernel that was ever built. They go with the process.

*Mistakes.* Where lanes meet, PoCL keeps a register for each lane, unless it finds that all lanes have the same value.
Of a carry of a loop whose count differs between lanes it thinks so wrongly if all turns give it one value (PoCL 3.1;
`tests/backends/opencl/test_pocl.py` has the kernel). And in large kernels in which lanes meet, `if`s of one condition
are drawn together such that it holds in lanes in which it does not: these store where the gate forbids it.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from portkit.backends.opencl.dialect import ATOMIC_TYPES, ATOMICS, FUNCTIONS, OPENCL, OpenClDialect
from portkit.spec.kernel import Kernel
from portkit.spec.uniform import uniform_registers

PLATFORM = "Portable Computing Language"
LIGHT_OPTION = "-D_OPENCL_H_"
UNOPTIMISED = "-cl-opt-disable"
LONG = 16_000
"""Characters of text from which on a kernel is built without the optimiser; those of tensors have a few thousand."""
METHOD = "POCL_WORK_GROUP_METHOD"
_PREFIX = "portkit-pocl-"


def settle() -> None:
    """Let PoCL loop over lanes, and keep its files in a private folder until this process ends.

    What the environment says already stays: `POCL_WORK_GROUP_METHOD`, and `POCL_CACHE_DIR` for a folder that lasts.
    Called before the first platform is asked for, which is when PoCL reads its environment.
    """
    os.environ.setdefault(METHOD, "loopvec")
    if "POCL_CACHE_DIR" in os.environ:
        return
    _sweep(Path(tempfile.gettempdir()))
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
    os.environ["POCL_CACHE_DIR"] = folder
    os.environ.setdefault("POCL_KERNEL_CACHE", "0")
    atexit.register(_remove, folder, os.getpid())


def options(text: str) -> tuple[str, ...]:
    """Return the options for a kernel's text."""
    return (UNOPTIMISED,) if len(text) >= LONG else ()


def _remove(folder: str, owner: int) -> None:
    """Remove the folder, unless this is a forked child of the process that made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in place.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and _ended(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # there is one, another user's
        return False
    return False


# --- time ---------------------------------------------------------------------------------------------------------


_PURE = "__attribute__((overloadable, const))"
_ANYHOW = "__attribute__((overloadable))"
_MEETING = "__attribute__((overloadable, convergent))"
_FLOATS = ("float", "double")
_INTEGERS = (*OPENCL.signed.values(), *(OPENCL.types[element] for element in OPENCL.signed))


def declarations(text: str) -> str:
    """Return declarations of what a text of the dialect may call, as the language defines it."""
    widths = ["", *sorted(set(re.findall(rf"\b(?:{'|'.join((*_FLOATS, *_INTEGERS))})(\d+)\b", text)), key=int)]
    lines = [line for width in widths for line in _of_width(width)]
    lines += [line for width in widths[1:] for line in _of_vectors(width)]
    for target, width in sorted(set(re.findall(r"\bconvert_([a-z]+)(\d+)\(", text))):
        name = f"{target}{width} {_PURE} convert_{target}{width}"
        lines += [f"{name}({source}{width});" for source in (*_FLOATS, *_INTEGERS)]
    return "\n".join([*_ALWAYS, *lines, ""])


def _always() -> list[str]:
    lines = [f"size_t {_PURE} {name}(uint);" for name in ("get_group_id", "get_local_id")]
    lines += [f"void {_MEETING} barrier(uint);", f"void {_ANYHOW} mem_fence(uint);"]
    for prefix, type_ in ATOMIC_TYPES.values():
        lines += [f"{type_} {_ANYHOW} {prefix}{kind}(volatile global {type_} *, {type_});" for kind in ATOMICS]
    return lines


def _of_width(width: str) -> list[str]:
    """Return what there is of numbers and of vectors."""
    floats, integers = ([f"{type_}{width}" for type_ in types] for types in (_FLOATS, _INTEGERS))
    lines = [f"{t} {_PURE} {f}({', '.join([t] * (3 if f == 'fma' else 1))});" for t in floats for f in FUNCTIONS]
    return lines + [f"{t} {_PURE} {f}({t}, {t});" for t in integers for f in ("max", "min")]


def _of_vectors(width: str) -> list[str]:
    """Return what there is of vectors only."""
    masks = {"float": "int", "double": "long"} | {OPENCL.types[e]: signed for e, signed in OPENCL.signed.items()}
    lines: list[str] = []
    for type_ in (*_FLOATS, *_INTEGERS):
        vector, mask = f"{type_}{width}", f"{masks.get(type_, type_)}{width}"
        lines.append(f"{vector} {_PURE} select({vector}, {vector}, {mask});")
        for space in ("global", "local"):
            lines.append(f"{vector} __attribute__((overloadable, pure)) vload{width}(size_t, const {space} {type_} *);")
            lines.append(f"void {_ANYHOW} vstore{width}({vector}, size_t, {space} {type_} *);")
    return lines


_ALWAYS = _always()
EXAMPLE = """
kernel void run(global float *x, global int *y) {
    barrier(CLK_LOCAL_MEM_FENCE);
    x[get_local_id(0)] = fma(sqrt(x[0]), x[get_group_id(0)], as_float(1u));
    const float4 lanes = convert_float4(vload4(0, y));
    vstore4(select(lanes, sqrt(lanes), lanes < 1.0f), 0, x);
    atomic_add((volatile global int *)y, 1);
}
"""
"""A kernel that builds if the declarations fit this release of PoCL."""

# --- the mistakes -------------------------------------------------------------------------------------------------


def dialect(kernel: Kernel) -> OpenClDialect:
    """Return OpenCL C that PoCL takes for what it says, also where lanes meet."""
    if not any(instr.name == "barrier" for instr in kernel.body):
        return OPENCL
    uniform = uniform_registers(kernel)
    varying = frozenset(i.result for i in kernel.body if i.name == "phi.carry" and i.result not in uniform)
    opening = ("const uint beyond = (uint)get_local_id(0) >> 16;",)
    return replace(OPENCL, varying=varying, rereads_gates=True, opening=opening)
