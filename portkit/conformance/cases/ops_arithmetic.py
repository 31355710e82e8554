"""Cases of the elementwise forms: add, mul and its forms, max, min, bitwise, comparisons, native math."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from portkit.conformance.case import Case, Cell
from portkit.conformance.cases import inputs, ties
from portkit.conformance.cases.cells import available, form_cells
from portkit.conformance.cases.draws import Draws, u64
from portkit.conformance.cases.inputs import Operands
from portkit.conformance.cases.plan import InputSet, Plan, dtype_of, plan_cases, random_or_all, type_text
from portkit.conformance.cases.quarter_turns import near_quarter_turns
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials, shift_counts
from portkit.contract import Capabilities
from portkit.spec.builder import Builder, Reg
from portkit.spec.forms import FORMS
from portkit.spec.types import DType

NARROW = 32
"""Dtypes of fewer bits may be held in registers that are wider."""
MANY = 5
"""Operands of the wider `reduce` case."""


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of every declared elementwise form."""
    for form, planner in _PLANNERS.items():
        if not available(FORMS[form], capabilities):
            continue
        for cell in form_cells(FORMS[form], capabilities):
            for plan in planner(cell):
                yield from plan_cases(plan, capabilities)
    for plan in _mixed_select(capabilities):
        yield from plan_cases(plan, capabilities)


def emit_form(form: str, builder: Builder, *operands: Reg) -> Reg:
    """Emit a form on its operands."""
    return builder.op(form, *operands)


def _plan(cell: Cell, arity: int, sets: dict[str, InputSet], strict: Sequence[str] = (), suffix: str = "") -> Plan:
    type_ = type_text(cell.dtype, cell.lanes)
    return Plan(
        f"ops/{cell.form}{suffix}/{type_}",
        (type_,) * arity,
        (type_,),
        partial(emit_form, cell.form),
        sets,
        (cell,),
        tuple(name for name in strict if name in sets),
    )


_ALL_SETS = ("special", "nonfinite", "random", "all", "ties")


def _sets(dtypes: Sequence[DType], extra: dict[str, InputSet]) -> dict[str, InputSet]:
    dtype = dtypes[0]
    sets: dict[str, InputSet] = {"special": inputs.special}
    if dtype.is_float:
        sets["nonfinite"] = inputs.nonfinite
    return sets | random_or_all(dtypes) | (extra if dtype.is_float else {})


def _arithmetic(arity: int, tie_set: InputSet, cell: Cell) -> Iterator[Plan]:
    dtype = dtype_of(cell)
    sets = _sets([dtype] * arity, {"ties": tie_set})
    yield _plan(cell, arity, sets, _ALL_SETS if dtype.is_float else ())
    if cell.form == "mul" and dtype.is_float and cell.lanes == 1:
        yield _uncontracted(cell)
    if cell.form in ("add", "mul") and dtype.bits < NARROW and cell.lanes == 1:
        yield _read_narrow(cell)


def _read_narrow(cell: Cell) -> Plan:
    """What is read of a narrow result, no store between: it has the width of its dtype, whatever the register has."""
    dtype = dtype_of(cell)
    wide = "f32" if dtype.is_float else "i32"
    path, emit = f"ops/{cell.form}.then_read/{dtype.name}", partial(_compute_then_read, cell.form, wide)
    sets = _sets([dtype] * 2, {})
    return Plan(path, (dtype.name,) * 2, (wide, wide, dtype.name), emit, sets, (cell,))


def _compute_then_read(form: str, wide: str, builder: Builder, a: Reg, b: Reg) -> list[Reg]:
    result = builder.op(form, a, b)
    less = builder.lt(result, a, builder.const(wide, 1), builder.const(wide, 0))
    return [builder.cast(result, wide), less, builder.op(form, result, b)]


def _uncontracted(cell: Cell) -> Plan:
    """A product that feeds a sum, on operands for which rounding once gives other bits than rounding twice."""
    type_ = type_text(cell.dtype, cell.lanes)
    sets: dict[str, InputSet] = {"ties": ties.fma_ties}
    return Plan(f"ops/mul.then_add/{type_}", (type_,) * 3, (type_,), _multiply_then_add, sets, (cell,))


def _multiply_then_add(builder: Builder, a: Reg, b: Reg, c: Reg) -> Reg:
    return builder.add(builder.mul(a, b), c)


def _integer(cell: Cell) -> Iterator[Plan]:
    yield _plan(cell, 2, _sets([dtype_of(cell)] * 2, {}))


def _shift(cell: Cell) -> Iterator[Plan]:
    dtype = dtype_of(cell)
    sets: dict[str, InputSet] = {"special": _shift_special} | random_or_all([dtype] * 2)
    if "random" in sets:
        sets["random"] = _shift_random
    yield _plan(cell, 2, sets)


def _shift_special(case_id: str, dtypes: Sequence[DType]) -> Operands:
    return inputs.cross(case_id, [finite_specials(dtypes[0]), shift_counts(dtypes[1])])


def _shift_random(case_id: str, dtypes: Sequence[DType]) -> Operands:
    draws, dtype = Draws(case_id), dtypes[0]
    values = inputs.random_values(draws, dtype, inputs.RANDOM_COUNT)
    counts = draws.integers(0, dtype.bits - 1, inputs.RANDOM_COUNT).astype(np.uint64)
    beyond = draws.bits(dtype.bits, inputs.RANDOM_COUNT)
    return values, np.where(np.arange(inputs.RANDOM_COUNT) % 4 == 3, beyond, counts)


