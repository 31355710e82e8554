"""Gradients of tensors: `backward`, `grad` and its kin, `checkpoint`, `no_grad`.

Gradients are lazy tensors like any other: they can be differentiated again, and computing them together with a loss
shares work. A function without a gradient by a tensor gives zeros in `grad`, and leaves `.grad` None in `backward`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from portkit.compiler import graph
from portkit.compiler.graph import Node, show
from portkit.errors import AxisError, DTypeError, ShapeError, UsageError
from portkit.tensor import gradient as rewriting
from portkit.tensor import leaves, pending
from portkit.tensor.common import is_tensor

if TYPE_CHECKING:
    from contextlib import _GeneratorContextManager

    from portkit.tensor.tensor import Tensor

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def no_grad() -> _GeneratorContextManager[None]:
    """Return a context in which gradients do not pass what is computed; also a decorator. For this thread only."""
    return leaves.recording(False)


def enable_grad() -> _GeneratorContextManager[None]:
    """Return a context in which gradients pass what is computed, inside one of `no_grad`."""
    return leaves.recording(True)


def backward(tensor: Tensor, gradient: Tensor | None = None, *, create_graph: bool = False) -> None:
    """Add the gradients of a tensor to `.grad` of every leaf (a tensor with `requires_grad`) that it depends on.

    `gradient` has the shape and dtype of the tensor and weighs its elements; a tensor of one element needs none. With
    `create_graph` the gradients can be differentiated themselves.
    Raises `ShapeError` where weights are missing or do not fit, `DTypeError` for a tensor that is no float,
    `UsageError` where no leaf is reached.
    """
    seed = _seed("backward", tensor, gradient)
    (output,), back = leaves.unfolded([tensor.node])
    until = leaves.Leaves()
    nodes = [n for n in graph.topological([output], until) if n in until]
    found = rewriting.gradients_of([output], nodes, [seed], until)
    reached = [(leaves.owner(n), g) for n, g in zip(nodes, found, strict=True) if g is not None]
    if not reached:
        raise UsageError("backward: the tensor depends on none that requires_grad, or was computed within no_grad")
    pending.note(tensor)  # so that the step that uses the gradients computes it too
    parts = graph.substitute([g for _, g in reached], back)
    for (owner, _), part in zip(reached, parts, strict=True):
        assert owner is not None  # `tensor` and `until` keep it
        total = part if owner.grad is None else graph.map_("add", owner.grad.node, part)
        owner.grad = owner.of(total if create_graph else graph.mark(total, "detach"), owner.device)


def _seed(name: str, output: Tensor, weight: Tensor | None) -> Node:
    if weight is None and output.size != 1:
        raise ShapeError(
            f"{name}: the gradient of {show(output.shape)} elements needs a weight for each; sum them, or give one"
        )
    return rewriting.seed_of(output.node, None if weight is None else weight.node)


class _Trace:
    """A call of a function with variables in place of its numbered arguments, and its value."""

    def __init__(
        self, name: str, function: Callable[..., Tensor], args: Sequence[Any], numbers: Iterable[int], **options: Any
    ) -> None:
        given = list(args)
        self.name = name
        self.asked: list[Tensor] = []
        self.variables: list[Node] = []
        for n in numbers:
            asked = _differentiable(name, args, n)
            variable = leaves.variable(asked.node)
            given[n] = asked.of(variable, asked.device)
            self.asked.append(asked)
            self.variables.append(variable)
        with enable_grad():
            self.result = function(*given, **options)
        (self.output,), self._back = leaves.unfolded([self.result.node])

    def value(self) -> Tensor:
        return self.result.of(self.closed([self.result.node])[0], self.result.device)

    def gradients(self, weight: Tensor | None) -> tuple[Tensor, ...]:
        """Return the gradient by each variable, zeros where there is none."""
        seed = _seed(self.name, self.result, weight)
        found = rewriting.gradients_of([self.output], self.variables, [seed])
        zeros = [graph.const(a.dtype, 0, a.shape) for a in self.asked]
        nodes = self.closed([z if g is None else g for g, z in zip(found, zeros, strict=True)])
        return tuple(a.of(n, a.device) for n, a in zip(nodes, self.asked, strict=True))

    def closed(self, nodes: Sequence[Node]) -> list[Node]:
        """Return nodes with what was computed meanwhile, and with the arguments in place of the variables."""
        arguments = {v: a.node for v, a in zip(self.variables, self.asked, strict=True)}
        return graph.substitute(graph.substitute(nodes, self._back), arguments)


def _differentiable(name: str, args: Sequence[Any], n: int) -> Tensor:
    if not -len(args) <= n < len(args):
        raise AxisError(f"{name}: there is no argument {n} among {len(args)}")
    argument = args[n]
    if not is_tensor(argument) or not argument.dtype.is_float:
        told = argument.dtype if is_tensor(argument) else type(argument).__name__
        raise DTypeError(f"{name}: argument {n} is {told}; only float tensors have gradients, cast it")
    return argument


# --- functions ----------------------------------------------------------------------------------------------------


@overload
def grad(function: Callable[..., Tensor], argnums: int = 0) -> Callable[..., Tensor]: ...
@overload
def grad(function: Callable[..., Tensor], argnums: Sequence[int]) -> Callable[..., tuple[Tensor, ...]]: ...
def grad(function: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return a function of the same arguments that gives the gradient by one of them, or a tuple by several.

    `function` returns a tensor of one element. The gradient is taken inside `no_grad` too. Calls raise `AxisError`
    where there is no such argument, `DTypeError` where it is no float tensor, `ShapeError` for a larger result.
    """
    both = value_and_grad(function, argnums)
    return lambda *args, **options: both(*args, **options)[1]


