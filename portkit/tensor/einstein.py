"""Sums of products in Einstein's notation, each pair of operands one product of matrices.

Letters: an axis of each operand is named by one; those of the result are kept, the others summed over.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from portkit.compiler.graph import Size, show
from portkit.errors import ShapeError, UsageError
from portkit.spec.types import DType
from portkit.tensor import elementwise, movement, reductions
from portkit.tensor.common import Operand, tensors_of
from portkit.tensor.products import contract, product_dtype
from portkit.tensor.promotion import wide

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

_ELLIPSIS = "..."


def einsum(equation: str, *operands: Operand) -> Tensor:
    """Return the sum of products that an equation such as "bij,bjk->bik" describes.

    A letter twice in one operand takes its diagonal; "..." stands for leading axes, which broadcast; without "->" the
    letters that occur once are kept, in alphabetical order. More than two operands are multiplied from left to right.
    Raises `UsageError` for an equation that is no text, `ShapeError` for one that does not fit, `DTypeError`,
    `DeviceMismatch`.
    """
    if not isinstance(equation, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"einsum: the equation comes first and is text such as 'ij,jk->ik', got {equation!r}")
    tensors = tensors_of("einsum", *operands)
    terms, result = _parse(equation, tensors)
    _check_extents(equation, terms, tensors)
    dtype = product_dtype("einsum", *tensors)
    named = [_without_repeats(t, elementwise.cast(x, wide(dtype))) for t, x in zip(terms, tensors, strict=True)]
    letters, total = named[0]
    for i, (other_letters, other) in enumerate(named[1:], 1):
        needed = {*result, *(letter for rest, _ in named[i + 1 :] for letter in rest)}
        letters, total = _pair(letters, total, other_letters, other, needed, wide(dtype))
    letters, total = _summed(letters, total, set(result))
    return elementwise.cast(movement.permute(total, [letters.index(letter) for letter in result]), dtype)


# --- reading ------------------------------------------------------------------------------------------------------


def _parse(equation: str, operands: Sequence[Tensor]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result, one for each axis: "..." becomes unused letters."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"einsum {equation!r} names {len(terms)} operands, got {len(operands)}")
    spare = [c for c in string.ascii_letters if c not in equation]
    counts = [x.ndim - len(t.replace(_ELLIPSIS, "")) for t, x in zip(terms, operands, strict=True) if _ELLIPSIS in t]
    dots = "".join(spare[: max(counts, default=0)])
    expanded: list[str] = []
    for term, x in zip(terms, operands, strict=True):
        hidden = x.ndim - len(term.replace(_ELLIPSIS, ""))
        if hidden < 0 or (hidden and _ELLIPSIS not in term):
            raise ShapeError(f"einsum {equation!r}: {term!r} does not name the {x.ndim} axes of {show(x.shape)}")
        expanded.append(_letters(equation, term.replace(_ELLIPSIS, dots[len(dots) - hidden :])))
    if not arrow:
        once = "".join(sorted(c for c in set("".join(expanded)) - set(dots) if "".join(expanded).count(c) == 1))
        return expanded, dots + once
    result = _letters(equation, right.replace(_ELLIPSIS, dots))
    if len(set(result)) != len(result) or not set(result) <= set("".join(expanded)):
        raise ShapeError(f"einsum {equation!r}: the result names each letter once, and only letters of the operands")
    return expanded, result


def _letters(equation: str, term: str) -> str:
    if not all(c in string.ascii_letters for c in term):
        raise ShapeError(f"einsum {equation!r}: axes are named by letters, got {term!r}")
    return term


def _check_extents(equation: str, terms: Sequence[str], operands: Sequence[Tensor]) -> None:
    known: dict[str, Size] = {}
    for term, x in zip(terms, operands, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            if known.setdefault(letter, n) in (1, n):
                known[letter] = n
            elif n != 1:
                shapes = " and ".join(show(t.shape) for t in operands)
                raise ShapeError(f"einsum {equation!r}: {letter!r} is {known[letter]} and {n} in shapes {shapes}")


# --- computing ----------------------------------------------------------------------------------------------------


def _without_repeats(term: str, x: Tensor) -> tuple[str, Tensor]:
    """Return x with the diagonal taken of each letter that occurs twice: it becomes the last axis."""
    while len(set(term)) != len(term):
        letter = next(c for c in term if term.count(c) > 1)
        a, b = term.index(letter), term.rindex(letter)
        x = movement.diagonal(x, a, b)
        term = "".join(c for i, c in enumerate(term) if i not in (a, b)) + letter
    return term, x


def _summed(letters: str, x: Tensor, needed: set[str]) -> tuple[str, Tensor]:
    """Return x summed over the letters that nothing else needs."""
    gone = [i for i, c in enumerate(letters) if c not in needed]
    return "".join(c for c in letters if c in needed), reductions.sum(x, gone, dtype=x.dtype) if gone else x


def _pair(a_letters: str, a: Tensor, b_letters: str, b: Tensor, needed: set[str], dtype: DType) -> tuple[str, Tensor]:
    """Return the product of two operands over the letters (both, a's, b's, summed): a batch of products of matrices."""
    a_letters, a = _summed(a_letters, a, needed | set(b_letters))
    b_letters, b = _summed(b_letters, b, needed | set(a_letters))
    both = "".join(c for c in a_letters if c in b_letters and c in needed)
    gone = "".join(c for c in a_letters if c in b_letters and c not in needed)
    left = "".join(c for c in a_letters if c not in b_letters)
    right = "".join(c for c in b_letters if c not in a_letters)
    order = both + left + right + gone
    left_node, right_node = _laid_out(a, a_letters, order).node, _laid_out(b, b_letters, order).node
    return both + left + right, a.wrap(contract("einsum", left_node, right_node, len(gone), dtype))


def _laid_out(x: Tensor, letters: str, order: str) -> Tensor:
    """Return x with its axes in the order of `order`, with extent 1 for those it lacks."""
    x = movement.permute(x, [letters.index(c) for c in order if c in letters])
    extents = iter(x.shape)
    return movement.reshape(x, [next(extents) if c in letters else 1 for c in order])
