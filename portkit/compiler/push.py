"""Pushing indices through movement: where in its input an element of a view lies."""

from __future__ import annotations

from collections.abc import Sequence

from portkit.compiler.graph import Node
from portkit.compiler.index import Expr, Index, reshape_index
from portkit.compiler.nest import Guard, Guards

Indices = tuple[Index, ...]


def push_view(view: Node, at: Indices) -> tuple[Indices, Guards]:
    """Return the indices into the view's input of its element `at`, and the guards inside which there is one."""
    movement, *arguments = view.attr
    return _PUSH[movement](view, at, *arguments)


def _reshape(view: Node, at: Indices) -> tuple[Indices, Guards]:
    return tuple(reshape_index(at, view.shape, view.inputs[0].shape)), ()


def _permute(view: Node, at: Indices, order: Sequence[int]) -> tuple[Indices, Guards]:
    moved: list[Index] = [0] * len(order)
    for i, axis in enumerate(order):
        moved[axis] = at[i]
    return tuple(moved), ()


def _expand(view: Node, at: Indices) -> tuple[Indices, Guards]:
    return tuple(0 if n == 1 else i for n, i in zip(view.inputs[0].shape, at, strict=True)), ()


def _shrink(view: Node, at: Indices, starts: Sequence[Index]) -> tuple[Indices, Guards]:
    return tuple(i + start for i, start in zip(at, starts, strict=True)), ()


def _flip(view: Node, at: Indices, axes: Sequence[int]) -> tuple[Indices, Guards]:
    return tuple(view.shape[a] - 1 - i if a in axes else i for a, i in enumerate(at)), ()


def _stride(view: Node, at: Indices, steps: Sequence[int]) -> tuple[Indices, Guards]:
    return tuple(i * step for i, step in zip(at, steps, strict=True)), ()


def _pad(view: Node, at: Indices, starts: Sequence[Index], _bits: int) -> tuple[Indices, Guards]:
    inner = tuple(i - start for i, start in zip(at, starts, strict=True))
    guards: list[Guard] = [(i, 0, n - 1) for i, n in zip(inner, view.inputs[0].shape, strict=True)]
    return inner, tuple(g for g in guards if holds(g) is not True)


_PUSH = {
    "reshape": _reshape,
    "permute": _permute,
    "expand": _expand,
    "shrink": _shrink,
    "flip": _flip,
    "stride": _stride,
    "pad": _pad,
}


def holds(guard: Guard) -> bool | None:
    """Return whether a guard always (True) or never (False) holds, None where that depends."""
    index, low, high = guard
    smallest, largest = limits(index)
    high_smallest, high_largest = limits(high)
    if smallest >= low and largest <= high_smallest:
        return True
    return False if largest < low or smallest > high_largest else None


def limits(index: Index) -> tuple[int, int]:
    """Return the smallest and largest value of an index expression."""
    return (index.low, index.high) if isinstance(index, Expr) else (index, index)
