"""Cases of one tensor expression each: a row names the case, builds the expression, and says what its inputs are.

The contents of inputs follow from the case id alone. A row whose result can be differentiated has a second case, its
gradient by every float input, weighted by random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from portkit.conformance.case import Case, Cell, GraphTrial, Level, Tier
from portkit.conformance.cases.draws import Draws, Patterns
from portkit.conformance.cases.inputs import random_values, small_values, unit_values
from portkit.contract import Capabilities
from portkit.errors import DTypeError
from portkit.spec.types import DTYPES, DType, encode
from portkit.tensor.tensor import Tensor

if TYPE_CHECKING:
    from portkit.compiler.graph import Node
Array = npt.NDArray[Any]
Build: TypeAlias = (
    Callable[[], Any]
    | Callable[[Tensor], Any]
    | Callable[[Tensor, Tensor], Any]
    | Callable[[Tensor, Tensor, Tensor], Any]
)
"""Given the inputs as tensors, gives a tensor or a sequence of them."""

TENSOR_NEEDS = ("device/launch/index", "ops/load/i32/special", "ops/add/i32/special", "ops/phi.lt/i32/special")
"""What every case of the level stands on."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input tensor: its shape, dtype, and what it holds.

    `unit`      floats with exponents -3 to 0 of either sign, small integers
    `positive`  the magnitudes of these
    `small`     small integers in any dtype: sums and products of a few are exact
    `any`       every exponent, every integer
    `index`     integers from 0 below `limit`
    `distinct`  the integers from 0 in random order, halved: no two are equal, none is far from another
    """

    shape: tuple[int, ...]
    dtype: str = "f32"
    holds: str = "unit"
    limit: int = 0

    def contents(self, seed: str) -> Array:
        """Return the elements that a seed gives."""
        dtype = DTYPES[self.dtype]
        count = int(np.prod(self.shape, dtype=np.int64))
        patterns = _CONTENTS[self.holds](Draws(seed), dtype, count, self.limit)
        return elements(dtype, patterns).reshape(self.shape)


def elements(dtype: DType, patterns: Patterns) -> Array:
    """Return patterns as an array of the dtype's own NumPy type."""
    if dtype.name == "bool":
        return patterns.astype(np.bool_)
    return patterns.astype(f"u{dtype.bytes}").view(dtype.numpy)


def _positive(draws: Draws, dtype: DType, count: int, _: int) -> Patterns:
    below_sign = np.uint64((1 << (dtype.bits - 1)) - 1)
    return unit_values(draws, dtype, count) & below_sign


def _index(draws: Draws, dtype: DType, count: int, limit: int) -> Patterns:
    return draws.integers(0, limit - 1, count).astype(np.uint64)


def _distinct(draws: Draws, dtype: DType, count: int, _: int) -> Patterns:
    scale = 2 if dtype.is_float else 1
    table = [encode(dtype, k / scale if dtype.is_float else k) for k in range(count)]
    return np.array(table, np.uint64)[draws.permutation(count)]


_CONTENTS: dict[str, Callable[[Draws, DType, int, int], Patterns]] = {
    "unit": lambda draws, dtype, count, _: unit_values(draws, dtype, count),
    "positive": _positive,
    "small": lambda draws, dtype, count, _: small_values(draws, dtype, count),
    "any": lambda draws, dtype, count, _: random_values(draws, dtype, count),
    "index": _index,
    "distinct": _distinct,
}


@dataclass(frozen=True)
class TensorCase:
    """A row: `id` is what follows `tensors/`; the cell is that of `op` and `dtype`, by default the first input's."""

    id: str
    build: Build
    inputs: tuple[Input, ...]
    op: str = ""
    grad: bool = False
    tier: Tier = Tier.STANDARD
    dtype: str = ""
    grad_tier: Tier = Tier.STANDARD

    @property
    def name(self) -> str:
        return self.op or self.id.partition("/")[0]

    def cases(self, capabilities: Capabilities) -> Iterator[Case]:
        """Yield the case, and that of its gradient, if the device can hold the dtypes."""
        dtype = self.dtype or (self.inputs[0].dtype if self.inputs else "f32")
        if not holds(capabilities, (dtype, *(i.dtype for i in self.inputs))):
            return
        case_id = f"tensors/{self.id}"
        yield tensor_case(case_id, partial(row_trial, self, case_id), (Cell(f"tensor.{self.name}", dtype),), self.tier)
        if self.grad:
            cell = Cell(f"tensor.{self.name}.grad", dtype)
            yield tensor_case(
                f"{case_id}/grad", partial(gradient_trial, self, f"{case_id}/grad"), (cell,), self.grad_tier
            )


def tensor_case(
    case_id: str, trial: Callable[[Capabilities], GraphTrial], cells: tuple[Cell, ...], tier: Tier = Tier.STANDARD
) -> Case:
    """Return a case of the level."""
    return Case(case_id, Level.TENSORS, tier, cells, graph=trial, needs=TENSOR_NEEDS)


def holds(capabilities: Capabilities, dtypes: Iterable[str]) -> bool:
    """Whether a device can store and compute with dtypes, by itself or in words of integers."""
    from portkit.compiler.storage import storage

    try:
        for name in dtypes:
            storage(DTYPES[name], capabilities)
    except DTypeError:
        return False
    return True


def row_trial(row: TensorCase, case_id: str, capabilities: Capabilities) -> GraphTrial:
    """Return the graph of a row with its inputs."""
    return trial_of(results_of(row.build, leaves_of(row.inputs, case_id)), capabilities)


def gradient_trial(row: TensorCase, case_id: str, capabilities: Capabilities) -> GraphTrial:
    """Return the graph of the gradients of a row's first result by its float inputs, with a random weight."""
    from portkit.tensor.gradient import gradients

    leaves = leaves_of(row.inputs, case_id)
    output = results_of(row.build, leaves)[0]
    shape = tuple(int(n) for n in output.shape if isinstance(n, int))
    (seed,) = leaves_of((Input(shape, output.dtype.name),), f"{case_id}:seed")
    found = gradients(output, [leaf for leaf in leaves if leaf.dtype.is_float], seed)
    return trial_of([g for g in found if g is not None], capabilities)


def leaves_of(inputs: Sequence[Input], case_id: str) -> list[Node]:
    """Return a source for each input, with its contents."""
    from portkit.tensor.base import source_of

    return [source_of(given.contents(f"{case_id}:{n}"), f"x{n}") for n, given in enumerate(inputs)]


def trial_of(
    nodes: Sequence[Node], capabilities: Capabilities, compiled: Sequence[Node] = (), *, results_only: bool = False
) -> GraphTrial:
    """Return the trial of a graph whose sources all have contents on the host."""
    from portkit.compiler.graph import topological
    from portkit.tensor.base import HostBuffer

    sources = [node.attr for node in topological(nodes) if node.op == "source"]
    held = {source: source.buffer for source in sources}
    contents = {source: buffer.array for source, buffer in held.items() if isinstance(buffer, HostBuffer)}
    return GraphTrial(nodes, contents, capabilities, compiled, results_only)


def results_of(build: Build, leaves: Sequence[Node]) -> list[Node]:
    """Return the nodes of what a row builds of its inputs."""
    of_tensors = cast("Callable[..., Tensor | Sequence[Tensor]]", build)
    made = of_tensors(*(Tensor.of(leaf) for leaf in leaves))
    return [t.node for t in ([made] if isinstance(made, Tensor) else made)]


def rows_to_cases(rows: Iterable[TensorCase], capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases of rows that the device can hold."""
    for row in rows:
        yield from row.cases(capabilities)
