"""Attention as a nest: its parts, which keys its mask hides from a block of queries, and how it runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from portkit.compiler.extents import most
from portkit.compiler.index import Axis, Index, maximum, minimum, substitute
from portkit.compiler.nest import Nest, Value, subvalues
from portkit.compiler.schedule import grows, widest_lanes
from portkit.contract import Capabilities
from portkit.spec.types import I32, infinity_bits

_MOST_VECTORS = 4
_KEYS = 64
_TASKS_FOR_EACH_WORKER = 64
_ROWS = (1, 2, 4, 6, 8)
_LATENCY = 8
"""Accumulators that keep two multiply-adds in each cycle busy."""
_LOAD = 0.1
"""Cycles for each register that a step of a tile loads, beside its multiply-adds."""
_READ = 0.1
"""Cycles that it takes to bring keys and values nearer, for each multiply-add of one vector of queries."""


@dataclass(frozen=True)
class OnlineSchedule:
    """How an attention runs.

    A task is a block of queries: `vectors` of `lanes`. Keys come in blocks of `keys`, of which scores and results take
    `rows` at a time in registers. `groups` work-groups share the tasks.
    """

    lanes: int
    vectors: int
    rows: int
    keys: int
    groups: int

    @property
    def queries(self) -> int:
        """The queries of a block."""
        return self.lanes * self.vectors


@dataclass(frozen=True, eq=False, slots=True)
class Attention:
    """The parts of a nest that is an attention: fold over `key` of the softmax of `scores` times `values`.

    `scores` hold `product`, the sum over `depth` of queries and keys; `column` runs along what the values have beside
    keys, where there is more than one.
    """

    fold: Value
    product: Value
    queries: Value
    keys: Value
    batch: tuple[Axis, ...]
    query: Axis
    key: Axis
    depth: Axis
    column: Axis | None

    @property
    def scores(self) -> Value:
        """What the softmax is of."""
        return self.fold.args[0]

    @property
    def values(self) -> Value:
        """What is weighted."""
        return self.fold.args[1]

    @property
    def columns(self) -> int:
        """How many columns the values have."""
        return most(self.column.extent) if self.column is not None else 1


def find_attention(nest: Nest) -> Attention | None:
    """Return the parts of a nest that holds an attention, None if it does not."""
    fold = next((f for f in nest.folds if f.attr[0] == "attend"), None)
    if fold is None:
        return None
    (key,) = fold.attr[1]
    (inner,) = (f for f in nest.folds if f is not fold)
    (depth,) = inner.attr[1]
    sides = inner.args[0].args
    queries, keys = sides if key in sides[1].axes else sides[::-1]
    beside = keys.axes | fold.args[1].axes
    query = max((a for a in nest.rows if a in queries.axes - beside), key=lambda a: most(a.extent))
    columns = [a for a in nest.rows if a not in fold.args[0].axes]
    column = max(columns, key=lambda a: most(a.extent), default=None)
    batch = tuple(a for a in nest.rows if a not in (query, column))
    return Attention(fold, inner, queries, keys, batch, query, key, depth, column)


def schedule_online(a: Attention, capabilities: Capabilities) -> OnlineSchedule:
    """Return the heuristic's schedule of an attention for a device."""
    size = a.fold.dtype.bytes
    lanes = widest_lanes(size, capabilities)
    registers = capabilities.tuning.vector_registers // max(1, lanes * size // capabilities.tuning.vector_bytes)
    vectors = min(_MOST_VECTORS, ceil(most(a.query.extent) / lanes))
    keys = min(_KEYS, max(most(a.key.extent), 1))
    while vectors > 1 and _shared_bytes(a, lanes * vectors, keys, lanes) > capabilities.limits.shared_bytes:
        vectors -= 1
    while keys > 1 and _shared_bytes(a, lanes * vectors, keys, lanes) > capabilities.limits.shared_bytes:
        keys //= 2
    rows, vectors = _tile(registers, vectors, a.columns)
    blocks = ceil(most(a.query.extent) / (lanes * vectors))
    tasks = prod(most(b.extent) for b in a.batch) * blocks
    groups = max(1, min(tasks, capabilities.tuning.workers * _TASKS_FOR_EACH_WORKER))
    return OnlineSchedule(lanes, vectors, rows, keys, groups)