def _fold(cell: Cell) -> Iterator[Plan]:
    """max, min and the bitwise forms: of two operands, and of five."""
    dtype = dtype_of(cell)
    strict = _ALL_SETS if dtype.is_float else ()
    yield _plan(cell, 2, _sets([dtype] * 2, {}), strict)
    if cell.lanes == 1:
        yield _plan(cell, MANY, {"many": inputs.special}, suffix=".of5")


def _select(cell: Cell) -> Iterator[Plan]:
    type_ = type_text(cell.dtype, cell.lanes)
    sets: dict[str, InputSet] = {"special": partial(_select_set, inputs.special), "random": _select_random}
    if dtype_of(cell).is_float:
        sets["nonfinite"] = partial(_select_set, inputs.nonfinite)
    yield Plan(
        f"ops/{cell.form}/{type_}",
        (type_,) * 4,
        (type_,),
        partial(emit_form, cell.form),
        sets,
        (cell,),
        ("special", "nonfinite") if "nonfinite" in sets else (),
    )


def _mixed_select(capabilities: Capabilities) -> Iterator[Plan]:
    """Comparisons of one dtype that choose between values of another; over the lane counts every pairing turns up."""
    for form in ("phi.lt", "phi.eq"):
        compared = list(form_cells(FORMS[form], capabilities))
        chosen = [d for d in FORMS[form].dtypes("U") if d.name in capabilities.dtypes]
        for number, cell in enumerate(compared):
            target = chosen[(number + number // len(chosen) + 1) % len(chosen)]
            source, result = type_text(cell.dtype, cell.lanes), type_text(target.name, cell.lanes)
            sets: dict[str, InputSet] = {"special": partial(_select_set, inputs.special)}
            path, emit = f"ops/{form}/{source}-to-{result}", partial(emit_form, form)
            if target != dtype_of(cell):
                yield Plan(path, (source, source, result, result), (result,), emit, sets, (cell,))


def _select_set(maker: InputSet, case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Comparisons over special pairs; what is chosen are other special values, so that its bits show.

    Beside NaNs these are NaNs too, whose payloads a select copies (Spec: select_c3).
    """
    a, b = maker(case_id, dtypes[:2])
    tables = [finite_specials(d) + (nonfinite_specials(d) if maker is inputs.nonfinite else ()) for d in dtypes[2:]]
    draws = Draws(f"{case_id}:chosen")
    return a, b, *(draws.one_of(table, len(a)) for table in tables)


def _select_random(case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Random pairs, a third of them equal."""
    draws, count = Draws(case_id), inputs.RANDOM_COUNT
    a, b = (inputs.random_values(draws, d, count) for d in dtypes[:2])
    b = np.where(np.arange(count) % 3 == 0, a, b)
    return a, b, *(draws.one_of(finite_specials(d), count) for d in dtypes[2:])


# --- native math --------------------------------------------------------------------------------------------------


def _math(cell: Cell) -> Iterator[Plan]:
    dtype = dtype_of(cell)
    sets: dict[str, InputSet] = {
        "special": inputs.special,
        "nonfinite": inputs.nonfinite,
        "random": partial(_math_random, FORMS[cell.form].kind),
    }
    if dtype.bits <= 16 and cell.lanes == 1:
        sets["all"] = _all_finite
    yield _plan(cell, 1, sets, _STRICT_MATH.get(FORMS[cell.form].kind, ()))


_STRICT_MATH: dict[str, tuple[str, ...]] = dict.fromkeys(("trunc", "recip", "sqrt"), ("special", "nonfinite", "random"))

_DOMAINS: dict[str, tuple[int, int]] = {
    "recip": (-60, 60),
    "sqrt": (-60, 60),
    "rsqrt": (-60, 60),
    "exp2": (-10, 6),
    "log2": (-60, 60),
    "sin": (-10, 6),
    "trunc": (-2, 25),
}
"""Exponents of the operands on which a function does something interesting."""


def _math_random(kind: str, case_id: str, dtypes: Sequence[DType]) -> Operands:
    """Operands over the function's domain, over all finite numbers, and close to 1 on both sides; hard ones for sin."""
    draws, dtype, count = Draws(case_id), dtypes[0], inputs.RANDOM_COUNT
    low, high = _DOMAINS[kind]
    domain = draws.floats(dtype, max(low, dtype.emin), min(high, dtype.emax), count)
    wide = draws.finite(dtype, count // 2)
    near = draws.floats(dtype, -1, 0, count // 2) & u64((1 << (dtype.bits - 1)) - 1)
    positive = u64((1 << (dtype.bits - 1)) - 1) if kind in ("sqrt", "rsqrt", "log2") else u64(-1)
    hard = [near_quarter_turns(dtype)] if kind == "sin" else []
    return (np.concatenate([domain & positive, wide, near, *hard]),)


def _all_finite(case_id: str, dtypes: Sequence[DType]) -> Operands:
    del case_id
    patterns = np.arange(1 << dtypes[0].bits, dtype=np.uint64)
    excluded = u64(nonfinite_specials(dtypes[0])[0])
    magnitude = patterns & u64((1 << (dtypes[0].bits - 1)) - 1)
    return (patterns[magnitude < excluded],)


_PLANNERS: dict[str, Callable[[Cell], Iterator[Plan]]] = {
    "add": partial(_arithmetic, 2, ties.add_ties),
    "mul": partial(_arithmetic, 2, ties.mul_ties),
    "mul.add": partial(_arithmetic, 3, ties.fma_ties),
    "mul.hi": _integer,
    "mul.shl": _shift,
    "mul.shr": _shift,
    **{f"reduce.{kind}": _fold for kind in ("max", "min", "and", "or", "xor")},
    "phi.lt": _select,
    "phi.eq": _select,
    **{f"mov.{kind}": _math for kind in _DOMAINS},
}
