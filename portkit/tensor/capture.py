"""One capture of a function: the program that it comes down to, where its inputs are found, and what it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from portkit.compiler import graph
from portkit.compiler.graph import Node, Source
from portkit.compiler.program import Program
from portkit.errors import DeviceMismatch
from portkit.runtime.devices import RuntimeDevice, open_device
from portkit.runtime.programs import compute
from portkit.runtime.replay import recorded
from portkit.runtime.trace import active
from portkit.tensor import tracing
from portkit.tensor.realising import extents_of, given, note_extents, realise
from portkit.tensor.tensor import Tensor
from portkit.tensor.trees import Tree, flatten, unflatten

if TYPE_CHECKING:
    from portkit.tensor.base import Handle


# --- where a tensor is found at each call -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Argument:
    """The tensor argument of a number."""

    number: int

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        """Return the argument."""
        return arguments[self.number]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A tensor that the function reaches by itself."""

    tensor: Tensor

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        """Return the tensor."""
        return self.tensor


@dataclass(frozen=True, slots=True)
class GradientOf:
    """What another tensor has as its gradient by then."""

    owner: Argument | Held

    def find(self, arguments: Sequence[Tensor]) -> Tensor | None:
        """Return the gradient, None where there is none now."""
        owner = self.owner.find(arguments)
        return None if owner is None else owner._grad


Place: TypeAlias = Argument | Held | GradientOf


def state_of(tensor: Tensor | None) -> tuple[bool, bool] | None:
    """Return what of a tensor decides what a function computes, beside dtype, shape and value."""
    return None if tensor is None else (tensor.requires_grad, tensor._grad is None)


# --- what a trace has found ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """A tensor from outside, or the alias of an argument: where it is found, and what it was before."""

    place: Place
    tensor: Tensor
    stand_in: Node
    grad: Handle | None
    state: tuple[bool, bool] | None


@dataclass(frozen=True, slots=True)
class New:
    """A tensor that each replay makes: the output that it is of, its device, and whether it is a leaf."""

    output: int
    device: str
    leaf: bool


Made: TypeAlias = New | int | None
"""A new tensor, a known one by number, or none."""


def trace(function: Callable[[Tree], Tree], skeleton: Tree, arguments: Sequence[Tensor]) -> Capture:
    """Run a function on a tree with stand-ins for its tensors, and return what it does. The tensors are as before."""
    with tracing.tracing() as running:
        try:
            known = [_alias(n, argument) for n, argument in enumerate(arguments)]
            returned: dict[int, Tensor] = {}
            result = flatten(function(unflatten(skeleton, [k.tensor for k in known])), returned)
            for tensor in (*returned.values(), *_new_gradients(running, known)):
                running.read(tensor)
            known += _from_outside(running, arguments)
            return Capture(known, result, list(returned.values()))
        finally:
            running.restore()


def _alias(number: int, argument: Tensor) -> Known:
    """Return a tensor in place of an argument, so that what the function reaches by itself is not taken for it."""
    alias = Tensor.of(tracing.stand_in(argument), argument.device)
    if argument.requires_grad:
        alias.requires_grad = True
    alias._grad = argument._grad
    return Known(Argument(number), alias, alias.node, argument._grad, state_of(argument))


def _new_gradients(running: tracing.Trace, aliases: Sequence[Known]) -> list[Tensor]:
    pairs = [*((k.tensor, k.grad) for k in aliases), *((s.tensor, s.grad) for s in running.seen.values())]
    return [t._grad for t, before in pairs if isinstance(t._grad, Tensor) and t._grad is not before]


def _from_outside(running: tracing.Trace, arguments: Sequence[Tensor]) -> list[Known]:
    owners: dict[int, Argument | Held] = {id(s.grad): Held(_tensor(s.tensor)) for s in running.seen.values()}
    owners |= {id(argument._grad): Argument(n) for n, argument in enumerate(arguments)}
    found: list[Known] = []
    for seen in running.seen.values():
        tensor, owner = _tensor(seen.tensor), owners.get(id(seen.tensor))
        place = Held(tensor) if owner is None else GradientOf(owner)
        found.append(Known(place, tensor, seen.stand_in, seen.grad, (tensor.requires_grad, seen.grad is None)))
    return found


def _tensor(handle: Handle) -> Tensor:
    assert isinstance(handle, Tensor)
    return handle


