"""Faults planted in the WGSL that the webgpu backend prints; the device process imports `...faults:BACKEND`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from portkit.backends.webgpu import WebGpuBackend
from portkit.contract import Device
from portkit.spec.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Fault:
    """What is written in place of what is matched, and the case that is to find it."""

    right: str
    wrong: str
    witness: str


FAULTS = {
    "floats_in_the_open": Fault(r"x \^ launch\[0\]\.x", "x", "kernels/math/softmax/7x33"),
    "signs_ignored_by_less": Fault(r"bitcast<i32>\(a\) < bitcast<i32>\(b\)", "a < b", "ops/phi.lt/i32/special"),
    "signs_ignored_by_shift": Fault(r"bitcast<i32>\(a\) >> b", "a >> b", "ops/mul.shr/i32/special"),
    "signs_ignored_by_cast": Fault(r"f32\(bitcast<i32>\(x\)\)", "f32(x)", "ops/mov.cast/i32-to-f32/special"),
    "lanes_do_not_meet": Fault(r"\w+Barrier\(\);", "", "ops/barrier/i32/exchange"),
    "one_row_of_groups": Fault(r"id\.y \* size\.x \+ id\.x", "id.x", "device/launch/groups_100000"),
    "last_turns_left_out": Fault(r"_whole\)", "_whole + 1u)", "ops/loop.serial/i32/counts"),
    "atomic_max_is_min": Fault(r"atomicMax\(&m_out", "atomicMin(&m_out", "ops/store.atomic.max/i32/contended"),
}


class Faulty(WebGpuBackend):
    """The backend, printing a kernel that has the name of a fault with that fault in it."""

    def open(self) -> Device:
        """Open the device, and change the printer of this process."""
        from portkit.backends.webgpu import device

        original = device.print_wgsl

        def print_wrongly(kernel: Kernel, target: device.Wgsl) -> str:
            text, fault = original(kernel, target), FAULTS.get(kernel.name)
            return re.sub(fault.right, fault.wrong, text) if fault else text

        device.print_wgsl = print_wrongly
        return super().open()


BACKEND = Faulty()
