"""How a random kernel writes one cell of the coverage table: operands from the scope, the form, its result.

Each function takes the writer and the cell, and gives the register that holds what the form made, None for forms
without a value. What is stored goes to a lane's own part of a shared array and is loaded again, so that no other lane
is concerned and the form may stand in any control flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from portkit.conformance.case import Cell
from portkit.conformance.cases.fuzz_palette import EXTENT
from portkit.spec.builder import Mem, Reg
from portkit.spec.forms import FORMS
from portkit.spec.rules import ALIGNMENT
from portkit.spec.types import BOOL, DTYPES, I32, DType, Type, parse_type

if TYPE_CHECKING:
    from portkit.conformance.cases.fuzz_writer import KernelWriter

BINS = 16
"""Elements of a buffer of atomic stores; a power of two."""
ROW = 8
"""A lane's own part of a shared array has a multiple of so many elements: whole words of any dtype."""
_TAME = {"add": (-16.0, 8.0), "mul": (0.875, 1.25)}
"""Operands of sums and products in free order; a group has at most 64 lanes."""
Maker = Callable[["KernelWriter", Cell], Reg | None]


def write_cell(writer: KernelWriter, cell: Cell) -> Reg | None:
    """Write the form of a cell once; returns the register that holds its result."""
    return _MAKERS.get(cell.form, _elementwise)(writer, cell)


def operand_type(cell: Cell) -> Type | None:
    """Return the type of the operand that a context may choose, None where the form has none."""
    if cell.form in _WITHOUT_OPERAND or cell.dtype == "token":
        return None
    if cell.form in ("load", "load.vec", "load.gather", "load.async"):
        return Type(I32, cell.lanes if cell.form == "load.gather" else 1)
    if cell.form == "mov.bits":
        return parse_type(cell.source)
    if cell.form == "mov.cast":
        return Type(DTYPES[cell.source], cell.lanes)
    return Type(DTYPES[cell.dtype], 1 if cell.form in ("mov.splat", "mov.pack") else cell.lanes)


def is_free(cell: Cell, strict: bool) -> bool:
    """Whether the spec leaves the result of a cell open under the numeric mode (Spec: numeric_c2)."""
    form = FORMS[cell.form]
    if strict or not DTYPES.get(cell.dtype, I32).is_float:
        return False
    native = form.extension == "math" and form.kind != "trunc"
    folds = form.kind in ("add", "mul", "max", "min") and cell.form.startswith("reduce.")
    return native or folds


def has_result(cell: Cell) -> bool:
    """Whether the form of a cell makes a value: all but fences and atomic stores."""
    return _MAKERS.get(cell.form) not in (_plain, _atomic)


def needs_fast(cell: Cell) -> bool:
    """Whether strict kernels may not have the cell (Spec: numeric_c3)."""
    form = FORMS[cell.form]
    native = form.extension == "math" and form.kind not in ("trunc", "recip", "sqrt")
    return native or (form.extension == "atomic" and DTYPES[cell.dtype].is_float)


def synchronises(cell: Cell) -> bool:
    """Whether the cell stands in uniform control flow only."""
    return "barrier_c2" in FORMS[cell.form].clauses or cell.form == "load.async" or cell.dtype == "token"


# --- values -------------------------------------------------------------------------------------------------------


def _elementwise(writer: KernelWriter, cell: Cell) -> Reg:
    form, type_ = FORMS[cell.form], Type(DTYPES[cell.dtype], cell.lanes)
    if form.extension == "math" and form.kind == "sin":
        return writer.w.op(cell.form, _angle(writer, type_))
    if form.kind in _TAME and is_free(cell, writer.strict):
        return writer.w.op(cell.form, _tame(writer, type_, *_TAME[form.kind]))
    count = len(form.operands)
    if form.kind and not form.extension:
        count = 2 + writer.dice.below(2)
    return writer.w.op(cell.form, *(writer.value(type_) for _ in range(count)))


def _tame(writer: KernelWriter, type_: Type, low: float, high: float) -> Reg:
    """A value where it lies between two bounds, else the middle: where a free sum can overflow, nothing is claimed."""
    w, value = writer.w, writer.value(type_)
    middle = w.like(value, (low + high) / 2)
    return w.lt(value, w.like(value, high), w.lt(w.like(value, low), value, value, middle), middle)


def _angle(writer: KernelWriter, type_: Type) -> Reg:
    """Numbers of a few turns: what a sine is declared for."""
    whole = writer.w.cast(writer.w.band(writer.value(Type(I32, type_.lanes)), 63), type_)
    return writer.w.times(writer.w.plus(whole, -32), 0.3125)


