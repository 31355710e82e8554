"""The elementwise functions of the graph language: names, arity, and which dtypes they take.

What each computes on a device is in `portkit.compiler.decompose`; what it computes in NumPy, to judge a graph by, in
`portkit.compiler.evaluate`. Both are checked to know every name of this table, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portkit.errors import DTypeError, UsageError, near_names
from portkit.spec.forms import CLASSES
from portkit.spec.types import BOOL, DType


@dataclass(frozen=True, slots=True)
class Function:
    """An elementwise function: operands in order, the class of dtypes of those that agree, and the result.

    `result` is `same` (the dtype of the operands), `bool`, or `given` (written at the node: casts).
    """

    name: str
    arity: int
    dtypes: tuple[str, ...]
    result: str = "same"


_FLOAT = CLASSES["real"]
_ARITH = CLASSES["arith"]
_INT = CLASSES["int"]
_BITS = CLASSES["bits"]
_ORDERED = CLASSES["ordered"]
_VALUE = CLASSES["value"]


def _rows(arity: int, dtypes: tuple[str, ...], names: str, result: str = "same") -> list[Function]:
    return [Function(name, arity, dtypes, result) for name in names.split()]


FUNCTIONS: dict[str, Function] = {
    f.name: f
    for f in (
        *_rows(2, _ARITH, "add sub mul max min"),
        *_rows(2, _FLOAT, "div pow"),
        *_rows(2, _INT, "idiv imod tdiv tmod shl shr mulhi"),
        *_rows(2, _BITS, "and or xor"),
        *_rows(2, _ORDERED, "lt eq", result="bool"),
        *_rows(1, _ARITH, "neg abs sign"),
        *_rows(1, _BITS, "not"),
        *_rows(1, _FLOAT, "recip sqrt rsqrt exp exp2 log log2 sin cos tan tanh sigmoid erf floor ceil round trunc"),
        *_rows(1, _VALUE, "cast bits", result="given"),
        Function("where", 3, _VALUE),
    )
}
"""`idiv imod` floor, `tdiv tmod` truncate; a division by zero gives 0, as does the remainder.

`max min` give NaN if either is NaN; `sign` of NaN is NaN, of a zero that zero; `round` ties to even. `where` takes a
bool and two values. A cast to bool is `x != 0`, from bool 0 or 1; `bits` keeps the size.
"""


def result_dtype(name: str, dtypes: Sequence[DType], given: DType | None = None) -> DType:
    """Return the result dtype of a function on operands of `dtypes`.

    Raises `UsageError` for an unknown function, `DTypeError` where the operands do not fit it.
    """
    if name not in FUNCTIONS:
        raise UsageError(f"unknown function {name!r}{near_names(name, FUNCTIONS)}")
    function = FUNCTIONS[name]
    told = " ".join(d.name for d in dtypes)
    if len(dtypes) != function.arity:
        raise DTypeError(f"{name} takes {function.arity} operands, got {len(dtypes)}")
    values = dtypes[1:] if name == "where" else dtypes
    if name == "where" and dtypes[0] is not BOOL:
        raise DTypeError(f"where needs a bool condition, got {told}; compare first")
    if any(d is not values[0] for d in values):
        raise DTypeError(f"{name} needs operands of one dtype, got {told}; cast one of them")
    if values[0].name not in function.dtypes:
        raise DTypeError(f"{name} is not defined on {values[0]}; it takes {' '.join(function.dtypes)}")
    if function.result == "given":
        if given is None:
            raise DTypeError(f"{name} needs a result dtype")
        return given
    return BOOL if function.result == "bool" else values[0]
