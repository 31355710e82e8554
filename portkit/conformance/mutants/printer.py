"""Faults of a code generator: each takes an instruction and emits what a wrong printer would have meant.

Names: `i` the instruction, `e` the emitter. A fault returns False for what it leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from portkit.conformance.rewriting import Emitter, rewrite
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import F32, I32, U32, DType, Type

Rewrite = Callable[[Kernel], Kernel]


def on(name: str, dtype: DType | None = None) -> Callable[[Callable[[Instr, Emitter], bool]], Rewrite]:
    """Make a kernel rewriting of a fault in one form, on results of one dtype if that is given."""

    def make(fault: Callable[[Instr, Emitter], bool]) -> Rewrite:
        def expand(i: Instr, e: Emitter) -> bool:
            hit = i.name == name and (dtype is None or (i.type is not None and i.type.dtype is dtype))
            return hit and fault(i, e)

        def rewriting(kernel: Kernel) -> Kernel:
            return rewrite(kernel, expand)

        rewriting.__doc__ = fault.__doc__
        return rewriting

    return make


# --- rounding -----------------------------------------------------------------------------------------------------


@on("add", F32)
def add_rounds_toward_zero(i: Instr, e: Emitter) -> bool:
    """Step back where the error of the sum (Knuth's TwoSum) tells that it was rounded away from zero."""
    a, b = i.args
    minus = e.const(e.types[a], -1.0)
    total = e.op("add", a, b)
    second = e.op("add", total, e.op("mul", a, minus))
    first = e.op("add", total, e.op("mul", second, minus))
    error = e.op("add", *(e.op("add", x, e.op("mul", y, minus)) for x, y in ((a, first), (b, second))))
    zero, lanes = e.const(e.types[a], 0.0), e.types[a].lanes
    yes, no = (e.truth(lanes, value=value) for value in (True, False))
    above = e.op("phi.lt", error, zero, e.op("phi.lt", zero, total, yes, no), no)
    below = e.op("phi.lt", zero, error, e.op("phi.lt", total, zero, yes, no), no)
    bits = e.view(total, "u32")
    back = e.op("add", bits, e.bits(e.types[bits], (1 << 32) - 1))
    chosen = e.op("phi.eq", e.op("reduce.or", above, below), yes, back, bits)
    e.op("mov.bits", chosen, type=i.type, result=i.result)
    return True


@on("mul", F32)
def mul_takes_short_inputs(i: Instr, e: Emitter) -> bool:
    """Drop 13 bits of each operand's significand, as a TF32 unit does."""
    mask = e.bits(e.types[i.args[0]].with_dtype(U32), 0xFFFFE000)
    short = [e.view(e.op("reduce.and", e.view(a, "u32"), mask), "f32") for a in i.args]
    e.op("mul", *short, result=i.result)
    return True


@on("add", F32)
def add_accumulates_in_f16(i: Instr, e: Emitter) -> bool:
    """Round the sum through f16."""
    e.op("mov.cast", e.cast(e.op("add", *i.args), "f16"), type=i.type, result=i.result)
    return True


@on("mul", F32)
def mul_flushes_subnormals(i: Instr, e: Emitter) -> bool:
    """Give zero for a subnormal product."""
    type_ = e.types[i.args[0]]
    product = e.op("mul", *i.args)
    small = e.const(type_, 2.0**F32.emin)
    negative = e.const(type_, -(2.0**F32.emin))
    zero = e.const(type_, 0.0)
    upper = e.op("phi.lt", product, small, zero, product)
    e.op("phi.lt", negative, product, upper, product, result=i.result)
    return True


@on("mul.add", F32)
def fma_rounds_twice(i: Instr, e: Emitter) -> bool:
    """Multiply, round, add, round."""
    e.op("add", e.op("mul", *i.args[:2]), i.args[2], result=i.result)
    return True


def mul_and_add_contract(kernel: Kernel) -> Kernel:
    """Fuse every f32 multiplication that feeds an addition into one `mul.add`."""
    products = {i.result: i for i in kernel.body if i.name == "mul" and i.type is not None and i.type.dtype is F32}

    def expand(i: Instr, e: Emitter) -> bool:
        fused = next((a for a in i.args if a in products), None) if i.name == "add" else None
        if fused is None:
            return False
        other = i.args[1] if i.args[0] == fused else i.args[0]
        e.op("mul.add", *products[fused].args, other, result=i.result)
        return True

    return rewrite(kernel, expand)


@on("mov.exp2", F32)
def exp2_is_coarse(i: Instr, e: Emitter) -> bool:
    """Multiply the result by 1 + 2^-18, as a table that is too short would."""
    rough = e.op("mov.exp2", *i.args)
    e.op("mul", rough, e.const(e.types[rough], 1 + 2.0**-18), result=i.result)
    return True


# --- casts --------------------------------------------------------------------------------------------------------


def _from(i: Instr, e: Emitter, source: str) -> bool:
    return e.types[i.args[0]].dtype.name == source


@on("mov.cast", I32)
def cast_to_int_wraps(i: Instr, e: Emitter) -> bool:
    """Convert f32 to i64 and keep the low half, where the spec saturates."""
    if not _from(i, e, "f32"):
        return False
    e.op("mov.cast", e.cast(i.args[0], "i64"), type=i.type, result=i.result)
    return True


@on("mov.cast", I32)
def cast_to_int_rounds(i: Instr, e: Emitter) -> bool:
    """Add a half before truncating."""
    if not _from(i, e, "f32"):
        return False
    half = e.const(e.types[i.args[0]], 0.5)
    e.op("mov.cast", e.op("add", i.args[0], half), type=i.type, result=i.result)
    return True


@on("mov.cast", F32)
def cast_from_unsigned_is_signed(i: Instr, e: Emitter) -> bool:
    """Read u32 as i32 before converting."""
    if not _from(i, e, "u32"):
        return False
    e.op("mov.cast", e.view(i.args[0], "i32"), type=i.type, result=i.result)
    return True


@on("mov.cast")
def cast_to_f16_truncates(i: Instr, e: Emitter) -> bool:
    """Drop the bits below f16's significand instead of rounding."""
    if i.type is None or i.type.dtype.name != "f16" or not _from(i, e, "f32"):
        return False
    mask = e.bits(e.types[i.args[0]].with_dtype(U32), 0xFFFFE000)
    cut = e.op("reduce.and", e.view(i.args[0], "u32"), mask)
    e.op("mov.cast", e.view(cut, "f32"), type=i.type, result=i.result)
    return True


# --- comparisons --------------------------------------------------------------------------------------------------


def _compares_floats(i: Instr, e: Emitter) -> bool:
    return e.types[i.args[0]].dtype.is_float


@on("phi.lt")
def less_is_true_on_nan(i: Instr, e: Emitter) -> bool:
    """Compare as `not (b <= a)`."""
    if not _compares_floats(i, e):
        return False
    a, b, x, y = i.args
    equal = e.op("phi.eq", a, b, y, x)
    e.op("phi.lt", b, a, y, e.op("phi.lt", a, b, x, equal), result=i.result)
    return True


@on("phi.eq")
def equal_compares_bits(i: Instr, e: Emitter) -> bool:
    """Compare f32 as integers: NaN equals itself, zeros differ by sign."""
    if e.types[i.args[0]].dtype is not F32:
        return False
    a, b, x, y = i.args
    e.op("phi.eq", e.view(a, "u32"), e.view(b, "u32"), x, y, result=i.result)
    return True


@on("phi.lt")
def unsigned_less_is_signed(i: Instr, e: Emitter) -> bool:
    """Compare u32 as i32."""
    if e.types[i.args[0]].dtype is not U32:
        return False
    a, b, x, y = i.args
    e.op("phi.lt", e.view(a, "i32"), e.view(b, "i32"), x, y, result=i.result)
    return True


@on("reduce.max", F32)
def max_ignores_nan(i: Instr, e: Emitter) -> bool:
    """Select with a comparison, which loses a NaN on the right."""
    result = i.args[0]
    for position, operand in enumerate(i.args[1:]):
        last = position == len(i.args) - 2
        result = e.op("phi.lt", result, operand, operand, result, result=i.result if last else "")
    return True


# --- integers -----------------------------------------------------------------------------------------------------


@on("mul.hi", I32)
def mul_hi_is_unsigned(i: Instr, e: Emitter) -> bool:
    """Take the upper half of the unsigned product."""
    high = e.op("mul.hi", *(e.view(a, "u32") for a in i.args))
    e.op("mov.bits", high, type=i.type, result=i.result)
    return True


@on("mul.shl", U32)
def shift_count_not_reduced(i: Instr, e: Emitter) -> bool:
    """Give zero for a count of the width or more."""
    width, zero = e.const(e.types[i.args[0]], 32), e.const(e.types[i.args[0]], 0)
    e.op("phi.lt", i.args[1], width, e.op("mul.shl", *i.args), zero, result=i.result)
    return True


@on("mul.shr", I32)
def shift_right_ignores_sign(i: Instr, e: Emitter) -> bool:
    """Shift zeros in from the left."""
    shifted = e.op("mul.shr", *(e.view(a, "u32") for a in i.args))
    e.op("mov.bits", shifted, type=i.type, result=i.result)
    return True


@on("reduce.xor", U32)
def xor_is_or(i: Instr, e: Emitter) -> bool:
    """Print the neighbour in the table."""
    e.op("reduce.or", *i.args, result=i.result)
    return True


# --- vectors and memory -------------------------------------------------------------------------------------------


@on("mov.lane")
def lanes_swapped(i: Instr, e: Emitter) -> bool:
    """Number the lanes of a pair the other way round."""
    e.out.append(replace(i, imms=(i.imms[0] ^ 1,)))
    return True


@on("mov.pack")
def pack_reversed(i: Instr, e: Emitter) -> bool:
    """Put the first operand last."""
    e.out.append(replace(i, args=i.args[::-1]))
    return True


@on("reduce.vec.add")
def vec_add_drops_last_lane(i: Instr, e: Emitter) -> bool:
    """Sum all lanes but the last."""
    type_ = e.types[i.args[0]]
    lanes = [_lane(e, i.args[0], k) for k in range(type_.lanes - 1)]
    total = lanes[0]
    for lane in lanes[1:]:
        total = e.op("add", total, lane)
    e.op("mov.bits", total, type=type_.scalar, result=i.result)
    return True


def _lane(e: Emitter, vector: str, k: int) -> str:
    name = e.fresh()
    type_ = e.types[vector].scalar
    e.out.append(Instr("mov.lane", result=name, type=type_, args=(vector,), imms=(k,)))
    e.types[name] = type_
    return name


@on("load.vec")
def vector_load_rounds_down(i: Instr, e: Emitter) -> bool:
    """Clear the low bits of the index, as an aligned load would."""
    assert i.type is not None
    mask = e.bits(Type(I32), ~(i.type.lanes - 1) & 0xFFFFFFFF)
    e.out.append(replace(i, args=(e.op("reduce.and", i.args[0], mask),)))
    return i.type.lanes & (i.type.lanes - 1) == 0


@on("load")
def gated_load_gives_zero(i: Instr, e: Emitter) -> bool:
    """Forget the else value of a gate."""
    if not i.gate or i.type is None:
        return False
    e.out.append(replace(i, other=e.bits(i.type, 0)))
    return True


@on("load")
def index_wraps_at_16_bits(i: Instr, e: Emitter) -> bool:
    """Keep 16 bits of the index."""
    mask = e.bits(Type(I32), 0xFFFF)
    e.out.append(replace(i, args=(e.op("reduce.and", i.args[0], mask),)))
    return True


@on("load.async")
def async_copy_is_short(i: Instr, e: Emitter) -> bool:
    """Copy one element less."""
    if i.imms[0] < 2:
        return False
    e.out.append(replace(i, imms=(i.imms[0] - 1,)))
    return True


@on("store.atomic.max")
def atomic_max_adds(i: Instr, e: Emitter) -> bool:
    """Use the neighbouring atomic."""
    e.out.append(replace(i, name="store.atomic.add"))
    return True


@on("reduce.group.max")
def group_max_is_min(i: Instr, e: Emitter) -> bool:
    """Fold with the wrong operation."""
    e.out.append(replace(i, name="reduce.group.min"))
    return True


# --- control ------------------------------------------------------------------------------------------------------


@on("barrier")
def barrier_dropped(i: Instr, e: Emitter) -> bool:
    """Print nothing."""
    del i, e
    return True


@on("loop.serial")
def zero_trip_loop_runs_once(i: Instr, e: Emitter) -> bool:
    """Test at the end of the body only."""
    if not i.args:
        return False
    e.out.append(replace(i, args=(e.op("reduce.max", i.args[0], e.const(Type(I32), 1)),)))
    return True


@on("loop.serial")
def loop_stops_one_early(i: Instr, e: Emitter) -> bool:
    """Compare with n - 1."""
    if not i.args:
        return False
    minus, zero = e.const(Type(I32), -1), e.const(Type(I32), 0)
    e.out.append(replace(i, args=(e.op("phi.lt", zero, i.args[0], e.op("add", i.args[0], minus), zero),)))
    return True


@on("endloop")
def carries_assigned_in_turn(i: Instr, e: Emitter) -> bool:
    """Give each carry its next value before the next one is read, so that a swap loses one."""
    given = dict(i.carries)
    seen: dict[str, str] = {}
    for carry, value in i.carries:
        seen[carry] = seen.get(value, value)
    e.out.append(replace(i, carries=tuple(seen.items())))
    return seen != given


# --- left alone on some devices -----------------------------------------------------------------------------------


@on("wait.token")
def wait_dropped(i: Instr, e: Emitter) -> bool:
    """Print nothing for a wait."""
    del i, e
    return True


@on("fence.group")
def fence_dropped(i: Instr, e: Emitter) -> bool:
    """Print nothing for a fence."""
    del i, e
    return True


@on("fence.device")
def device_fence_dropped(i: Instr, e: Emitter) -> bool:
    """Print nothing for a fence of the whole device."""
    del i, e
    return True
