"""Recurrent layers. The products of all inputs are one product of matrices; then the steps follow one another.

Weights have the names and the layout of PyTorch's: `weight_ih_l0` (gates * hidden, inputs), `weight_hh_l0`
(gates * hidden, hidden), `bias_ih_l0`, `bias_hh_l0`, one set for each layer, and with `_reverse` for the way back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypeAlias

from portkit.compiler.graph import show
from portkit.errors import ShapeError
from portkit.tensor import creation, movement, products
from portkit.tensor.common import static
from portkit.tensor.nn import init
from portkit.tensor.nn.layers import Dropout
from portkit.tensor.nn.module import Module
from portkit.tensor.promotion import DTypeLike
from portkit.tensor.tensor import Tensor

State: TypeAlias = tuple[Tensor, ...]
Weights: TypeAlias = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


class _Recurrent(Module, ABC):
    gates: ClassVar[int]
    states: ClassVar[int]

    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = "f32",
    ) -> None:
        """Draw weights and biases evenly up to 1/sqrt(hidden); `dropout` comes between layers."""
        self.inputs, self.hidden, self.layers = inputs, hidden, layers
        self.batch_first, self.bidirectional = batch_first, bidirectional
        self.drop = Dropout(dropout)
        for name, width in self._sets():
            self._draw(f"weight_ih_{name}", (self.gates * hidden, width), dtype)
            self._draw(f"weight_hh_{name}", (self.gates * hidden, hidden), dtype)
            for kind in ("ih", "hh") if bias else ():
                self._draw(f"bias_{kind}_{name}", (self.gates * hidden,), dtype)

    def _sets(self) -> list[tuple[str, int]]:
        """Return the name of each set of weights, and the width of what it takes in."""
        ways = ("", "_reverse") if self.bidirectional else ("",)
        widths = [self.inputs, *([self.hidden * len(ways)] * (self.layers - 1))]
        return [(f"l{layer}{way}", width) for layer, width in enumerate(widths) for way in ways]

    def _draw(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        setattr(self, name, init.by_inputs(shape, self.hidden, dtype))

    def _weights(self, name: str) -> Weights:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        found = [getattr(self, f"{kind}_{name}", None) for kind in kinds]
        assert isinstance(found[0], Tensor)
        assert isinstance(found[1], Tensor)
        return found[0], found[1], found[2], found[3]

    def _run(self, x: Tensor, first: State | None) -> tuple[Tensor, State]:
        """Return the outputs of the last layer, and the last states, each (sets, n, hidden)."""
        if x.ndim != 3 or x.shape[2] != self.inputs:
            order = "(n, l, inputs)" if self.batch_first else "(l, n, inputs)"
            raise ShapeError(
                f"{type(self).__name__}: the input is {order} of {self.inputs} inputs, got {show(x.shape)}"
            )
        if self.batch_first:
            x = movement.transpose(x, 0, 1)
        sets, count = self._sets(), static(type(self).__name__, x, 1)
        if first is None:
            blank = creation.zeros(len(sets), count, self.hidden, dtype=x.dtype, device=x.device)
            first = (blank,) * self.states
        last: list[State] = []
        ways = 2 if self.bidirectional else 1
        for layer in range(self.layers):
            outputs: list[Tensor] = []
            for way in range(ways):
                number = layer * ways + way
                output, state = self._one_way(x, sets[number][0], tuple(s[number] for s in first), bool(way))
                outputs.append(output)
                last.append(state)
            x = movement.cat(outputs, 2) if ways > 1 else outputs[0]
            x = self.drop(x) if layer + 1 < self.layers else x
        states = tuple(movement.stack([state[k] for state in last]) for k in range(self.states))
        return movement.transpose(x, 0, 1) if self.batch_first else x, states

    def _one_way(self, x: Tensor, name: str, state: State, backwards: bool) -> tuple[Tensor, State]:
        """Return the outputs (l, n, hidden) of one set of weights, and its last state."""
        weight_in, weight, bias_in, bias = self._weights(name)
        taken = products.linear(x, weight_in, bias_in).contiguous()
        steps = range(static(type(self).__name__, x, 0))
        outputs: dict[int, Tensor] = {}
        for t in reversed(steps) if backwards else steps:
            state = self._step(taken[t], products.linear(state[0], weight, bias), state)
            outputs[t] = state[0]
        if not outputs:
            raise ShapeError(f"{type(self).__name__}: the sequence {show(x.shape)} has no steps")
        return movement.stack([outputs[t] for t in steps]), state

    @abstractmethod
    def _step(self, taken: Tensor, kept: Tensor, state: State) -> State:
        """Return the next state from the products of the input and of the state before, (n, gates * hidden) each."""

    def told(self) -> str:
        """Return the extents."""
        return f"{self.inputs} -> {self.hidden}, layers={self.layers}, bidirectional={self.bidirectional}"


class LSTM(_Recurrent):
    """Long short-term memory, the gates in the order input, forget, cell, output.

    c = f c + i g;  h = o tanh(c). Source: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", 1997, with forget
    gates.
    """

    gates = 4
    states = 2

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs (l, n, ways * hidden), and the last h and c, (layers * ways, n, hidden) each.

        x is (l, n, inputs), with `batch_first` (n, l, inputs), and so are the outputs. Raises `ShapeError`.
        """
        outputs, (h, c) = self._run(x, state)
        return outputs, (h, c)

    def _step(self, taken: Tensor, kept: Tensor, state: State) -> State:
        i, f, g, o = movement.chunk(taken + kept, 4, 1)
        cell = (f.sigmoid() * state[1] + i.sigmoid() * g.tanh()).contiguous()
        return (o.sigmoid() * cell.tanh()).contiguous(), cell


class GRU(_Recurrent):
    """Gated recurrent unit, the gates in the order reset, update, new.

    n = tanh(x_n + r h_n);  h = (1 - z) n + z h. Source: K. Cho et al., "Learning Phrase Representations using RNN
    Encoder-Decoder", 2014, with the reset after the product.
    """

    gates = 3
    states = 1

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs (l, n, ways * hidden), and the last h (layers * ways, n, hidden); x as for `LSTM`."""
        outputs, (h,) = self._run(x, None if state is None else (state,))
        return outputs, h

    def _step(self, taken: Tensor, kept: Tensor, state: State) -> State:
        r_in, z_in, n_in = movement.chunk(taken, 3, 1)
        r, z, n = movement.chunk(kept, 3, 1)
        update = (z_in + z).sigmoid()
        new = (n_in + (r_in + r).sigmoid() * n).tanh()
        return ((new + update * (state[0] - new)).contiguous(),)


class RNN(_Recurrent):
    """Plain recurrence: h = tanh(x_h + h_h)."""

    gates = 1
    states = 1

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs (l, n, ways * hidden), and the last h (layers * ways, n, hidden); x as for `LSTM`."""
        outputs, (h,) = self._run(x, None if state is None else (state,))
        return outputs, h

    def _step(self, taken: Tensor, kept: Tensor, state: State) -> State:
        return ((taken + kept).tanh().contiguous(),)
