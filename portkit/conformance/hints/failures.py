"""Hints for failures that show no wrong element of a launch: what the check that failed, and its case, say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from portkit.conformance.finding import Check
from portkit.conformance.hints.causes import LOOK_AT, Cause
from portkit.conformance.hints.symptoms import Evidence, Hint, Symptoms

_C = Cause
_BY_CHECK: dict[Check, tuple[Cause, str]] = {
    Check.REPEAT: (_C.VARIES, "the same launch gives other results when it is repeated"),
    Check.GUARDS: (_C.OUT_OF_BOUNDS, "memory of other allocations changed"),
    Check.TAIL: (_C.OUT_OF_BOUNDS, "bytes behind a buffer changed"),
    Check.INPUTS: (_C.INPUT_CHANGED, "a buffer that the kernel only reads changed"),
    Check.CRASH: (_C.CRASH, "the device process died"),
    Check.HANG: (_C.HANG, "the launch did not end"),
}

_RAISED: tuple[tuple[str, str, Cause, str], ...] = (
    ("device/reset", "", _C.STATE, "a call fails after a reset"),
    ("device/allocate/zero_bytes", "", _C.REFUSED, "a buffer of no bytes is refused"),
    ("device/launch/many_times", "", _C.LEAK, "a call fails after many launches"),
    ("device/executable/release", "", _C.STATE, "releasing an executable touches another"),
    ("device", "OutOfMemory", _C.LEAK, "memory ran out after many calls"),
    ("", "", _C.REFUSED, "a call raises where it must not"),
)
"""For calls that raise: the beginning of the case's id, what its reason holds, the cause, and what to say."""
_ABOUT_GRIDS = ("device/launch/grid", "device/launch/lanes", "device/launch/groups")
_BY_CASE: tuple[tuple[str, str, Cause, str], ...] = (
    # transfers and copies
    ("device/copy/whole", r"byte 0 of", _C.WAIT, "a copy has not happened when its target is read"),
    ("device/copy/between_launches", "", _C.WAIT, "a copy and the launches around it overtake each other"),
    ("device/copy/within_one_buffer", "is 0x00", _C.NOTHING, "a copy within one buffer does nothing"),
    ("device/copy/whole", r"byte \d+", _C.COPY_LENGTH, "a copy of a whole buffer leaves bytes out"),
    ("device/copy", "", _C.OFFSET, "copies at offsets touch the wrong bytes"),
    ("device/transfer/offsets", "", _C.OFFSET, "transfers at offsets touch the wrong bytes"),
    ("device/transfer/memoryview", "", _C.OFFSET, "a part of the host's memory is taken from its beginning"),
    ("device/transfer/last_write_wins", "", _C.STATE, "an earlier write overtakes a later one"),
    ("device/transfer", "", _C.COPY_LENGTH, "bytes are lost between writing and reading"),
    # errors and lifetimes
    ("device/errors/compile", "was compiled", _C.ERROR_SWALLOWED, "a broken kernel is compiled"),
    ("device/errors", "it succeeded", _C.ERROR_SWALLOWED, "a call that must fail succeeds"),
    ("device/errors", r"expected \w+", _C.ERROR_SWALLOWED, "a call fails with another error than it must"),
    ("device/reset", "", _C.STATE, "what was made before a reset is still there"),
    ("device/close", "", _C.STATE, "closing and opening again does not start afresh"),
    ("device/allocate/free_many_times", "", _C.LEAK, "memory is not given back"),
    ("device/allocate/memory_is_given_back", "", _C.LEAK, "memory is not given back"),
    ("device/allocate/big", "", _C.OFFSET, "far offsets touch the wrong bytes"),
    ("device/allocate/aligned", "", _C.UNALIGNED, "vector accesses to aligned buffers are displaced"),
    ("device/allocate", "", _C.OVERLAP, "live buffers are not kept apart"),
    # launches
    ("device/launch/argument_order", "", _C.ARGUMENTS, "buffers or scalars arrive in another order"),
    ("device/launch/scalar_extremes", r"and -0\.0: .*\[1\] is 0,", _C.ZERO_SIGN, "a scalar loses the sign of zero"),
    ("device/launch/scalar_extremes", r"and 1e-45: .*\[1\] is 0,", _C.FLUSH, "a subnormal scalar arrives as zero"),
    ("device/launch/scalar_extremes", r"and (?!-0\.0)", _C.STATE, "scalars of an earlier launch arrive"),
    ("device/launch/scalar_extremes", "", _C.ARGUMENTS, "a scalar arrives as another value"),
    ("device/launch/eight_buffers", "", _C.ARGUMENTS, "buffers arrive in another order"),
    ("device/launch/one_buffer_twice", "", _C.ARGUMENTS, "one buffer given twice is taken amiss"),
    ("device/launch/one_lane", "is 0, expected", _C.NOTHING, "the smallest launch writes nothing"),
    ("device/launch/grid_0", "", _C.GRID, "an empty grid runs"),
    ("device/launch/grid_negative", "", _C.GRID, "a negative grid runs"),
    ("device/launch/groups_100000", "", _C.GRID, "the grid stops at a limit of one dimension"),
    ("device/launch/groups", r"is 0, expected", _C.TAIL, "the last groups do not run"),
    ("device/launch/many_times", r"is \d+, expected", _C.NOTHING, "some launches do nothing"),
    ("device/launch/many_times", "", _C.STATE, "launches of one executable are lost or disturb each other"),
    ("device/launch/in_order", "", _C.STATE, "launches do not take effect in order"),
    ("device/launch", r"\[1\] is 0|index over", _C.GRID, "lanes or groups have the wrong numbers"),
    ("device/launch", "", _C.GRID, "lanes or groups have the wrong numbers"),
    ("device/executable/release", "", _C.STATE, "releasing an executable touches another"),
    ("device/info", "", _C.MISSING, "what the device says of itself is incomplete"),
    ("device/executable", "", _C.STALE_KERNEL, "another kernel runs than the one that was compiled"),
)


def from_failure(symptoms: Symptoms) -> Iterator[Hint]:
    """Yield what the check that failed says by itself."""
    if symptoms.check is Check.INPUTS and symptoms.evidence and _outputs_untouched(symptoms.evidence):
        yield _hint(_C.ARGUMENTS, "an input changed and no output did, as where two buffers are exchanged")
    if symptoms.check is Check.CRASH and symptoms.case_id.startswith(_ABOUT_GRIDS):
        yield _hint(_C.GRID, "the device process died in a case about the shape of a launch")
    if symptoms.check in _BY_CHECK:
        yield _hint(*_BY_CHECK[symptoms.check])
    rows = {Check.DEVICE: _BY_CASE, Check.CALL: _RAISED}.get(symptoms.check, ()) if symptoms.check else ()
    for prefix, seen, cause, says in rows:
        if symptoms.case_id.startswith(prefix) and re.search(seen, symptoms.reason):
            yield _hint(cause, says)
            return


def _outputs_untouched(evidence: Evidence) -> bool:
    return bool(evidence.wrong) and all(mask.all() for mask in evidence.poisoned.values())


def _hint(cause: Cause, says: str) -> Hint:
    return Hint(cause, f"{says}: {LOOK_AT[cause]}")
