"""Hints for failures that show no wrong element: what failed, and in which case, names the cause."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.conformance.finding import Check
from portkit.conformance.hints.causes import Cause
from portkit.conformance.hints.diagnose import diagnose
from portkit.conformance.hints.symptoms import Evidence, Symptoms
from portkit.reference.acceptance import acceptance
from portkit.spec.text import parse
from portkit.spec.types import F32

COPY = parse("""portkit 1.0-draft
kernel copy
buffer x f32[4] read
buffer out f32[4] write
begin
g = loop.grid 1
l = loop.lane 4
v = load x l
store out l v
endloop l
endloop g
""")


@pytest.mark.parametrize(
    ("check", "case_id", "reason", "cause"),
    [
        (Check.TAIL, "kernels/loops/triangle", "", Cause.OUT_OF_BOUNDS),
        (Check.GUARDS, "kernels/loops/triangle", "", Cause.OUT_OF_BOUNDS),
        (Check.INPUTS, "kernels/loops/triangle", "", Cause.INPUT_CHANGED),
        (Check.REPEAT, "ops/add/f32/random", "", Cause.VARIES),
        (Check.CRASH, "ops/add/f32/random", "", Cause.CRASH),
        (Check.CRASH, "device/launch/grid_2d", "", Cause.GRID),
        (Check.HANG, "ops/barrier/i32/exchange", "", Cause.HANG),
        (Check.DEVICE, "device/copy/whole", "copy of a whole buffer: byte 999 of 1000 is 0x00", Cause.COPY_LENGTH),
        (Check.DEVICE, "device/copy/offsets", "copies at offsets: byte 1 of 1000", Cause.OFFSET),
        (Check.DEVICE, "device/transfer/size_65", "byte 64 of 65", Cause.COPY_LENGTH),
        (Check.DEVICE, "device/errors/double_free", "expected InvalidHandle, but it succeeded", Cause.ERROR_SWALLOWED),
        (Check.DEVICE, "device/reset/forgets_buffers", "but it succeeded", Cause.STATE),
        (Check.DEVICE, "device/launch/argument_order", "3 of 12 wrong", Cause.ARGUMENTS),
        (Check.DEVICE, "device/executable/several_alive", "64 of 128 wrong", Cause.STALE_KERNEL),
        (Check.CALL, "ops/add/f32/random", "CompileError: unknown instruction", Cause.REFUSED),
        (Check.DEVICE, "device/copy/whole", "copy of a whole buffer: byte 0 of 1000 is 0x00", Cause.WAIT),
        (
            Check.DEVICE,
            "device/launch/scalar_extremes",
            "scalars 7 and 1e-45: 1 of 2 wrong; [1] is 0, exp",
            Cause.FLUSH,
        ),
        (Check.CALL, "device/allocate/memory_is_given_back", "OutOfMemory: no room", Cause.LEAK),
    ],
)
def test_the_check_and_the_case_name_the_cause(check: Check, case_id: str, reason: str, cause: Cause) -> None:
    assert diagnose(Symptoms(check, case_id, reason))[0].cause is cause


def test_an_input_that_changed_while_no_output_did_means_exchanged_arguments() -> None:
    x, poison = np.ones(4, np.float32), np.frombuffer(b"\xa5" * 16, np.float32)
    accepted = {"out": acceptance(F32, x, nan_bits=True)}
    evidence = Evidence(COPY, {}, {"x": x, "out": poison}, {"x": poison, "out": poison}, accepted, 0xA5)
    assert diagnose(Symptoms(Check.INPUTS, evidence=evidence))[0].cause is Cause.ARGUMENTS


def test_a_check_of_the_device_that_no_rule_knows_gets_no_hint() -> None:
    assert diagnose(Symptoms(Check.DEVICE, "device/other/case", "it is not so")) == []
