"""Running gfx942 text in tests: a kernel around one instruction, or a body of many, on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.emulators.gcn import GcnKernel
from portkit.emulators.memory import Arena

Array = NDArray[Any]
_TEXT = """
kernel:
{body}
\ts_endpgm
\t.section\t.rodata,"a",@progbits
\t.amdhsa_kernel kernel
{descriptor}
\t.end_amdhsa_kernel
"""
_DESCRIPTOR = {"user_sgpr_count": 2, "user_sgpr_kernarg_segment_ptr": 1, "system_sgpr_workgroup_id_x": 1}
_LOADS = {2: "global_load_ushort v{0}", 4: "global_load_dword v{0}", 8: "global_load_dwordx2 v[{0}:{1}]"}
_STORES = {
    2: "global_store_short {0}, v{1}",
    4: "global_store_dword {0}, v{1}",
    8: "global_store_dwordx2 {0}, v[{1}:{2}]",
}
RESULT, FIRST = 20, 2
"""The register of a result, and of the first operand; each takes two."""


def text(body: str, **descriptor: int) -> str:
    """Return a kernel of the given lines; keywords are what its descriptor says more."""
    known = {**_DESCRIPTOR, **descriptor}
    lines = (f"\t\t.amdhsa_{name} {value}" for name, value in known.items())
    return _TEXT.format(body=body, descriptor="\n".join(lines))


def run(
    body: str, arrays: Sequence[Array], *, lanes: int = 64, groups: int = 1, descriptor: Mapping[str, int] | None = None
) -> list[Array]:
    """Run a body that finds the addresses of arrays in s[8:9], s[10:11] and so on; return the arrays afterwards."""
    memory = Arena(1 << 24)
    addresses = [memory.allocate(array.nbytes) for array in arrays]
    for address, array in zip(addresses, arrays, strict=True):
        memory.write(address, array.tobytes())
    loads = [f"s_load_dwordx2 s[{8 + 2 * n}:{9 + 2 * n}], s[0:1], {8 * n:#x}" for n in range(len(arrays))]
    kernel = GcnKernel(text("\n".join([*loads, body]), **(descriptor or {})))
    kernel.run(memory, np.array(addresses, np.uint64).tobytes(), groups, lanes)
    return [
        np.frombuffer(memory.read(address, array.nbytes), array.dtype)
        for address, array in zip(addresses, arrays, strict=True)
    ]


def compute(body: str, operands: Sequence[Array], dtype: Any, *, before: int = 0) -> Array:
    """Return what lanes have in v20 (8 bytes: v[20:21]) after a body with their operands in v2, v4, v6 (16 bits: low).

    Operands have one element for each lane; `before` is what v20 and v21 hold at first.
    """
    lanes = len(operands[0])
    lines = [f"v_mov_b32_e32 v{RESULT + k}, {before:#x}" for k in range(2)]
    for place, operand in enumerate(operands):
        size, register = operand.dtype.itemsize, FIRST + 2 * place
        lines.append(f"v_mul_u32_u24_e32 v1, {size}, v0")
        lines.append(f"{_LOADS[size].format(register, register + 1)}, v1, s[{8 + 2 * place}:{9 + 2 * place}]")
    out = np.zeros(lanes, dtype)
    store = _STORES[out.dtype.itemsize].format("v1", RESULT, RESULT + 1)
    at = 8 + 2 * len(operands)
    lines += [body, f"v_mul_u32_u24_e32 v1, {out.dtype.itemsize}, v0", f"{store}, s[{at}:{at + 1}]"]
    return run("\n".join(lines), [*operands, out], lanes=lanes)[-1]


def same(actual: Array, expected: Array) -> bool:
    """Whether floats are equal, the sign of zeros included, NaN whatever their payload."""
    equal = (actual == expected) & (np.signbit(actual) == np.signbit(expected))
    return bool((equal | (np.isnan(actual) & np.isnan(expected))).all())
