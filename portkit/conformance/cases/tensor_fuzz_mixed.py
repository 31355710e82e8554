"""Random graphs of integers, conditions and whole floats, every result of which is determined.

Integers of every width wrap; division, shifts and bits are theirs. Floats are whole numbers: what could leave -32 .. 32
is clamped, so that no sum of up to 2^19 products is rounded in f32, comparisons are certain, and every dtype can hold
them. Half precision is not multiplied or summed, where it would round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import portkit.tensor as t
from portkit.compiler.graph import topological
from portkit.conformance.cases.tensor_fuzz_rewrites import extents
from portkit.conformance.cases.tensor_fuzz_writer import LARGE, Fits, Writer, broadcasts, size
from portkit.spec.types import BOOL, DTYPES, F32, I32, DType
from portkit.tensor.tensor import Tensor

if TYPE_CHECKING:
    from portkit.compiler.graph import Node

Step: TypeAlias = Callable[[Writer, Tensor], Tensor]
Binary: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_LEAVES = (("i32", "any"), ("i32", "small"), ("u8", "any"), ("f32", "small"), ("bool", "any"))
_INTEGERS = tuple(DTYPES[name] for name in ("i32", "u32", "i8", "u8", "i16", "u16", "i64", "u64"))
_HALVES = (DTYPES["f16"], DTYPES["bf16"])
_DTYPES = (*_INTEGERS, F32, *_HALVES)
_DIVISORS = (1, 2, 3, 5, 8, 12, 100)
_MOST = 32.0


def mixed_graph(seed: str) -> list[Node]:
    """Return the outputs of a graph, each tensor that no other needs; its sources have their contents."""
    w = Writer(seed, _LEAVES)

    def step() -> Tensor:
        fits, made = _STEPS[w.below(len(_STEPS))]
        return made(w, w.recent(fits))

    made = [node for node in w.write(step) if node.op != "source"]
    needed = {x for node in topological(made) for x in node.inputs}
    return list(dict.fromkeys(node for node in made if node not in needed))


# --- dtypes -------------------------------------------------------------------------------------------------------


def _any(_: Tensor) -> bool:
    return True


def _integer(x: Tensor) -> bool:
    return x.dtype.is_int


def _bool(x: Tensor) -> bool:
    return x.dtype is BOOL


def _float(x: Tensor) -> bool:
    return x.dtype.is_float


def _number(x: Tensor) -> bool:
    return x.dtype is not BOOL


def _exact(x: Tensor) -> bool:
    return _number(x) and x.dtype not in _HALVES


def _as(x: Tensor, dtype: DType) -> Tensor:
    """Return a tensor of another dtype; floats remain small whole numbers, of which unsigned integers take the size."""
    if dtype.is_float and x.dtype.is_int:
        x = t.remainder(x, 5)
    if x.dtype.is_float and dtype.is_int and not dtype.is_signed:
        x = t.abs(x)
    return t.cast(x, dtype)


def _tame(x: Tensor) -> Tensor:
    """Return floats clamped; integers as they are."""
    return t.clip(x, -_MOST, _MOST) if x.dtype.is_float else x


def _partner(w: Writer, x: Tensor) -> Tensor:
    """Return a tensor of the same dtype that broadcasts with `x`."""
    return _as(w.partner(x), x.dtype)


def _condition(w: Writer, x: Tensor) -> Tensor:
    return t.cast(w.partner(x), BOOL)


# --- steps --------------------------------------------------------------------------------------------------------


def _with_partner(*functions: Binary) -> Step:
    return lambda w, x: _tame(functions[w.below(len(functions))](x, _partner(w, x)))


def _of_one(*functions: Callable[[Tensor], Tensor]) -> Step:
    return lambda w, x: functions[w.below(len(functions))](x)


def _divided(w: Writer, x: Tensor) -> Tensor:
    """Quotients and remainders by a tensor, zeros in it too, or by a constant of either sign."""
    function = (t.floor_divide, t.truncated_divide, t.remainder, t.fmod)[w.below(4)]
    if w.below(2):
        return function(x, _partner(w, x))
    divisor = _DIVISORS[w.below(len(_DIVISORS))]
    return function(x, -divisor if x.dtype.is_signed and w.below(3) == 0 else divisor)


def _shifted(w: Writer, x: Tensor) -> Tensor:
    """Shifts by a tensor, whose elements count modulo the width, or by a constant."""
    function = (t.left_shift, t.right_shift)[w.below(2)]
    return function(x, _partner(w, x)) if w.below(2) else function(x, w.below(x.dtype.bits))


def _converted(w: Writer, x: Tensor) -> Tensor:
    return _as(x, _DTYPES[w.below(len(_DTYPES))])


def _selected(w: Writer, x: Tensor) -> Tensor:
    condition = _condition(w, x)
    fitting = [y for y in w.pool if broadcasts(x, y) and broadcasts(condition, y)]
    return t.where(condition, x, _as(fitting[w.below(len(fitting))], x.dtype) if fitting else x)


def _axes(w: Writer, x: Tensor) -> list[int]:
    """Return one axis or several."""
    return sorted({w.axis(x), w.axis(x)})


def _folded(*folds: Callable[..., Tensor]) -> Step:
    def step(w: Writer, x: Tensor) -> Tensor:
        fold = folds[w.below(len(folds))]
        return _tame(fold(x, axis=_axes(w, x), keepdims=w.below(3) > 0)) if x.ndim else x

    return step


def _along(*functions: Callable[..., Tensor]) -> Step:
    def step(w: Writer, x: Tensor) -> Tensor:
        return _tame(functions[w.below(len(functions))](x, w.axis(x))) if x.ndim else x

    return step


def _product(w: Writer, x: Tensor) -> Tensor:
    """The product with a matrix of fitting rows."""
    fitting = [y for y in w.pool if y.ndim == 2 and x.ndim and y.shape[0] == x.shape[-1]]
    return _tame(x @ _as(fitting[w.below(len(fitting))], x.dtype)) if fitting else t.abs(x)


def _places(w: Writer, extent: int) -> Tensor:
    """Return indices of an axis, made of a tensor of the graph."""
    return t.remainder(_as(t.flatten(w.recent()), I32), extent)


def _taken(w: Writer, x: Tensor) -> Tensor:
    """Slices of a tensor at places that the graph computes."""
    if not x.ndim or size(x) >= LARGE:
        return x
    axis = w.axis(x)
    return t.take(x, _places(w, extents(x.node)[axis])[:7], axis)


def _put(w: Writer, x: Tensor) -> Tensor:
    """A flat tensor with some elements set or folded into at places that the graph computes."""
    flat = t.flatten(x)
    places = _places(w, size(x))[: min(size(x), 5)]
    kind = ("set", "add", "max", "min")[w.below(4)] if _number(x) else "set"
    return _tame(t.scatter(flat, 0, places, t.flip(flat, 0)[: places.shape[0]], kind))


def _padded(w: Writer, x: Tensor) -> Tensor:
    widths = [(w.below(2), w.below(3)) for _ in range(x.ndim)]
    return t.pad(x, widths, w.below(2)) if size(x) < LARGE else x


def _shrunk(w: Writer, x: Tensor) -> Tensor:
    shape = extents(x.node)
    starts = [w.below(n) for n in shape]
    return t.shrink(x, [(k, k + 1 + w.below(n - k)) for k, n in zip(starts, shape, strict=True)])


def _permuted(w: Writer, x: Tensor) -> Tensor:
    return t.permute(x, *[int(a) for a in w.draws.permutation(x.ndim)]) if x.ndim > 1 else x


def _strided(w: Writer, x: Tensor) -> Tensor:
    return x[w.below(2) :: 1 + w.below(2)] if x.ndim and x.shape[0] != 1 else x


def _joined(w: Writer, x: Tensor) -> Tensor:
    return t.cat([x, t.flip(x, w.axis(x))], w.axis(x)) if x.ndim and size(x) < LARGE else x


def _rolled(w: Writer, x: Tensor) -> Tensor:
    return t.roll(x, 1 + w.below(4), w.axis(x)) if x.ndim else x


_STEPS: tuple[tuple[Fits, Step], ...] = (
    (_number, _with_partner(t.add, t.sub)),
    (_exact, _with_partner(t.add, t.sub, t.mul)),
    (_number, _with_partner(t.maximum, t.minimum)),
    (_number, _with_partner(t.lt, t.le, t.eq, t.ne)),
    (_number, _of_one(t.neg, t.abs, t.sign)),
    (_integer, _divided),
    (_integer, _divided),
    (_integer, _shifted),
    (_integer, _with_partner(t.bitwise_and, t.bitwise_or, t.bitwise_xor, t.multiply_high)),
    (_integer, _of_one(t.bitwise_not)),
    (_bool, _with_partner(t.logical_and, t.logical_or, t.logical_xor)),
    (_bool, _of_one(t.logical_not)),
    (_float, _of_one(lambda x: t.floor(x * 0.5), lambda x: t.round(x * 0.25), lambda x: t.trunc(x * 0.5))),
    (_any, _converted),
    (_any, _converted),
    (_any, _selected),
    (_any, _folded(t.any, t.all, t.count_nonzero)),
    (_number, _folded(t.max, t.min)),
    (_exact, _folded(t.sum)),
    (_integer, _folded(t.prod)),
    (_exact, _along(t.cumsum)),
    (_number, _along(t.cummax)),
    (_number, _along(t.argmax, t.argmin)),
    (_exact, _product),
    (_any, _taken),
    (_any, _put),
    (_any, _padded),
    (_any, _shrunk),
    (_any, _permuted),
    (_any, _strided),
    (_any, _joined),
    (_any, _rolled),
    (_any, lambda w, x: t.reshape(x, -1)),
)
