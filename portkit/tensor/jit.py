"""`jit`: capture what a function of tensors does, once for each kind of call, and replay it afterwards.

    @jit
    def step(x, y):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

A call is replayed, without running the function's Python, if one like it was captured before: the same dtypes, shapes
and devices of tensor arguments, and equal Python constants, among the arguments and wherever else the function reaches
them (`portkit.tensor.constants`). Any other call is captured first. Tensors that the function reaches by itself are
read again at each replay; those that it assigns to, and gradients, get their new values. Arrays that it makes tensors
of are constants. Gradients do not pass from a replay's results to its arguments: take them inside.

A function is refused if it needs the value of a tensor in Python, or if running it changes the Python constants that it
depends on: a replay would not. While a function is captured, other threads leave the tensors alone that it reaches.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast

from portkit.errors import TensorError
from portkit.tensor import leaves, tracing
from portkit.tensor.capture import Capture, trace
from portkit.tensor.constants import Constants, constants, difference, draws
from portkit.tensor.random import default_generator
from portkit.tensor.tensor import Tensor
from portkit.tensor.trees import Tree, flatten

P = ParamSpec("P")
R = TypeVar("R")
_MOST = 64
"""Captures that are kept of one function; beyond, the one longest unused is forgotten."""


class Jit(Generic[P, R]):
    """A function that is captured and replayed."""

    def __init__(self, function: Callable[P, R]) -> None:
        """Wrap a function; nothing is captured before it is called."""
        functools.update_wrapper(self, function)
        self._function: Callable[..., Any] = function
        self._captures: OrderedDict[int, tuple[Any, Constants, Capture]] = OrderedDict()
        self._lock = threading.RLock()
        self.captured = 0
        """How often a call was captured."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Replay the call, captured first if none like it was.

        Raises `TensorError` for a function that cannot be captured, and what the function raises while it is.
        """
        if tracing.current() is not None:  # inside another captured function: part of that one
            return self._function(*args, **kwargs)
        with self._lock:
            return self._replay(args, kwargs)

    def _replay(self, args: Any, kwargs: Any) -> Any:
        tensors: dict[int, Tensor] = {}
        skeleton = flatten((args, kwargs), tensors)
        arguments = list(tensors.values())
        kind = (leaves.is_recording(), *((t.dtype.name, t.shape, t.device) for t in arguments))
        now = constants(self._function, skeleton)
        for number, (other, then, capture) in reversed(self._captures.items()):
            if other == kind and then.table == now.table and (found := capture.find(arguments)) is not None:
                self._captures.move_to_end(number)
                return capture.replay(found)
        return self._capture(kind, skeleton, arguments)

    def _capture(self, kind: Any, skeleton: Tree, arguments: list[Tensor]) -> Any:
        def call(tree: Tree) -> Any:
            args, kwargs = tree
            return self._function(*args, **kwargs)

        default_generator()  # one that were made inside would begin anew at each replay
        drawn = draws()
        before = constants(self._function, skeleton)
        capture = trace(call, skeleton, arguments)
        after = constants(self._function, skeleton)
        if difference(before, after):  # the first time a function runs it may well fill caches of its own
            before, capture = after, trace(call, skeleton, arguments)
            after = constants(self._function, skeleton)
        changed = difference(before, after) or ("" if draws() == drawn else "the random numbers of Python or NumPy")
        if changed:
            raise TensorError(
                f"{self._name} cannot be captured: running it changes {changed}, which a replay would not; keep what "
                "changes in a tensor, and assign to it"
            )
        self._captures[self.captured] = (kind, after, capture)
        self.captured += 1
        if len(self._captures) > _MOST:
            self._captures.popitem(last=False)
        found = capture.find(arguments)
        assert found is not None, "nothing has changed since"
        return capture.replay(found)

    @property
    def _name(self) -> str:
        return getattr(self._function, "__qualname__", repr(self._function))

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """Return the function bound to an object, whose captures are its own."""
        return self if instance is None else functools.partial(cast("Callable[..., Any]", self), instance)


def jit(function: Callable[P, R]) -> Jit[P, R]:
    """Return a function that computes the same, captured once for each kind of call and replayed from then on."""
    return Jit(function)
