"""ResNet-18, forward and backward: the plan of its memory is hardly larger than what must be alive at once."""

from __future__ import annotations

import numpy as np

from portkit.compiler.compile import compile_graph
from portkit.compiler.plan import lifetimes, place
from portkit.contract import find_backend
from portkit.tensor import Tensor, cross_entropy, nn

CLOSE = 1.1
"""How much larger than the peak the arena may be."""


class Block(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.Sequential(nn.BatchNorm(outputs), nn.BatchNorm(outputs))
        self.past = None
        if stride > 1 or inputs != outputs:
            self.past = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[0](self.first(x)).relu()
        return (self.norms[1](self.second(y)) + (x if self.past is None else self.past(x))).relu()


class ResNet18(nn.Module):
    """The network of He et al. 2016, "Deep Residual Learning for Image Recognition", for images of three channels."""

    def __init__(self) -> None:
        super().__init__()
        widths = [64, 64, 128, 256, 512]
        blocks = [
            Block(widths[n] if block else widths[n - 1], widths[n], 1 if block or n < 2 else 2)
            for n in range(1, 5)
            for block in range(2)
        ]
        stem = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm(64), nn.ReLU()]
        self.body = nn.Sequential(*stem, nn.MaxPool(3, 2, padding=1), *blocks)
        self.head = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def test_training_it_is_planned_close_to_its_peak() -> None:
    batch = 8
    model = ResNet18()
    images = Tensor(np.zeros((batch, 3, 224, 224), np.float32))
    loss = cross_entropy(model(images), Tensor(np.zeros(batch, np.int32)))
    loss.backward()
    gradients = [p.grad.node for p in model.parameters() if p.grad is not None]
    assert len(gradients) == 62
    program = compile_graph([loss.node, *gradients], find_backend("cpu").capabilities).program
    made = place(lifetimes(program))
    assert made.arena_bytes <= CLOSE * made.peak_live_bytes
    activations = 4 * batch * 64 * (112 * 112 + 5 * 56 * 56)
    assert made.peak_live_bytes > activations  # of the first layers alone: the peak is that of the way back