class Capture:
    """What one kind of call does."""

    def __init__(self, known: Sequence[Known], result: Tree, returned: Sequence[Tensor]) -> None:
        """Note what the tensors hold at the end of a trace; `result` is a tree of `returned`."""
        self._places = [k.place for k in known]
        self._states = [k.state for k in known]
        self._stand_ins = {k.stand_in: n for n, k in enumerate(known)}
        self._numbers = {id(k.tensor): n for n, k in enumerate(known)}
        self._outputs: dict[Node, int] = {}
        self._new: dict[int, New] = {}
        changed = [(n, k.tensor._node) for n, k in enumerate(known) if k.tensor._node is not k.stand_in]
        self._values = [(n, self._output(node)) for n, node in changed]
        self._grads = [(n, self._made(k.tensor._grad)) for n, k in enumerate(known) if k.tensor._grad is not k.grad]
        self._result = result
        self._returned = [self._made(tensor) for tensor in returned]
        self._devices = {k.tensor.device for k in known} | {new.device for new in self._new.values()}
        self._ready: _Ready | None = None

    def _output(self, node: Node) -> int:
        return self._outputs.setdefault(node, len(self._outputs))

    def _made(self, tensor: Handle | None) -> Made:
        if tensor is None or id(tensor) in self._numbers:
            return None if tensor is None else self._numbers[id(tensor)]
        if id(tensor) not in self._new:
            self._new[id(tensor)] = New(self._output(tensor._node), tensor.device, tensor.requires_grad)
        return self._new[id(tensor)]

    # --- replaying ------------------------------------------------------------------------------------------------

    def find(self, arguments: Sequence[Tensor]) -> list[Tensor | None] | None:
        """Return the tensors that a replay would read and change; None if they are not as they were when captured."""
        found = [place.find(arguments) for place in self._places]
        return found if [state_of(tensor) for tensor in found] == self._states else None

    def replay(self, found: Sequence[Tensor | None]) -> Tree:
        """Do what the function did to the tensors that are found now, and return its result."""
        tensors = [tensor for tensor in found if tensor is not None]
        assert len(tensors) == len(found), "a tensor that was there when captured"
        sources = self._compute(tensors) if self._outputs else []
        made: dict[int, Tensor] = {}
        for n, output in self._values:
            tensors[n]._take(sources[output])
        for n, grad in self._grads:
            tensors[n]._grad = None if grad is None else self._tensor(grad, tensors, sources, made)
        results = [self._tensor(one, tensors, sources, made) for one in self._returned if one is not None]
        return unflatten(self._result, results)

    def _tensor(
        self, one: New | int, tensors: Sequence[Tensor], sources: Sequence[Node], made: dict[int, Tensor]
    ) -> Tensor:
        if isinstance(one, int):
            return tensors[one]
        if id(one) not in made:
            tensor = made[id(one)] = Tensor.of(sources[one.output], one.device)
            if one.leaf:
                tensor.requires_grad = True
        return made[id(one)]

    def _compute(self, tensors: Sequence[Tensor]) -> list[Node]:
        """Run the program and return the sources of its outputs."""
        ready = self._on_device()
        known = [tensors[n] for n in ready.known]
        waiting = [tensor for tensor in known if _source(tensor) is None]
        if waiting:
            realise(waiting)
        sources = [source for source in map(_source, known) if source is not None]
        device, extents = ready.device, dict[str, int]()
        for source in filter(None, map(_source, tensors)):  # those too that the program does not read
            note_extents(source, extents)
        if active() is not None:  # whoever traces wants to see every kernel
            now = dict(zip(ready.stand_ins, sources, strict=True))
            outputs = compute(device, list(self._outputs), lambda s: given(now.get(s, s), device, extents), extents)
        else:
            buffers = [given(source, device, extents) for source in (*sources, *ready.constants)]
            outputs = recorded(device, ready.program, extents).replay([buffers[at] for at in ready.order])
        return [
            graph.source(Source(node.dtype, node.shape, buffer, extents=extents_of(node.shape, extents)))
            for node, buffer in zip(self._outputs, outputs, strict=True)
        ]

    def _on_device(self) -> _Ready:
        """Return the program, compiled for the device as it is open now."""
        if len(self._devices) != 1:
            raise DeviceMismatch(f"a captured function works on one device, not on {', '.join(sorted(self._devices))}")
        (name,) = self._devices
        device = open_device(name)
        if self._ready is None or self._ready.device is not device:
            program, sources = device.programs.program(list(self._outputs))
            numbers = {node.attr: n for node, n in self._stand_ins.items()}
            known = [s for s in sources if s in numbers]
            constants = [s for s in sources if s not in numbers]
            order = [[*known, *constants].index(s) for s in sources]
            self._ready = _Ready(device, program, [numbers[s] for s in known], known, constants, order)
        return self._ready


@dataclass(frozen=True, slots=True)
class _Ready:
    """A program on a device; its inputs, in this order, are of known tensors by number, and of constants."""

    device: RuntimeDevice
    program: Program
    known: Sequence[int]
    stand_ins: Sequence[Source]
    constants: Sequence[Source]
    order: Sequence[int]


def _source(tensor: Tensor) -> Source | None:
    """Return where the contents of a tensor are; None where they are not computed yet."""
    node = tensor.node
    while node.op == "mark":
        node = node.inputs[0]
    return node.attr if node.op == "source" else None