def _tile(registers: int, most_vectors: int, columns: int) -> tuple[int, int]:
    """Return the rows and vectors of the register tile that multiplies fastest.

    It holds its accumulators, one vector of each of the vectors and one factor.
    """

    def cycles(rows: int, vectors: int) -> float:
        return max(rows * vectors / 2, _LATENCY / 2) + (rows + vectors) * _LOAD if rows else 0.0

    def cost(shape: tuple[int, int]) -> tuple[float, int]:
        rows, vectors = shape
        whole, rest = divmod(columns, rows)
        total = whole * cycles(rows, vectors) + cycles(rest, vectors)
        return (total / columns + _READ) / vectors, -vectors

    shapes = [(r, v) for v in range(1, most_vectors + 1) for r in _ROWS if (r + 1) * v < max(registers, 3)]
    return min(shapes, key=cost)


def _shared_bytes(a: Attention, queries: int, keys: int, lanes: int) -> int:
    depth, columns = (ceil(n / lanes) * lanes for n in (most(a.depth.extent), a.columns))
    masks = len(masks_along_keys(a)) * mask_stride(keys, lanes)
    tables = queries * (depth + columns + keys + masks + 3)
    return a.fold.dtype.bytes * (tables + keys * (depth + columns))


# --- masks --------------------------------------------------------------------------------------------------------


def masks_along_keys(a: Attention) -> list[Value]:
    """Return what scores are computed with beside the product, as far as it lies in memory along keys.

    Vectors of queries have to gather it, often at steps of a power of 2, for which caches have too few ways.
    """
    within = subvalues([a.scores])
    above = {a.product}
    beside: dict[Value, None] = {}
    for value in within:
        if not above.isdisjoint(value.args):
            above.add(value)
            beside.update(dict.fromkeys(value.args))
    return [v for v in beside if v not in above and _lies_along_keys(a, v)]


def mask_stride(keys: int, lanes: int) -> int:
    """Return how far the rows of a mask are apart in shared memory: an odd number of vectors."""
    return (ceil(keys / lanes) | 1) * lanes


def _lies_along_keys(a: Attention, value: Value) -> bool:
    loads = [v.attr[1] for v in subvalues([value]) if v.op == "load"]
    along_keys = all(grows(at, a.key) in (0, 1) for at in loads)
    return along_keys and any(grows(at, a.query) not in (0, 1) for at in loads)


def first_hidden(a: Attention, last_query: Index) -> Index | None:
    """Return the key from which on all are masked from the queries up to one, None where no order of keys says so.

    where(i < j, -inf, score): of queries up to i, the keys from i+1 on.
    """
    hidden = _hidden_where(a.scores)
    step = None if hidden is None else grows(hidden, a.query)
    if hidden is None or step is None or step > 0 or grows(hidden, a.key) != 1:
        return None
    return minimum(maximum(1 - substitute(hidden, {a.key: 0, a.query: last_query}), 0), a.key.extent)


def _hidden_where(scores: Value) -> Index | None:
    """Return an expression that is positive just where scores are masked."""
    if scores.op != "map" or scores.attr != "where":
        return None
    condition, hidden, _ = scores.args
    lowest = infinity_bits(scores.dtype) | 1 << (scores.dtype.bits - 1)
    if hidden.op != "lit" or hidden.attr != lowest or condition.op != "map" or condition.attr != "lt":
        return None
    low, high = map(_expression, condition.args)
    return None if low is None or high is None else high - low


def _expression(value: Value) -> Index | None:
    """Return an integer as an index expression where it is a sum of such."""
    if value.op == "index":
        return value.attr
    if value.op == "lit" and value.dtype is I32:
        return (value.attr ^ 1 << 31) - (1 << 31)
    if value.op != "map" or value.attr not in ("add", "sub") or value.dtype is not I32:
        return None
    x, y = map(_expression, value.args)
    if x is None or y is None:
        return None
    return x + y if value.attr == "add" else x - y
