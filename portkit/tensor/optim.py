"""Optimizers: each step is one expression for every parameter, computed together with what else waits.

A step assigns new values to the parameters and to its own state; everything that it needs and that changes, the number
of the step and the learning rate included, is a tensor, so that a captured step replays right. Each new value is
elementwise over the parameter's elements, corrections of bias included, so that one kernel updates a parameter and its
state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from portkit.compiler.graph import show
from portkit.errors import ShapeError, UsageError
from portkit.spec.types import F32, DType
from portkit.tensor import creation, movement, pending
from portkit.tensor.autograd import no_grad
from portkit.tensor.common import is_tensor
from portkit.tensor.promotion import wide
from portkit.tensor.realising import realise
from portkit.tensor.tensor import Tensor


class Optimizer(ABC):
    """A rule that moves parameters along their gradients; state of f16 and bf16 parameters is kept in f32."""

    slots: Sequence[str] = ()
    """Names of the tensors that are kept for each parameter, zeros at first."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        """Move tensors with `requires_grad`, each once, whatever else they hold; they are computed now.

        Raises `UsageError` where there is none, or one that is no leaf, and for a rate that is no number from 0 up.
        """
        self.parameters = list({id(p): p for p in parameters}.values())
        if not self.parameters:
            raise UsageError("an optimizer needs parameters, got none")
        for n, p in enumerate(self.parameters):
            if not is_tensor(p):
                raise UsageError(f"parameter {n} is a {type(p).__name__}; give tensors, such as module.parameters()")
            if not p.requires_grad:
                raise UsageError(
                    f"parameter {n} of shape {show(p.shape)} has no requires_grad; set it, or leave it out"
                )
        device = self.parameters[0].device
        self._rate = Tensor(_checked(learning_rate), "f32", device)
        self._count = Tensor(0, "i32", device)
        self.state = {name: [_kept(p) for p in self.parameters] for name in self.slots}
        pending.realise_with([*self.parameters, *(t for tensors in self.state.values() for t in tensors)])

    @property
    def learning_rate(self) -> float:
        """The learning rate, for schedules to set; it may be set between replays of a captured step."""
        return float(self._rate.item())

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._rate.assign(Tensor(_checked(value), "f32", self._rate.device))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    def step(self, *others: Tensor) -> None:
        """Move every parameter that has a gradient, and compute parameters, state, losses and `others` together.

        Raises `UsageError` where none has a gradient.
        """
        moving = [n for n, p in enumerate(self.parameters) if p.grad is not None]
        if not moving:
            raise UsageError("no parameter has a gradient; call backward on the loss first")
        with no_grad():
            self._count.assign(self._count + 1)
            for n in moving:
                self._move(n)
        changed = [t for n in moving for t in (self.parameters[n], *(kept[n] for kept in self.state.values()))]
        pending.realise_with([*changed, self._count, *others])

    def _move(self, n: int) -> None:
        p = self.parameters[n]
        assert p.grad is not None
        dtype = wide(p.dtype)
        kept = {name: tensors[n] for name, tensors in self.state.items()}
        new = self._update(p.cast(dtype), p.grad.cast(dtype), kept, dtype)
        p.assign(new.pop("").cast(p.dtype))
        for name, value in new.items():
            kept[name].assign(value)

    def _number(self, name: str, dtype: DType) -> Tensor:
        return {"rate": self._rate, "count": self._count}[name].cast(dtype)

    @abstractmethod
    def _update(self, p: Tensor, g: Tensor, kept: Mapping[str, Tensor], dtype: DType) -> dict[str, Tensor]:
        """Return the new value of a parameter, under the empty name, and those of its state; all of one dtype."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the learning rate, the number of steps and the state of each parameter, by name and number."""
        state = {"learning_rate": Tensor(self._rate), "step": Tensor(self._count)}
        for name, tensors in self.state.items():
            state |= {f"{name}.{n}": Tensor(t) for n, t in enumerate(tensors)}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state of the same kind of optimizer for parameters of the same shapes.

        Raises `UsageError` for missing or unknown names, `ShapeError`.
        """
        mine = {"learning_rate": self._rate, "step": self._count}
        for name, tensors in self.state.items():
            mine |= {f"{name}.{n}": t for n, t in enumerate(tensors)}
        if set(mine) != set(state):
            missing, unknown = sorted(set(mine) - set(state)), sorted(set(state) - set(mine))
            raise UsageError(f"the state does not fit the optimizer: missing {missing}, unknown {unknown}")
        for name, tensor in mine.items():
            if tensor.shape != state[name].shape:
                raise ShapeError(f"{name!r} is {show(state[name].shape)}, the optimizer has {show(tensor.shape)}")
            tensor.assign(state[name].cast(tensor.dtype))
        realise(list(mine.values()))


def _checked(rate: float) -> float:
    if not isinstance(rate, (int, float, np.number)) or not 0 <= rate < math.inf:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"a learning rate is a number from 0 up, got {rate!r}")
    return float(rate)


def _kept(p: Tensor) -> Tensor:
    return creation.zeros(*p.shape, dtype=wide(p.dtype), device=p.device)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay, as in PyTorch.

    g = grad + decay p;  v = momentum v + g, where v is 0 at first;  p -= rate v, with `nesterov` rate (g + momentum v).
    Source: I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        """Raises as `Optimizer`, and `UsageError` for `nesterov` without momentum."""
        if nesterov and not momentum:
            raise UsageError("nesterov needs a momentum")
        self.slots = ("velocity",) if momentum else ()
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov
        super().__init__(parameters, learning_rate)

    def _update(self, p: Tensor, g: Tensor, kept: Mapping[str, Tensor], dtype: DType) -> dict[str, Tensor]:
        rate = self._number("rate", dtype)
        if self.weight_decay:
            g = g + p * self.weight_decay
        if not self.momentum:
            return {"": p - g * rate}
        velocity = kept["velocity"] * self.momentum + g
        along = g + velocity * self.momentum if self.nesterov else velocity
        return {"": p - along * rate, "velocity": velocity}


class Adam(Optimizer):
    """Adam: steps along the mean of the gradients over the root of the mean of their squares.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon).
    Weight decay is added to the gradient. Source: D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", 2015.
    """

    slots = ("mean", "square")
    _decoupled = False

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Raises as `Optimizer`, and `UsageError` for betas outside of 0 to below 1."""
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise UsageError(f"betas are two, from 0 to below 1, got {betas}")
        self.betas, self.epsilon, self.weight_decay = betas, epsilon, weight_decay
        super().__init__(parameters, learning_rate)

    def _update(self, p: Tensor, g: Tensor, kept: Mapping[str, Tensor], dtype: DType) -> dict[str, Tensor]:
        rate, count = self._number("rate", dtype), self._number("count", dtype)
        b1, b2 = self.betas
        if self._decoupled:
            p = p - p * (rate * self.weight_decay)
        elif self.weight_decay:
            g = g + p * self.weight_decay
        mean = kept["mean"] * b1 + g * (1 - b1)
        square = kept["square"] * b2 + g * g * (1 - b2)
        along = mean / _corrected(b1, count)
        width = (square / _corrected(b2, count)).sqrt() + self.epsilon
        return {"": p - rate * along / width, "mean": mean, "square": square}


def _corrected(beta: float, count: Tensor) -> Tensor:
    """Return 1 - beta^count, what a mean that began with zeros lacks, accurately where it is small."""
    return -(count * math.log(beta)).expm1() if beta else creation.ones_like(count)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: p -= rate decay p.

    Source: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    _decoupled = True

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        """Raises as `Adam`."""
        super().__init__(parameters, learning_rate, betas, epsilon, weight_decay)


def clip_gradients(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale the gradients down so that the root of the sum of all their squares is at most `most`; return what it was.

    Raises `UsageError` where none has a gradient. Source: R. Pascanu et al., "On the difficulty of training recurrent
    neural networks", 2013.
    """
    moving = [p for p in parameters if p.grad is not None]
    if not moving:
        raise UsageError("no parameter has a gradient; call backward on the loss first")
    with no_grad():
        squares = [p.grad.cast(wide(p.dtype)).square().sum().cast(F32) for p in moving if p.grad is not None]
        norm = movement.stack(squares).sum().sqrt()
        scale = (most / norm.maximum(most)).contiguous()
        for p in moving:
            assert p.grad is not None
            p.grad = (p.grad * scale).cast(p.dtype)
    return norm
