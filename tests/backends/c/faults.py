"""Faults planted in the text that the c backend compiles; the device process imports them as `...faults:NAME`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from portkit.backends.c import CBackend
from portkit.backends.toolkit.c_kernel import GroupDialect
from portkit.backends.toolkit.groups import Printed
from portkit.contract import Device
from portkit.spec.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Fault:
    """What is written in place of what is matched, and the case that is to find it."""

    right: str
    wrong: str
    witness: str


FAULTS = {
    "sign_not_copied": Fault(r"\(u32\)\(\(s32\)(\w+) >>", r"(u32)(\1 >>", "ops/mul.shr/i32/special"),
    "sign_not_compared": Fault(r"\(s32\)(\w+) < \(s32\)(\w+);", r"\1 < \2;", "ops/phi.lt/i32/special"),
    "gates_of_loads_open": Fault(r"(?<!\))\bif \(\w+\) \{(\s+const)", r"{\1", "kernels/index/gated_chain/150"),
    "groups_begin_at_zero": Fault(r"begin \+ (group_\d+)", r"\1", "device/launch/groups_1000"),
    "fused_in_two_roundings": Fault(
        r"__builtin_fmaf\((.*?), (.*?), (.*?)\)", r"(\1 * \2 + \3)", "ops/mul.add/f32/ties"
    ),
    "shared_arrays_overlap": Fault(r"\(scratch \+ \d+\)", "(scratch + 0)", "kernels/shared/several_arrays/32"),
    "base_of_index_unsigned": Fault(r"\(s64\)\(s32\)\(", "(s64)(", "kernels/shared/stencil/200"),
    "bytes_of_lanes_cut": Fault(r"(&\w+, sizeof \w+)", r"\1 - 1", "ops/store.vec/f32x4/special"),
    "lane_of_mask_shifted": Fault(
        r"(for \(u32 \w+ = 0; .* if \(\w+\[)(\w+)\]", r"\1\2 ^ 1]", "ops/load.vec/f32x4/gate"
    ),
    "most_is_least": Fault(r"\(s32\)(\w+) > \(s32\)", r"(s32)\1 < (s32)", "ops/store.atomic.max/i32/bins"),
    "reduction_of_one_half": Fault(r"u32 (level_\d+) = 0u", r"u32 \1 = 1u", "ops/reduce.group.add/i32/special"),
}


class Faulty(CBackend):
    """The backend with one fault in all that it prints."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def open(self) -> Device:
        """Open the device; its process has no other."""
        from portkit.backends.c import device

        right, fault = device.print_c_kernel, self.fault

        def print_wrongly(kernel: Kernel, dialect: GroupDialect) -> Printed:
            printed = right(kernel, dialect)
            return Printed(re.sub(fault.right, fault.wrong, printed.text), printed.scratch)

        device.print_c_kernel = print_wrongly
        return super().open()


globals().update({name: Faulty(fault) for name, fault in FAULTS.items()})
