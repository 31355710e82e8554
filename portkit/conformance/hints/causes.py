"""The causes that a hint can name: a short key for programs, and what to look at for people."""

from __future__ import annotations

from enum import Enum


class Cause(Enum):
    """A known cause of failures; the value is its key in reports."""

    # rounding and ranges of floats
    TOWARD_ZERO = "rounds-toward-zero"
    TIES = "rounds-ties-wrongly"
    FLUSH = "flushes-subnormals"
    NARROW_SUM = "accumulates-in-less-precision"
    SHORT_OPERANDS = "takes-short-operands"
    CONTRACTION = "contracts-mul-and-add"
    TWO_ROUNDINGS = "rounds-an-fma-twice"
    COARSE = "approximates-too-coarsely"
    REASSOCIATION = "reassociates-under-strict"
    ZERO_SIGN = "loses-the-sign-of-zero"
    NAN_ORDER = "compares-nan-wrongly"
    NAN_LOST = "loses-nan"
    # integers and conversions
    SATURATION = "wraps-instead-of-saturating"
    CAST_ROUNDING = "rounds-a-cast-wrongly"
    SIGNEDNESS = "takes-the-wrong-signedness"
    SHIFT_COUNT = "does-not-reduce-the-shift-count"
    SHIFT_SIGN = "shifts-with-the-wrong-sign"
    SATURATING_INTEGERS = "saturates-instead-of-wrapping"
    # operations
    WRONG_OPERATION = "computes-another-operation"
    OPERAND_ORDER = "swaps-operands"
    LITERAL = "misreads-a-literal"
    # vectors, memory
    LANE_ORDER = "orders-vector-lanes-wrongly"
    LANE_LOST = "drops-a-vector-lane"
    UNALIGNED = "aligns-vector-accesses"
    GATE = "ignores-a-gate"
    INDEX_WIDTH = "wraps-an-index"
    OUT_OF_BOUNDS = "writes-out-of-bounds"
    INPUT_CHANGED = "changes-an-input"
    ATOMIC = "loses-atomic-updates"
    # cooperation of lanes and groups
    BARRIER = "misses-a-barrier"
    WAIT = "does-not-wait-for-a-copy"
    SHARED = "shares-memory-between-groups"
    GROUP_FOLD = "folds-a-group-wrongly"
    # loops
    LOOP_COUNT = "counts-a-loop-wrongly"
    CARRY = "assigns-carries-wrongly"
    # launches and the device's functions
    TAIL = "leaves-out-the-tail"
    NOTHING = "writes-nothing"
    MISSING = "leaves-elements-out"
    GRID = "maps-groups-wrongly"
    ARGUMENTS = "orders-arguments-wrongly"
    STALE_KERNEL = "runs-a-stale-kernel"
    COPY_LENGTH = "copies-the-wrong-length"
    OFFSET = "ignores-an-offset"
    ERROR_SWALLOWED = "swallows-an-error"
    STATE = "keeps-state-between-launches"
    VARIES = "varies-from-run-to-run"
    LEAK = "leaks"