def _select(writer: KernelWriter, cell: Cell) -> Reg:
    compared = Type(DTYPES[cell.dtype], cell.lanes)
    chosen = writer.some_type(lambda t: t.lanes == cell.lanes) or compared
    a, b, x, y = (writer.value(t) for t in (compared, compared, chosen, chosen))
    return writer.w.op(cell.form, a, b, x, y)


def _constant(writer: KernelWriter, cell: Cell) -> Reg:
    return writer.literal(Type(DTYPES[cell.dtype]))


def _cast(writer: KernelWriter, cell: Cell) -> Reg:
    return writer.w.cast(writer.value(Type(DTYPES[cell.source], cell.lanes)), Type(DTYPES[cell.dtype], cell.lanes))


def _bits(writer: KernelWriter, cell: Cell) -> Reg:
    source = parse_type(cell.source)
    value = writer.value(source)
    return writer.w.bits(writer.without_nan(value), Type(DTYPES[cell.dtype], cell.lanes))


def _splat(writer: KernelWriter, cell: Cell) -> Reg:
    return writer.w.op("mov.splat", writer.value(Type(DTYPES[cell.dtype])), type=Type(DTYPES[cell.dtype], cell.lanes))


def _pack(writer: KernelWriter, cell: Cell) -> Reg:
    return writer.w.op("mov.pack", *(writer.value(Type(DTYPES[cell.dtype])) for _ in range(cell.lanes)))


def _lane(writer: KernelWriter, cell: Cell) -> Reg:
    vector = writer.value(Type(DTYPES[cell.dtype], cell.lanes))
    return writer.w.op("mov.lane", vector, imms=(writer.dice.below(cell.lanes),))


def _carry(writer: KernelWriter, cell: Cell) -> Reg | None:
    """A carry of the cell's type, read in the loop and after it; a token is waited once an iteration."""
    if cell.dtype == "token":
        return writer.ring()
    type_ = Type(DTYPES[cell.dtype], cell.lanes)
    with writer.looped(writer.dice.one_of(("literal", "counted")), [writer.value(type_)]) as loop:
        writer.block(1 + writer.dice.below(2))
        loop.next(c0=writer.other(type_, loop.carries["c0"]))
    return loop.carries["c0"]


# --- memory -------------------------------------------------------------------------------------------------------


def _gate(writer: KernelWriter, lanes: int) -> Reg | None:
    return writer.value(Type(BOOL, lanes)) if writer.gated else None


def _load(writer: KernelWriter, cell: Cell) -> Reg:
    dtype = DTYPES[cell.dtype]
    gate = _gate(writer, 1)
    other = writer.value(Type(dtype)) if gate else None
    if writer.dice.chance(50):
        return writer.w.load(writer.sources[dtype], writer.index(), gate=gate, other=other)
    pad, start = writer.pad(dtype)
    writer.w.store(pad, start, writer.value(Type(dtype)))
    return writer.w.load(pad, start, gate=gate, other=other)


def _load_vec(writer: KernelWriter, cell: Cell) -> Reg:
    """Contiguous elements; the mask leaves room for the vector at the end."""
    type_ = Type(DTYPES[cell.dtype], cell.lanes)
    start = writer.w.minimum(writer.index(), EXTENT - cell.lanes)
    gate = _gate(writer, cell.lanes)
    other = writer.value(type_) if gate else None
    return writer.w.load_vec(writer.sources[type_.dtype], start, cell.lanes, gate=gate, other=other)


def _gather(writer: KernelWriter, cell: Cell) -> Reg:
    type_ = Type(DTYPES[cell.dtype], cell.lanes)
    gate = _gate(writer, cell.lanes)
    other = writer.value(type_) if gate else None
    return writer.w.load(writer.sources[type_.dtype], writer.index(cell.lanes), gate=gate, other=other)


def _store(writer: KernelWriter, cell: Cell) -> Reg:
    dtype = DTYPES[cell.dtype]
    (pad, start), gate = writer.pad(dtype), _gate(writer, 1)
    place = writer.w.plus(start, writer.dice.below(ROW))
    if gate:
        writer.w.store(pad, place, writer.value(Type(dtype)))
    writer.w.store(pad, place, writer.value(Type(dtype)), gate=gate)
    return writer.w.load(pad, place)


def _store_vec(writer: KernelWriter, cell: Cell) -> Reg:
    type_ = Type(DTYPES[cell.dtype], cell.lanes)
    (pad, start), gate = writer.pad(type_.dtype), _gate(writer, cell.lanes)
    align = writer.dice.one_of((0, min(ALIGNMENT, ROW * type_.dtype.bytes)))
    if gate:
        writer.w.store_vec(pad, start, writer.value(type_))
    writer.w.store_vec(pad, start, writer.value(type_), align=align, gate=gate)
    return writer.w.load_vec(pad, start, cell.lanes, align=align)


