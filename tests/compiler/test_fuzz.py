"""Random graphs on devices of all kinds: every step gives the bits that the graph means."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from msgspec.structs import replace

from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Source, topological
from portkit.compiler.index import evaluate as evaluate_index
from portkit.compiler.storage import from_device, storage, to_device
from portkit.contract import Capabilities, Limits, Tuning, find_backend
from portkit.runtime.buffers import Buffer, from_array
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.programs import compute
from portkit.spec.types import F64, I32
from portkit.tensor.gradient import gradients
from tests.compiler.random_graphs import RandomGraph, random_graph
from tests.compiler.running import BASE, CPU
from tests.compiler.stepwise import judge, judge_nests, same

DEVICES: dict[str, Capabilities] = {
    "everything": CPU,
    "base forms only": BASE,
    "vectors of two": replace(CPU, lanes=(2,), extensions=("vec", "group"), math={}, tuning=Tuning()),
    "vectors of 64": replace(CPU, lanes=(16, 64), extensions=("vec",), math={}),
    "few buffers": replace(CPU, limits=Limits(), tuning=Tuning(workers=64)),
    "vectors of 32 bits only": replace(BASE, lanes=(4, 8), extensions=("vec", "fma"), tuning=Tuning(workers=3)),
}


@pytest.mark.parametrize("seed", range(400))
def test_nests_of_a_random_graph_compute_what_it_means(seed: int) -> None:
    graph = random_graph(seed, 20)
    judge_nests(graph.outputs, graph.contents, CPU if seed % 2 else BASE, graph.variables)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("seed", range(25))
def test_kernels_of_a_random_graph_compute_what_it_means(seed: int, name: str) -> None:
    graph = random_graph(1000 * (list(DEVICES).index(name) + 1) + seed)
    judge(graph.outputs, graph.contents, DEVICES[name], graph.variables)


@pytest.mark.parametrize("seed", range(40))
def test_kernels_of_gradients_of_a_random_graph_compute_what_they_mean(seed: int) -> None:
    graph = random_graph(300_000 + seed, 7, (F64, F64, I32), without=())
    sources = [n for n in topological(graph.outputs) if n.op == "source"]
    floats = [n for n in sources if n.dtype is F64]
    found = [g for output in graph.outputs if output.dtype is F64 for g in gradients(output, floats) if g is not None]
    exact = [g for g in found if all(n.attr != "div" for n in topological([g]))]  # ties share by division
    judge([*exact, *sources], graph.contents, CPU, graph.variables)


@pytest.fixture(scope="module")
def device() -> Iterator[RuntimeDevice]:
    with RuntimeDevice(find_backend("cpu")) as opened:
        yield opened


def run(device: RuntimeDevice, graph: RandomGraph) -> list[np.ndarray]:
    """Return the outputs of a graph as a device computes them."""

    def buffer_of(origin: Source) -> Buffer:
        return from_array(device, to_device(graph.contents[origin], storage(origin.dtype, device.capabilities)))

    made = compute(device, graph.outputs, buffer_of, {str(v): n for v, n in graph.variables.items()})
    device.synchronise()
    shapes = [[int(evaluate_index(n, graph.variables)) for n in node.shape] for node in graph.outputs]
    return [
        from_device(b.read().tobytes(), o.dtype, shape, storage(o.dtype, device.capabilities))
        for b, o, shape in zip(made, graph.outputs, shapes, strict=True)
    ]


@pytest.mark.parametrize("seed", range(60))
def test_the_cpu_computes_what_a_random_graph_means(seed: int, device: RuntimeDevice) -> None:
    graph = random_graph(100_000 + seed)
    same("running", run(device, graph), evaluate(graph.outputs, graph.contents))
