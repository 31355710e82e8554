"""The compiler from end to end: a graph of nodes and a device's capabilities in, a program of launches out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from portkit.compiler.build import build_nest
from portkit.compiler.facts import FusionLimits, through
from portkit.compiler.fuse import fuse
from portkit.compiler.generate import Generated, generate
from portkit.compiler.graph import Node, Source, count, unmarked
from portkit.compiler.index import Index
from portkit.compiler.key import nest_key
from portkit.compiler.legalise import legalise
from portkit.compiler.nest import Nest
from portkit.compiler.online import fold_attention, inside_attention
from portkit.compiler.program import Launch, Program, Role, Slot
from portkit.compiler.simplify import simplify
from portkit.compiler.split import split_reductions
from portkit.compiler.storage import storage
from portkit.contract import Capabilities
from portkit.spec.kernel import Kernel

_ROWS_FOR_EACH_WORKER = 4
_TAKEN_OFF = ("detach", "input", "checkpoint")
"""The marks that mean nothing to the compiler; `again` stays, and orders launches."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """A program, the source behind each of its inputs, and for each launch what it was made from."""

    program: Program
    sources: tuple[Source, ...]
    nests: tuple[Nest, ...]
    generated: tuple[Generated, ...]


def compile_graph(outputs: Sequence[Node], capabilities: Capabilities) -> Compiled:
    """Compile a graph for a device.

    An output that is a source itself is handed through. Raises `TensorError` for what the device cannot hold.
    """
    limits = fusion_limits(capabilities)
    simple = simplify(unmarked(outputs, _TAKEN_OFF))
    folded = fold_attention([through(node) for node in simple], limits.attention_bytes)
    wanted = split_reductions(folded, limits.rows)
    groups = fuse(wanted, limits, inside_attention(wanted))
    nests = [build_nest(group) for group in groups]
    device = repr(capabilities)
    kernels = [_kernel(nest, capabilities, device) for nest in nests]
    return _assemble(wanted, nests, kernels, capabilities)


def fusion_limits(capabilities: Capabilities) -> FusionLimits:
    """Return what bounds fusion on a device."""
    return FusionLimits(
        capabilities.limits.buffers,
        capabilities.tuning.workers * _ROWS_FOR_EACH_WORKER,
        attention_bytes=capabilities.limits.shared_bytes if capabilities.has("vec") else 0,
    )


_KEPT = 1024
_lowered: OrderedDict[tuple[Any, str], tuple[Kernel, Generated, tuple[int, ...]]] = OrderedDict()
"""The kernels of the last nests; a program in a loop whose constants change would else keep ever more."""


def _kernel(nest: Nest, capabilities: Capabilities, device: str) -> tuple[Kernel, Generated, list[Node]]:
    """Return the kernel of a nest, the one that an equal nest has if there is one, and the memories of this nest.

    `device` stands for the capabilities in keys.
    """
    key, memories = nest_key(nest)
    digest = (key, device)
    found = _lowered.get(digest)
    if found is None:
        generated = generate(nest, capabilities)
        places = tuple(memories.index(m) for m in generated.memories)
        # Without the nodes: they would keep the contents of this graph's sources in memory.
        kept = replace(generated, memories=())
        found = _lowered[digest] = (legalise(generated.kernel, capabilities).kernel, kept, places)
        if len(_lowered) > _KEPT:
            _lowered.popitem(last=False)
    kernel, generated, places = found
    mine = tuple(memories[i] for i in places)
    return kernel, replace(generated, memories=mine), list(mine)


def _assemble(
    wanted: Sequence[Node],
    nests: Sequence[Nest],
    kernels: Sequence[tuple[Kernel, Generated, list[Node]]],
    capabilities: Capabilities,
) -> Compiled:
    numbers: dict[Node, int] = {}
    roles: dict[Node, Role] = {}
    for node in wanted:
        numbers.setdefault(node, len(numbers))
        roles[node] = "input" if node.op == "source" else "output"
    for _, _, memories in kernels:
        for node in memories:
            if node not in numbers:
                numbers[node] = len(numbers)
                roles[node] = "input" if node.op == "source" else "temporary"
    slots = [Slot(_bytes(n, capabilities), roles[n], n.dtype, n.shape, storage(n.dtype, capabilities)) for n in numbers]
    launches = [
        Launch(kernel, (), tuple(numbers[m] for m in memories), generated.scalars)
        for kernel, generated, memories in kernels
    ]
    inputs = [n for n in numbers if n.op == "source"]
    program = Program(
        tuple(launches), tuple(slots), tuple(numbers[n] for n in inputs), tuple(numbers[n] for n in wanted)
    )
    return Compiled(program, tuple(n.attr for n in inputs), tuple(nests), tuple(g for _, g, _ in kernels))


def _bytes(node: Node, capabilities: Capabilities) -> Index:
    return storage(node.dtype, capabilities).bytes * count(node.shape)


def forget() -> None:
    """Forget every kernel made so far, so that the next one is made from nothing: for measurements."""
    _lowered.clear()