def _scatter(writer: KernelWriter, cell: Cell) -> Reg:
    """The lane's own places in another order, then back in the order of the places."""
    type_, w = Type(DTYPES[cell.dtype], cell.lanes), writer.w
    (pad, start), gate = writer.pad(type_.dtype), _gate(writer, cell.lanes)
    turn = writer.dice.below(cell.lanes)
    order = w.op("mov.pack", *(w.i32((k + turn) % cell.lanes) for k in range(cell.lanes)))
    places = w.add(w.splat(start, cell.lanes), order)
    if gate:
        w.store(pad, places, writer.value(type_))
    w.store(pad, places, writer.value(type_), gate=gate)
    return w.load_vec(pad, start, cell.lanes)


def _async(writer: KernelWriter, cell: Cell) -> Reg:
    return copied(writer, DTYPES[cell.dtype])


def copied(writer: KernelWriter, dtype: DType) -> Reg:
    """Two copies of several elements in flight, to two halves of the lane's own part; gives one element of them."""
    (pad, start), half, w = writer.pad(dtype), ROW // 2, writer.w
    counts = [1 + writer.dice.below(half) for _ in range(1 + writer.dice.below(2))]
    tokens = [_issue(writer, pad, w.plus(start, half * k), count) for k, count in enumerate(counts)]
    for _ in range(writer.dice.below(3)):
        writer.arithmetic()
    for token in tokens:
        w.wait(token)
    which = writer.dice.below(len(counts))
    return w.load(pad, w.plus(start, half * which + writer.dice.below(counts[which])))


def _issue(writer: KernelWriter, pad: Mem, place: Reg, count: int) -> Reg:
    """Start a copy from somewhere in the source that has room for it."""
    first = writer.w.band(writer.index(), EXTENT - ROW)
    return writer.w.async_copy(pad, place, writer.sources[pad.dtype], first, count)


def _atomic(writer: KernelWriter, cell: Cell) -> None:
    type_, kind = Type(DTYPES[cell.dtype]), FORMS[cell.form].kind
    place = writer.w.band(writer.value(Type(I32)), BINS - 1)
    gate = writer.w.both(writer.inside, writer.value(Type(BOOL)))
    tame = type_.dtype.is_float and kind in _TAME
    value = _tame(writer, type_, *_TAME[kind]) if tame else writer.value(type_)
    writer.w.op(cell.form, place, value, mems=(writer.bins(cell.form, cell.dtype),), gate=gate)


# --- control ------------------------------------------------------------------------------------------------------


def _plain(writer: KernelWriter, cell: Cell) -> None:
    writer.w.op(cell.form)


def _exchange(writer: KernelWriter, cell: Cell) -> Reg:
    return writer.exchange()


def _wait(writer: KernelWriter, cell: Cell) -> Reg:
    return copied(writer, writer.dice.one_of([d for d in writer.sources if not d.name.startswith("f8")]))


def _loop(writer: KernelWriter, cell: Cell) -> Reg:
    """A loop that counts something, so that it is not empty."""
    with writer.looped(writer.dice.one_of(("literal", "counted", "lanes")), [writer.value(Type(I32))]) as loop:
        writer.block(1)
        loop.next(c0=writer.w.add(writer.w.times(loop.carries["c0"], 3), loop.index))
    return loop.carries["c0"]


def _position(writer: KernelWriter, cell: Cell) -> Reg:
    return writer.item


_WITHOUT_OPERAND = frozenset(
    f.name for f in FORMS.values() if f.name == "mov.const" or (f.effect in ("control", "sync") and f.result != "T")
)
_MAKERS: dict[str, Maker] = {
    "phi.lt": _select,
    "phi.eq": _select,
    "phi.carry": _carry,
    "mov.const": _constant,
    "mov.cast": _cast,
    "mov.bits": _bits,
    "mov.splat": _splat,
    "mov.pack": _pack,
    "mov.lane": _lane,
    "load": _load,
    "load.vec": _load_vec,
    "load.gather": _gather,
    "load.async": _async,
    "store": _store,
    "store.vec": _store_vec,
    "store.scatter": _scatter,
    **{f"store.atomic.{kind}": _atomic for kind in ("add", "max", "min")},
    "fence.group": _plain,
    "fence.device": _plain,
    "barrier": _exchange,
    "wait.token": _wait,
    "loop.serial": _loop,
    "endloop": _loop,
    "loop.grid": _position,
    "loop.lane": _position,
}
