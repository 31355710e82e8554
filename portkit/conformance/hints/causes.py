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
    TWO_ROUNDINGS = "rounds-twice"
    COARSE = "approximates-too-coarsely"
    REASSOCIATION = "reassociates-under-strict"
    ZERO_SIGN = "loses-the-sign-of-zero"
    NAN_ORDER = "compares-nan-wrongly"
    NAN_LOST = "loses-nan"
    OVERFLOW = "mistakes-infinity"
    # integers and conversions
    SATURATION = "wraps-instead-of-saturating"
    CAST_ROUNDING = "rounds-a-cast-wrongly"
    SIGNEDNESS = "takes-the-wrong-signedness"
    SHIFT_COUNT = "does-not-reduce-the-shift-count"
    SHIFT_SIGN = "shifts-with-the-wrong-sign"
    SATURATING_INTEGERS = "saturates-instead-of-wrapping"
    NARROW_INTEGERS = "loses-upper-bits"
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
    REFUSED = "refuses-what-is-declared"
    OVERLAP = "lets-buffers-overlap"
    CRASH = "crashes"
    HANG = "hangs"
    STATE = "keeps-state-between-launches"
    VARIES = "varies-from-run-to-run"
    LEAK = "leaks"


_C = Cause
_HEAD = """# Causes

What the hint of a [failure card](failures.md) can name. Programs find the key in the journal, as `cause`. A hint is a
guess, and no part of the verdict.
"""
LOOK_AT: dict[Cause, str] = {
    _C.TOWARD_ZERO: "look at the rounding mode, and at switches for fast math",
    _C.TIES: "look at how ties are broken where the result is rounded",
    _C.FLUSH: "declare `numeric.subnormals`, or switch flushing off",
    _C.NARROW_SUM: "look at the format of intermediate results and accumulators",
    _C.SHORT_OPERANDS: "look for a unit with short operands (TF32, bf16), and switch it off",
    _C.CONTRACTION: "forbid contraction in the vendor's compiler, as with -ffp-contract=off",
    _C.TWO_ROUNDINGS: "use a fused instruction, or one that rounds to odd in between",
    _C.COARSE: "use a longer approximation, or do not declare this form",
    _C.REASSOCIATION: "switch reassociation (fast math) off",
    _C.ZERO_SIGN: "look for x + 0 dropped, for 0 - x as a negation, and for what max does with zeros",
    _C.NAN_ORDER: "use ordered comparisons, which are false on NaN",
    _C.NAN_LOST: "look at maxima, conversions and switches that assume that there is no NaN",
    _C.OVERFLOW: "look at overflow, and at switches that assume finite numbers",
    _C.SATURATION: "clamp before converting, or use an instruction that saturates",
    _C.CAST_ROUNDING: "look at the rounding of this conversion, and for one that goes through another format",
    _C.SIGNEDNESS: "look for a signed instruction in place of the unsigned one, or the reverse",
    _C.SHIFT_COUNT: "mask the count with the width less one",
    _C.SHIFT_SIGN: "use the arithmetic shift for signed operands and the logical one for others",
    _C.SATURATING_INTEGERS: "use instructions that wrap",
    _C.NARROW_INTEGERS: "look at the width of registers and instructions for this dtype",
    _C.WRONG_OPERATION: "look at this form's row in the table of instructions",
    _C.OPERAND_ORDER: "look at the order of operands in this form's template",
    _C.LITERAL: "look at how literals are written: digits, sign, width",
    _C.LANE_ORDER: "look at how lanes are numbered where vectors are taken apart and put together",
    _C.LANE_LOST: "look at the lane counts that do not fill a register, and at masks",
    _C.UNALIGNED: "use unaligned accesses, or honour the alignment that the instruction states",
    _C.GATE: "look at how the gate becomes a branch or a mask, and at the value where it is false",
    _C.INDEX_WIDTH: "look at the width of address arithmetic and of immediate offsets",
    _C.OUT_OF_BOUNDS: "look at the mapping of lanes and groups to indices, and at stores wider than an element",
    _C.INPUT_CHANGED: "look at the order of arguments, and at stores through the wrong pointer",
    _C.ATOMIC: "use an atomic instruction, at the scope of the device",
    _C.BARRIER: "look for a barrier that is left out, moved, or does not order memory",
    _C.WAIT: "wait for the copy that the token names, before the first read",
    _C.SHARED: "give each group its own copy of shared memory",
    _C.GROUP_FOLD: "look at group sizes that are no multiple of the unit, and at sharing between units",
    _C.LOOP_COUNT: "look at the test of the loop: zero trips, the last trip, and lanes of different counts",
    _C.CARRY: "assign all carries at once, at the end of a trip",
    _C.TAIL: "look at what happens where lanes or groups do not divide",
    _C.NOTHING: "is the kernel launched, does it end in an error, and is the output the right argument?",
    _C.MISSING: "look at gates and masks, and at the mapping of lanes and groups to indices",
    _C.GRID: "look at the order of the dimensions: the last loop counts fastest",
    _C.ARGUMENTS: "look at the order, the width and the alignment of arguments",
    _C.STALE_KERNEL: "look at the key of the cache of compiled kernels",
    _C.COPY_LENGTH: "look at the length in bytes, and at what does not fill a word or a line",
    _C.OFFSET: "add the offset on the right side, in the right unit",
    _C.ERROR_SWALLOWED: "check the handle, the range and the vendor's status, and raise the contract's error",
    _C.REFUSED: "declare only what the device does, or look at the condition of this error",
    _C.OVERLAP: "look at the sizes and offsets in the allocator",
    _C.CRASH: "look at the device's own message in the detail, and at accesses outside of buffers",
    _C.HANG: "look for a loop without end, and for a barrier that not every lane reaches",
    _C.STATE: "look for what outlives a launch or a reset: buffers, caches, queues",
    _C.VARIES: "look for a race, memory that was not initialised, and a missing synchronise",
    _C.LEAK: "free what each call allocates",
}
"""What to look at, for each cause: the second half of a hint."""


def page() -> str:
    """Return the Markdown of the causes and of what to look at."""
    rows = [f"| `{cause.value}` | {LOOK_AT[cause]} |" for cause in Cause]
    return "\n".join([_HEAD, "| cause | what to look at |", "|---|---|", *rows, ""])
