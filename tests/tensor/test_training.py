"""Training from end to end on a device: it learns, the same bits each time, and holds on to no earlier step."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from portkit.compiler.graph import Node
from portkit.tensor import functional as F
from portkit.tensor import nn, random
from portkit.tensor.optim import SGD, Adam, Optimizer
from portkit.tensor.tensor import Tensor

STEPS = 12
RULES: dict[str, Callable[[list[Tensor]], Optimizer]] = {
    "momentum": lambda parameters: SGD(parameters, 0.05, 0.9),
    "adam": lambda parameters: Adam(parameters, 0.02),
}


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return small images of three classes: a bright quarter in one of three places, and noise."""
    places = np.arange(24) % 3
    x = random.rand(24, 1, 6, 6, generator=random.Generator(9)).numpy() * 0.5
    for image, place in zip(x, places, strict=True):
        image[0, 3 * (place // 2) :, 3 * (place % 2) :][:3, :3] += 1
    return x, places.astype(np.int32)


def train(rule: str) -> tuple[list[float], list[weakref.ReferenceType[Node]]]:
    random.seed(4)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm(4), nn.ReLU(), nn.MaxPool(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 3)
    )
    optimizer = RULES[rule](net.parameters())
    x, y = map(Tensor, images())
    losses: list[float] = []
    seen: list[weakref.ReferenceType[Node]] = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.item()))
        del loss  # it can be differentiated again, and holds what that takes
        seen += [weakref.ref(p.node) for p in net.parameters()]
    optimizer.zero_grad()  # gradients hold what they are computed from until they are computed
    gc.collect()
    return losses, [node for node in seen[: -len(net.parameters())] if node() is not None]


@pytest.mark.parametrize("rule", RULES)
def test_a_small_network_learns_the_same_each_time_and_forgets_its_earlier_steps(rule: str) -> None:
    first, alive = train(rule)
    assert first[-1] < first[0] / 2
    assert not alive
    assert train(rule)[0] == first
