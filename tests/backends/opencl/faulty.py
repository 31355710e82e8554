"""The opencl backend with a fault planted in what it prints; `tests.backends.opencl.faulty:NAME` is a backend.

A fault is a rewriting of the text, found by a case of the suite that is named with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from portkit.backends.opencl import OpenClBackend
from portkit.contract import Code, Device
from portkit.spec.kernel import Kernel

_BARRIER = r"barrier\(CLK_LOCAL_MEM_FENCE \| CLK_GLOBAL_MEM_FENCE\);"


class Fault(NamedTuple):
    """What is replaced in each text, and the case that finds it."""

    pattern: str
    replacement: str
    witness: str


FAULTS = {
    "fma_rounds_twice": Fault(r"fma\((\w+), (\w+), (\w+)\)", r"\1 * \2 + \3", "ops/mul.add/f32/ties"),
    "minimum_ignores_sign": Fault(r"min\(\(int\)(\w+), \(int\)(\w+)\)", r"min(\1, \2)", "ops/reduce.min/i32/special"),
    "shift_ignores_sign": Fault(r"\(uint\)\(\(int\)(\w+) >> (\w+)\)", r"\1 >> \2", "ops/mul.shr/i32/special"),
    "cast_ignores_sign": Fault(r"\(float\)\(int\)", "(float)", "ops/mov.cast/i32-to-f32/special"),
    "cast_forgets_to_cap": Fault(
        r"(const float \w+ = )\w+ \? (\w+) : 0\.0f;", r"\1\2;", "ops/mov.cast/f32-to-i32/nonfinite"
    ),
    "constants_are_short": Fault(r"(0x1\.[0-9a-f]{1,4})[0-9a-f]+p", r"\1p", "ops/mov.const/f32/special"),
    "gate_dropped": Fault(r"if \(\w+\) \{", "if (true) {", "ops/store/f32/gate"),
    "barrier_dropped": Fault(_BARRIER, ";", "ops/barrier/i32/exchange"),
    "barrier_inside_loops_dropped": Fault(
        rf"^(        +){_BARRIER}", r"\1;", "kernels/shared/rotate_loop/64_lanes_13_trips"
    ),
    "loop_turns_once_more": Fault(r"(for \(.+?) < ", r"\1 <= ", "ops/loop.serial/i32/counts"),
    "carries_in_turn": Fault(
        r"const \w+ (\w+) = (\w+);\n\s+const \w+ (\w+) = (\w+);\n(\s+\w+ = )\1;\n(\s+\w+ = )\3;",
        r"\n\5\2;\n\6\4;",
        "ops/phi.carry/f32/special",
    ),
    "grid_is_transposed": Fault(r"(const uint \w+ = \w+) % extent1;", r"\1 / extent1;", "device/launch/grid_2d"),
    "atomic_maximum_adds": Fault(r"atomic_max", "atomic_add", "ops/store.atomic.max/i32/contended"),
    "atomic_maximum_ignores_sign": Fault(
        r"atomic_max\(\(volatile global int \*\)(.+), \(int\)(\w+)\);",
        r"atomic_max((volatile global uint *)\1, \2);",
        "ops/store.atomic.max/i32/special",
    ),
    "truncation_dropped": Fault(r"trunc\(", "(", "ops/mov.trunc/f32/special"),
    "reciprocal_of_root_is_coarse": Fault(r"rsqrt\((\w+)\)", r"(rsqrt(\1) * 1.000002f)", "ops/mov.rsqrt/f32/random"),
    "index_is_short": Fault(r"_m\[(\w+)\];", r"_m[(ushort)\1];", "kernels/index/far/last_element"),
    "copy_is_short": Fault(
        r"(for \(uint copied\w+ = 0u; .+ \(int\))(\d+)u;", r"\1(\2u - 1u);", "ops/load.async/f32/own"
    ),
    "lane_taken_for_the_next": Fault(r"\.s0", ".s1", "ops/mov.lane/f32x4/special"),
    "lanes_ignore_sign": Fault(
        r"as_int4\((\w+)\) < as_int4\((\w+)\)", r"as_uint4(\1) < as_uint4(\2)", "ops/phi.lt/i32x4/special"
    ),
    "neighbours_begin_late": Fault(r"vload4\(0, &", "vload4(0, 1 + &", "ops/load.vec/f32x4/shared"),
    "lane_behind_a_gate_is_another": Fault(r"(\[\w+ \+ )3\]", r"\g<1>2]", "ops/load.vec/f32x4/offset"),
    "last_group_counts_from_zero": Fault(r"first_group \+ \(uint\)get_group_id\(0\)", "0u", "device/launch/groups_2"),
}


class _Faulty:
    """A compiler that prints a fault."""

    def __init__(self, compile: Callable[[Kernel], Code], fault: Fault) -> None:
        self._compile = compile
        self._fault = fault

    def compile(self, kernel: Kernel) -> Code:
        source = self._compile(kernel).source
        text = re.sub(self._fault.pattern, self._fault.replacement, source, flags=re.MULTILINE)
        return Code(text, text.encode())


class FaultyBackend(OpenClBackend):
    """The backend, but for what it prints."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def open(self) -> Device:
        from portkit.backends.drivers.device import CheckedDevice

        device = super().open()
        assert isinstance(device, CheckedDevice)
        device._compiler = _Faulty(device._compiler.compile, self._fault)
        return device


def __getattr__(name: str) -> FaultyBackend:
    if name not in FAULTS:
        raise AttributeError(name)
    return FaultyBackend(FAULTS[name])
