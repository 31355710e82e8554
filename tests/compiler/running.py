"""Running compiled graphs: on the reference interpreter, kernel by kernel, as a device of given capabilities would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.compiler.compile import Compiled, compile_graph
from portkit.compiler.graph import Node, Source
from portkit.compiler.index import Expr, evaluate
from portkit.compiler.storage import from_device, to_device
from portkit.contract import Capabilities, find_backend, unsupported
from portkit.reference.values import run
from portkit.spec.verify import verify

CPU = find_backend("cpu").capabilities
BASE = Capabilities(name="base", version="1", vendor="nobody", evidence="stand-in")
"""A device with base forms only: no vectors, group reductions, fused multiply-add, math, nothing but 32 bits."""


def run_graph(
    outputs: Sequence[Node],
    contents: Mapping[Source, NDArray[Any]],
    capabilities: Capabilities,
    variables: Mapping[Expr, int] | None = None,
) -> tuple[list[NDArray[Any]], Compiled]:
    """Compile and run a graph; every kernel is verified, and fits the device."""
    compiled = compile_graph(outputs, capabilities)
    known = variables or {}
    buffers: list[NDArray[Any]] = []
    for slot in compiled.program.slots:
        size = int(evaluate(slot.bytes, known))
        buffers.append(np.zeros(size // slot.storage.element.bytes, slot.storage.element.numpy))
    for number, source in zip(compiled.program.inputs, compiled.sources, strict=True):
        buffers[number] = to_device(contents[source], compiled.program.slots[number].storage)
    for launch in compiled.program.launches:
        verify(launch.kernel)
        assert unsupported(launch.kernel, capabilities) == []
        given_scalars = zip(launch.kernel.scalars, launch.scalars, strict=True)
        scalars = {s.name: int(evaluate(v, known)) for s, v in given_scalars if not isinstance(v, float)}
        given = {b.name: buffers[n] for b, n in zip(launch.kernel.buffers, launch.buffers, strict=True)}
        after = run(launch.kernel, scalars, given)
        for buffer, number in zip(launch.kernel.buffers, launch.buffers, strict=True):
            if buffer.access != "read":
                buffers[number] = after[buffer.name]
    return [_output(compiled, n, buffers, known) for n in compiled.program.outputs], compiled


def _output(
    compiled: Compiled, number: int, buffers: Sequence[NDArray[Any]], known: Mapping[Expr, int]
) -> NDArray[Any]:
    slot = compiled.program.slots[number]
    shape = [int(evaluate(n, known)) for n in slot.shape]
    return from_device(buffers[number].tobytes(), slot.dtype, shape, slot.storage)


def small_integers(node: Node, seed: int) -> NDArray[Any]:
    """Return contents for a source on which float sums and products are exact."""
    rng = np.random.default_rng(seed)
    low = 0 if node.dtype.name.startswith(("u", "bool")) else -4
    high = 2 if node.dtype.name == "bool" else 5
    return rng.integers(low, high, [n for n in node.shape if isinstance(n, int)]).astype(node.dtype.numpy)
