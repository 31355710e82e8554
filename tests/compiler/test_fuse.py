"""Fusion: how many kernels common graphs take, and what stays out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from portkit.compiler import graph
from portkit.compiler.build import build_nest
from portkit.compiler.compile import compile_graph, fusion_limits
from portkit.compiler.fuse import Group, fuse
from portkit.compiler.graph import Node
from portkit.compiler.key import nest_key
from portkit.compiler.split import split_reductions
from portkit.contract import Capabilities
from portkit.tensor import Tensor
from portkit.tensor import functional as F
from portkit.tensor.gradient import gradients
from tests.compiler.running import BASE, CPU


def tensor(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


def like(parameter: Tensor) -> Tensor:
    return Tensor(np.zeros_like(parameter.numpy()))


def kernels(*tensors: Tensor) -> int:
    return len(compile_graph([t.node for t in tensors], CPU).program.launches)


def chain_of_ten(x: Tensor) -> Tensor:
    for step in range(10):
        x = x.tanh() if step % 2 else x * 2 + 1
    return x


COUNTS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "a chain of ten elementwise functions": (chain_of_ten, 1),
    "softmax": (lambda x: F.softmax(x, axis=-1), 1),
    "softmax over the first axis": (lambda x: F.softmax(x, axis=0), 1),
    "log_softmax": (lambda x: F.log_softmax(x, axis=-1), 1),
    "layer_norm": (lambda x: F.layer_norm(x, (64,), tensor(64), tensor(64)), 1),
    "rms_norm": (lambda x: F.rms_norm(x, (64,), tensor(64)), 1),
    "matmul, bias and gelu": (lambda x: F.gelu(x @ tensor(64, 96) + tensor(96)), 1),
    "matmul, bias and residual": (lambda x: x @ tensor(64, 64) + tensor(64) + x, 1),
    "a small sum over everything": (lambda x: x.sum(), 1),
    "argmax": (lambda x: x.argmax(axis=1), 1),
    "variance": (lambda x: x.var(axis=1), 1),
    "a transposed and padded copy": (lambda x: x.transpose(0, 1).pad(((1, 1), (2, 0))), 1),
    "cumsum": (lambda x: x.cumsum(axis=1), 1),
}


@pytest.mark.parametrize(("build", "most"), COUNTS.values(), ids=COUNTS.keys())
def test_a_common_graph_takes_few_kernels(build: Callable[[Tensor], Tensor], most: int) -> None:
    assert kernels(build(tensor(32, 64))) <= most


def test_a_large_sum_over_everything_takes_two_kernels_so_that_all_workers_share_it() -> None:
    assert kernels(tensor(1000, 1000).sum()) == 2


def groups(outputs: Sequence[Node]) -> list[Group]:
    return fuse(split_reductions(outputs, 8), fusion_limits(CPU))


def stored(found: Sequence[Group]) -> set[Node]:
    return {node for group in found for node, _ in group.stores}


def test_what_is_cheap_is_computed_again_for_each_kernel_that_needs_it() -> None:
    x = tensor(32, 64)
    twice = x * 2
    found = groups([twice.sum(axis=0).node, twice.sum(axis=1).node])
    assert twice.node not in stored(found)


def test_what_is_dear_is_kept_for_the_kernels_that_need_it() -> None:
    x = tensor(32, 64)
    dear = x.tanh().exp()
    found = groups([dear.sum(axis=0).node, dear.sum(axis=1).node])
    assert dear.node in stored(found)


def test_a_second_output_over_the_same_space_shares_a_kernel() -> None:
    x = tensor(32, 64)
    momentum = x * 2
    assert kernels(momentum, momentum + 1) == 1


def test_no_kernel_reads_more_buffers_than_the_device_allows() -> None:
    parts = [tensor(8) for _ in range(40)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    few = BASE
    compiled = compile_graph([total.node], few)
    assert all(len(launch.buffers) <= few.limits.buffers for launch in compiled.program.launches)


@pytest.mark.parametrize("steps", [100, 300, 700])
@pytest.mark.parametrize("device", [BASE, CPU], ids=["8 buffers", "256 buffers"])
def test_kernels_that_cut_the_gradient_of_a_long_chain_fit_the_buffers_of_the_device(
    steps: int, device: Capabilities
) -> None:
    x = tensor(2)
    y = x
    for _ in range(steps):
        y = (y * 1.5).sin()
    (slope,) = gradients(y.sum().node, [x.node])
    assert slope is not None
    found = fuse([slope], fusion_limits(device))
    assert all(len(nest_key(build_nest(group))[1]) <= device.limits.buffers for group in found)


def test_the_result_of_a_matmul_inside_another_is_kept_once() -> None:
    x, w = tensor(32, 64), tensor(64, 64)
    found = groups([((x @ w + 1) @ w).node])
    assert [len(group.stores) for group in found] == [1, 1]


def test_kernels_come_after_those_that_they_read_from() -> None:
    x, w = tensor(32, 64), tensor(64, 64)
    y = F.softmax(F.layer_norm(x @ w, (64,)) @ w)
    program = compile_graph([y.node, y.sum(axis=0).node], CPU).program
    known = set(program.inputs)
    for launch in program.launches:
        reads = [n for n, b in zip(launch.buffers, launch.kernel.buffers, strict=True) if b.access == "read"]
        assert known.issuperset(reads)
        known.update(launch.buffers)


def adam(parameter: Tensor, gradient: Node, step: Tensor) -> list[Tensor]:
    slope = Tensor.of(gradient)
    m = like(parameter) * 0.9 + slope * 0.1
    v = like(parameter) * 0.999 + slope * slope * 0.001
    first, second = 1 - (step * -0.10536).exp(), 1 - (step * -0.001).exp()
    return [m, v, parameter - (m / first) / ((v / second).sqrt() + 1e-8) * 0.001]


def test_a_training_step_of_a_perceptron_with_adam_takes_at_most_twenty_kernels() -> None:
    x, step = tensor(64, 128), tensor()
    weights = [tensor(128, 256), tensor(256, 256), tensor(256, 10)]
    biases = [tensor(256), tensor(256), tensor(10)]
    y = x
    for w, b in zip(weights, biases, strict=True):
        y = (y if y is x else F.relu(y)) @ w + b
    loss = F.cross_entropy(y, Tensor(np.zeros(64, np.int32)))
    parameters = weights + biases
    slopes = gradients(loss.node, [p.node for p in parameters])
    updated = [t for p, g in zip(parameters, slopes, strict=True) if g is not None for t in adam(p, g, step)]
    assert kernels(loss, step + 1, *updated) <= 20


def test_an_output_that_is_a_source_takes_no_kernel() -> None:
    assert kernels(tensor(3)) == 0


def test_an_output_that_is_a_constant_is_still_written() -> None:
    node = graph.const(tensor(1).dtype, 3.0, (4,))
    assert len(compile_graph([node], CPU).program.launches) == 1
