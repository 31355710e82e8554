"""Modules: parameters and other tensors that belong together, named by where they are.

The tensors and modules of a module are its public attributes, also inside lists, tuples and dicts; the name of one is
its path, as in `layers.0.weight`. A tensor with `requires_grad` is a parameter, any other is state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from portkit.compiler.graph import show
from portkit.errors import ShapeError, UsageError
from portkit.tensor import pending
from portkit.tensor.promotion import DTypeLike
from portkit.tensor.tensor import Tensor


class Module:
    """A function of tensors that has tensors of its own; define `forward`, and call the module itself."""

    dropped: ClassVar[frozenset[str]] = frozenset()
    """Last parts of names that files of other libraries have for such a module, and that mean nothing here."""

    training: bool = True
    """Whether to behave as in training: drop out, and use and collect statistics of batches."""

    _computed: bool = False

    def forward(self, *args: Any, **options: Any) -> Any:
        """Return the result; each kind of module says of what."""
        raise UsageError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Return what `forward` gives; the first call computes parameters that still wait."""
        if not self._computed:
            self.realize()
        return self.forward(*args, **options)

    # --- what belongs to it ---------------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the names and modules directly inside."""
        for name, value in _members(vars(self)):
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator[tuple[str, Module]]:
        """Yield the names and modules inside, at any depth, this one first, under the empty name."""
        yield "", self
        for name, child in self.children():
            for below, module in child.modules():
                yield f"{name}.{below}" if below else name, module

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and tensors inside, at any depth; one that is shared comes under each of its names."""
        for path, module in self.modules():
            for name, value in _members(vars(module)):
                if isinstance(value, Tensor):
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and parameters inside, each once."""
        seen: set[int] = set()
        for name, tensor in self.named_tensors():
            if tensor.requires_grad and id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def parameters(self) -> list[Tensor]:
        """Return the parameters inside, each once."""
        return [tensor for _, tensor in self.named_parameters()]

    # --- settings -------------------------------------------------------------------------------------------------

    def train(self, wanted: bool = True) -> Self:
        """Set `training` for this and all modules inside, and return this one."""
        for _, module in self.modules():
            module.training = wanted
        return self

    def eval(self) -> Self:
        """Set `training` to false for this and all modules inside, and return this one."""
        return self.train(False)

    def freeze(self) -> Self:
        """Make state of the parameters, so that they have no gradients and do not move, and return this module."""
        for tensor in self.parameters():
            tensor.requires_grad = False
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of the parameters."""
        for tensor in self.parameters():
            tensor.grad = None

    def realize(self) -> Self:
        """Compute the tensors inside that wait, together, and return this module."""
        pending.realise_with(tensor for _, tensor in self.named_tensors())
        for _, module in self.modules():
            module._computed = True
        return self

    def cast(self, dtype: DTypeLike) -> Self:
        """Convert the float tensors inside to another float dtype, without their gradients; return this module."""
        return self._change(lambda t: t.cast(dtype) if t.dtype.is_float else t)

    def to(self, device: str) -> Self:
        """Move the tensors inside to another device, without their gradients, and return this module."""
        return self._change(lambda t: t.to(device))

    def _change(self, change: Callable[[Tensor], Tensor]) -> Self:
        for tensor in {id(t): t for _, t in self.named_tensors()}.values():
            changed = change(tensor.detach())
            tensor.grad = None
            tensor._device = changed.device
            tensor._take(changed.node)
        for _, module in self.modules():
            module._computed = False
        return self

    # --- state ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors inside by name, with the values that they have now."""
        return {name: tensor.detach() for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Tensor | NDArray[Any]], strict: bool = True) -> None:
        """Give the tensors inside the values of a state, converted to their dtypes, and compute them.

        With `strict`, raises `UsageError` for names that are missing or unknown; for values of another shape, always
        `ShapeError`. Nothing is changed then.
        """
        mine = dict(self.named_tensors())
        known = {name: value for name, value in state.items() if name in mine or not self._drops(name)}
        missing, unknown = [n for n in mine if n not in known], [n for n in known if n not in mine]
        if strict and (missing or unknown):
            raise UsageError(f"the state does not fit the module: missing {missing}, unknown {unknown}")
        for name in mine.keys() & known.keys():
            if tuple(known[name].shape) != mine[name].shape:
                raise ShapeError(
                    f"{name!r} is {show(tuple(known[name].shape))}, the module has {show(mine[name].shape)}"
                )
        for name in mine.keys() & known.keys():
            value = known[name]
            mine[name].assign(Tensor(value, device=mine[name].device).detach().cast(mine[name].dtype))
        self.realize()

    def _drops(self, name: str) -> bool:
        path, _, last = name.rpartition(".")
        return any(last in module.dropped for at, module in self.modules() if at == path)

    # --- Python ---------------------------------------------------------------------------------------------------

    def told(self) -> str:
        """Return the settings of this module for its representation."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        inside = "".join(f"\n{line}" for line in lines) + "\n" if lines else ""
        return f"{type(self).__name__}({self.told()}{inside})"


def _members(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of public attributes, those inside lists, tuples and dicts by path."""
    stack = [(name, values[name]) for name in reversed(list(values)) if not name.startswith("_")]
    while stack:
        name, value = stack.pop()
        if isinstance(value, (list, tuple)):
            items = cast("Sequence[Any]", value)
            stack += [(f"{name}.{n}", items[n]) for n in reversed(range(len(items)))]
        elif isinstance(value, dict):
            entries = cast("dict[Any, Any]", value)
            stack += [(f"{name}.{key}", entries[key]) for key in reversed(entries)]
        else:
            yield name, value


class Sequential(Module):
    """Modules one after the other."""

    def __init__(self, *layers: Module) -> None:
        """Call `layers` in order. Raises `UsageError` for what is no module."""
        for n, layer in enumerate(layers):
            if not isinstance(layer, Module):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UsageError(f"Sequential takes modules, got {layer!r}; wrap a function in nn.Function")
            setattr(self, str(n), layer)

    def forward(self, x: Any) -> Any:
        """Return what the last gives of what the one before gives."""
        for _, layer in self.children():
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(list(self.children()))

    def __getitem__(self, place: int) -> Module:
        return list(self.children())[place][1]

    def __iter__(self) -> Iterator[Module]:
        return (layer for _, layer in self.children())


def parameter_count(module: Module) -> int:
    """Return the number of elements of all parameters."""
    return sum(int(np.prod([n for n in p.shape if isinstance(n, int)])) for p in module.parameters())