def value_and_grad(
    function: Callable[..., Tensor], argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[Tensor, Any]]:
    """Return a function of the same arguments that gives the value and what `grad` gives. Raises as `grad`."""
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)

    def both(*args: Any, **options: Any) -> tuple[Tensor, Any]:
        trace = _Trace("grad", function, args, numbers, **options)
        slopes = trace.gradients(None)
        return trace.value(), slopes[0] if isinstance(argnums, int) else slopes

    return both


def vjp(function: Callable[..., Tensor], *primals: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """Return the value, and a function from a weight for each of its elements to the gradients by all arguments.

    Raises as `grad`.
    """
    trace = _Trace("vjp", function, primals, range(len(primals)))
    return trace.value(), trace.gradients


def jvp(
    function: Callable[..., Tensor], primals: Sequence[Tensor], tangents: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the value, and its derivative along one tangent for each argument, of the argument's shape and dtype.

    The gradient is linear in the weight of the value, so that its own gradient by that weight is the derivative along
    a direction; the weight itself no longer occurs in it. Source: J. Townsend, "A new trick for calculating
    Jacobian vector products", 2017. Raises as `grad`, and `UsageError` where the number of tangents differs.
    """
    if len(primals) != len(tangents):
        raise UsageError(f"jvp: {len(primals)} arguments need as many tangents, got {len(tangents)}")
    trace = _Trace("jvp", function, primals, range(len(primals)))
    value = trace.value()
    weight = graph.source(graph.Source(value.dtype, value.shape, name="weight"))
    slopes = rewriting.gradients_of([trace.output], trace.variables, [weight])
    pairs = [(s, rewriting.seed_of(s, t.node)) for s, t in zip(slopes, tangents, strict=True) if s is not None]
    (along,) = rewriting.gradients_of([s for s, _ in pairs], [weight], [t for _, t in pairs])
    if along is None:
        return value, value.of(graph.const(value.dtype, 0, value.shape), value.device)
    # What a checkpoint computes again waits for the weight, which does not exist: here it waits for nothing.
    return value, value.of(trace.closed(graph.unmarked([along], ["again"]))[0], value.device)


def checkpoint(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return the function with its inside computed a second time for the gradient, rather than kept from the first.

    It takes tensors, by position or name, and returns a tensor, or a tuple of them: each is then computed again for
    itself. What the function takes from outside has its gradients too. Source: T. Chen et al., "Training Deep Nets
    with Sublinear Memory Cost", 2016.
    """

    @functools.wraps(function)
    def wrapped(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        starts = [a.node for a in (*args, *options.values()) if is_tensor(a)]
        found: Any = function(*args, **options)
        if isinstance(found, tuple):
            return cast("Result", tuple(_checkpointed(one, starts) for one in cast("tuple[Any, ...]", found)))
        return _checkpointed(found, starts)

    return wrapped


def _checkpointed(result: Any, starts: Sequence[Node]) -> Any:
    return result.of(rewriting.checkpoint(result.node, starts), result.device) if is_tensor(result) else result
