"""Tuples, lists and dicts of tensors and anything else: taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from portkit.tensor.common import is_tensor
from portkit.tensor.tensor import Tensor

Tree: TypeAlias = Any


class Leaf(int):
    """In a tree without its tensors: the number of the one that was here."""


def flatten(tree: Tree, tensors: dict[int, Tensor]) -> Tree:
    """Return the tree with tensors replaced by their numbers; each is put into `tensors` once, by identity."""
    if is_tensor(tree):
        known = tensors.get(id(tree))
        if known is None:
            tensors[id(tree)] = tree
            return Leaf(len(tensors) - 1)
        return Leaf(list(tensors).index(id(tree)))
    return _each(tree, lambda part: flatten(part, tensors))


def unflatten(tree: Tree, tensors: Sequence[Tensor]) -> Tree:
    """Return the tree with tensors in place of their numbers."""
    return tensors[tree] if isinstance(tree, Leaf) else _each(tree, lambda part: unflatten(part, tensors))


def _each(tree: Tree, change: Callable[[Tree], Tree]) -> Tree:
    kind = cast(Any, type(tree))
    if kind is dict:
        return {name: change(part) for name, part in cast("dict[Any, Any]", tree).items()}
    named = isinstance(tree, tuple) and hasattr(kind, "_fields")
    if not named and kind not in (tuple, list):
        return cast(Tree, tree)
    parts = [change(part) for part in cast("list[Any]", tree)]
    return cast(Tree, kind(*parts) if named else kind(parts))
