"""Tensors that wait to be computed with the next step: new values of long-lived tensors, and losses.

Assignment is lazy: a running mean that is assigned in each forward pass is an ever longer expression until something
computes it. An optimizer's step, and the end of a captured function, compute what is noted here along with their own
results, so that the forward pass is shared.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from portkit.tensor.base import Handle
    from portkit.tensor.tensor import Tensor

_waiting: dict[int, weakref.ReferenceType[Handle]] = {}


def note(tensor: Handle) -> None:
    """Note that a tensor has a value that waits to be computed; it is forgotten when nobody holds it."""
    number = id(tensor)
    _waiting[number] = weakref.ref(tensor, lambda _: _waiting.pop(number, None))


def take() -> list[Handle]:
    """Return the tensors noted that still wait, in the order in which they were, and forget them."""
    found = [reference() for reference in list(_waiting.values())]
    _waiting.clear()
    return [t for t in found if t is not None and t.node.op != "source"]


def realise_with(tensors: Iterable[Tensor]) -> None:
    """Compute tensors, each once, together with those noted."""
    from portkit.tensor.realising import realise

    realise(list({id(t): t for t in (*tensors, *cast("list[Tensor]", take()))}.values()))
