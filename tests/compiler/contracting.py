"""Contractions as graphs, and compiled graphs run on the cpu device or, with every check, on the reference."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.backends.cpu import BACKEND
from portkit.compiler import graph as g
from portkit.compiler.build import build_nest
from portkit.compiler.compile import Compiled, compile_graph, fusion_limits
from portkit.compiler.facts import through
from portkit.compiler.fuse import fuse
from portkit.compiler.generate import Generated, generate
from portkit.compiler.graph import Node, Source
from portkit.compiler.index import Expr, evaluate
from portkit.compiler.merge import merge_axes
from portkit.compiler.nest import Nest
from portkit.compiler.simplify import simplify
from portkit.compiler.storage import from_device, to_device
from portkit.compiler.tiles import TileSchedule
from portkit.contract import Capabilities, Device
from portkit.reference import checks, values
from portkit.spec.geometry import grid_counts
from portkit.spec.types import F32, DType
from portkit.spec.verify import verify

Contents: TypeAlias = Mapping[Source, NDArray[Any]]
CPU = BACKEND.capabilities
LONG_BODY = 2000
"""Instructions beyond which the cpu backend does not optimise."""


# --- graphs -------------------------------------------------------------------------------------------------------


def source(*shape: int, dtype: DType = F32) -> Node:
    """Return a new input."""
    return g.source(Source(dtype, shape))


def product(x: Node, y: Node, dtype: DType | None = None) -> Node:
    """Return x @ y of shapes (..., m, k) and (..., k, n), with axes of 1 repeated; it accumulates in `dtype`."""
    x, y = (g.cast(n, dtype or n.dtype) for n in (x, y))
    *rows, m, k = x.shape
    *columns, _, n = y.shape
    batch = [a if b == 1 else b for a, b in zip(rows, columns, strict=True)]
    turned = g.permute(y, (*range(y.rank - 2), y.rank - 1, y.rank - 2))
    full = (*batch, m, n, k)
    left = g.expand(g.reshape(x, (*rows, m, 1, k)), full)
    right = g.expand(g.reshape(turned, (*columns, 1, n, k)), full)
    return g.reshape(g.reduce("add", g.map_("mul", left, right), [len(batch) + 2]), (*batch, m, n))


def turned(x: Node) -> Node:
    """Return the last two axes swapped."""
    return g.permute(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def convolution(x: Node, w: Node, step: int = 1, padding: int = 0) -> Node:
    """Return the convolution of x (n, c, h, w) with w (o, c, k, k), padded with zeros."""
    n, c, *_ = x.shape
    o, _, k, _ = w.shape
    assert isinstance(k, int)
    y = g.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    y = g.permute(_windows(_windows(y, 2, k, step), 3, k, step), (0, 2, 3, 1, 4, 5))
    _, high, wide, *_ = y.shape
    full = (n, o, high, wide, c, k, k)
    left = g.expand(g.reshape(y, (n, 1, high, wide, c, k, k)), full)
    right = g.expand(g.reshape(w, (1, o, 1, 1, c, k, k)), full)
    return g.reshape(g.reduce("add", g.map_("mul", left, right), [4, 5, 6]), (n, o, high, wide))


def _windows(x: Node, axis: int, k: int, step: int) -> Node:
    """Return windows of k along an axis, their places last: k shifted copies of the axis, cut out of one repetition."""
    n = x.shape[axis]
    assert isinstance(n, int)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    copies = k + -(-k // n)
    row = g.reshape(
        g.expand(g.reshape(x, (*before, 1, n, *after)), (*before, copies, n, *after)), (*before, copies * n, *after)
    )
    cut = g.shrink(row, [(0, (n + 1) * k) if a == axis else (0, e) for a, e in enumerate(row.shape)])
    rows = g.reshape(cut, (*before, k, n + 1, *after))
    count = (n - k) // step + 1
    spans = [(0, (count - 1) * step + 1) if a == axis + 1 else (0, e) for a, e in enumerate(rows.shape)]
    chosen = g.stride(g.shrink(rows, spans), [step if a == axis + 1 else 1 for a in range(rows.rank)])
    return g.permute(chosen, [*(a for a in range(chosen.rank) if a != axis), axis])


def extents(x: Node) -> list[int]:
    """Return the static shape of a node."""
    return [n for n in x.shape if isinstance(n, int)]


def integers(nodes: Sequence[Node]) -> Contents:
    """Return small integers for inputs, on which sums and products are exact."""
    made = ((n, np.random.default_rng(i).integers(-2, 3, extents(n))) for i, n in enumerate(nodes))
    return {n.attr: (array % 3 if n.dtype.name.startswith("u") else array).astype(n.dtype.numpy) for n, array in made}


def dynamic_integers(nodes: Sequence[Node], known: Mapping[Expr, int]) -> Contents:
    """Return small integers for inputs of which dimensions have these values."""
    rng = np.random.default_rng(5)
    return {n.attr: rng.integers(-2, 3, [int(evaluate(e, known)) for e in n.shape]).astype(np.float32) for n in nodes}


# --- running ------------------------------------------------------------------------------------------------------


class Runner:
    """Runs compiled graphs on an open cpu device."""

    def __init__(self, device: Device) -> None:
        """Use a device."""
        self.device = device

    def run(self, outputs: Sequence[Node], contents: Contents) -> tuple[list[NDArray[Any]], Compiled]:
        """Return the outputs; every kernel is verified, and short enough for LLVM."""
        compiled = compile_graph(outputs, CPU)
        slots = compiled.program.slots
        with self._buffers([int(s.bytes) for s in slots if isinstance(s.bytes, int)]) as handles:
            for number, origin in zip(compiled.program.inputs, compiled.sources, strict=True):
                self.device.write(handles[number], 0, to_device(contents[origin], slots[number].storage).tobytes())
            for launch in compiled.program.launches:
                verify(launch.kernel)
                assert len(launch.kernel.body) < LONG_BODY
                executable = self.device.compile(launch.kernel)
                buffers = [handles[n] for n in launch.buffers]
                self.device.launch(executable, grid_counts(launch.kernel, {}), buffers, [])
            self.device.synchronise(60.0)
            return [self._read(compiled, n, handles) for n in compiled.program.outputs], compiled

    def _read(self, compiled: Compiled, number: int, handles: Sequence[int]) -> NDArray[Any]:
        slot = compiled.program.slots[number]
        assert isinstance(slot.bytes, int)
        shape = [n for n in slot.shape if isinstance(n, int)]
        return from_device(self.device.read(handles[number], 0, slot.bytes), slot.dtype, shape, slot.storage)

    @contextmanager
    def _buffers(self, sizes: Sequence[int]) -> Generator[list[int]]:
        handles = [self.device.allocate(size) for size in sizes]
        yield handles
        for handle in handles:
            self.device.free(handle)


def only_nest(outputs: Sequence[Node], capabilities: Capabilities = CPU) -> Nest:
    """Return the nest of outputs that one kernel computes."""
    (group,) = fuse([through(o) for o in simplify(outputs)], fusion_limits(capabilities))
    return merge_axes(build_nest(group))


def checked(
    outputs: Sequence[Node], contents: Contents, schedule: TileSchedule
) -> tuple[list[NDArray[Any]], Generated]:
    """Run one kernel with a given schedule on the reference, all rules of validity checked; return its outputs."""
    nest = only_nest(outputs)
    generated = generate(nest, CPU, tiles=schedule)
    kernel = generated.kernel
    verify(kernel)
    given = {
        b.name: np.ascontiguousarray(contents[node.attr]).reshape(-1)
        for b, node in zip(kernel.buffers, generated.memories, strict=True)
        if node.op == "source"
    }
    checks.check(kernel, {}, given)
    after = values.run(kernel, {}, given)
    names = {node: b.name for b, node in zip(kernel.buffers, generated.memories, strict=True)}
    return [after[names[s.node]].reshape(extents(s.node)) for s in nest.stores], generated
