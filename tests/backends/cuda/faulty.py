"""The cuda port with a fault in its printer: backends by name, each of which rewrites the LLVM IR of every kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property

from portkit.backends.cuda import BACKEND, compiler
from portkit.backends.cuda.device import open_emulated
from portkit.contract import Capabilities, Device

Rewrite = Callable[[str], str]


def _replaced(pattern: str, by: str) -> Rewrite:
    return lambda text: re.sub(pattern, by, text)


FAULTS: dict[str, tuple[Rewrite, str]] = {
    "no_barrier": (_replaced(r"\n.*barrier\.cta\.sync.*", ""), "ops/barrier/i32/exchange"),
    "group_is_lane": (_replaced(r"ctaid\.x", "tid.x"), "ops/loop.grid/i32/count_64"),
    "lane_is_group": (_replaced(r"sreg\.tid\.x", "sreg.ctaid.x"), "ops/loop.lane/i32/37"),
    "contracted": (_replaced(r"\bf(add|mul) ", r"f\1 contract "), "ops/mul.then_add/f32/ties"),
    "signed_is_unsigned": (_replaced(r"icmp slt", "icmp ult"), "ops/phi.lt/i32/special"),
    "shift_without_sign": (_replaced(r"ashr", "lshr"), "ops/mul.shr/i32/special"),
    "atomic_is_plain": (
        _replaced(r"atomicrmw add (ptr addrspace\(1\) \S+), (i32 \S+) monotonic, align 4", r"store \2, \1, align 4"),
        "ops/store.atomic.add/i32/contended",
    ),
    "gate_always_open": (_replaced(r"select i1 (\S+), i1 true, i1 false", "or i1 true, \\1"), "ops/load/i32/gate"),
    "coarse_power": (_replaced(r"nvvm\.ex2\.approx\.f32", "sqrt.f32"), "ops/mov.exp2/f32/special"),
    "flushed": (
        lambda text: text.replace("nounwind ", 'nounwind "denormal-fp-math-f32"="preserve-sign,preserve-sign" '),
        "ops/mul/f32/special",
    ),
}
"""What is rewritten, and a case that must find it."""


class FaultyBackend:
    """The port on its interpreter, with one fault."""

    name = BACKEND.name

    def __init__(self, fault: str) -> None:
        self.fault = fault

    @cached_property
    def capabilities(self) -> Capabilities:
        return BACKEND.capabilities

    def probe(self) -> str | None:
        return None

    def open(self) -> Device:
        sound, (rewrite, _) = compiler.print_lanes, FAULTS[self.fault]
        compiler.print_lanes = lambda kernel, target: rewrite(sound(kernel, target))
        return open_emulated(self.capabilities, "the port is faulty on purpose")


no_barrier, group_is_lane, lane_is_group, contracted, signed_is_unsigned, shift_without_sign = map(
    FaultyBackend, list(FAULTS)[:6]
)
atomic_is_plain, gate_always_open, coarse_power, flushed = map(FaultyBackend, list(FAULTS)[6:])
