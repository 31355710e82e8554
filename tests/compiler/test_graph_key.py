"""Keys of graphs: equal for what computes the same from other buffers, different for all else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from portkit.compiler import graph as g
from portkit.compiler import graph_key as graph_key_module
from portkit.compiler.graph import Node, Source
from portkit.compiler.graph_key import graph_key
from portkit.compiler.index import Variable
from portkit.errors import HarnessError, UsageError
from portkit.spec.types import F16, F32, I32


def source(*shape: g.Size, dtype: g.DType = F32) -> Node:
    return g.source(Source(dtype, shape))


def key(*outputs: Node) -> bytes:
    return graph_key(outputs)[0]


def test_the_same_graph_of_other_sources_has_the_same_key() -> None:
    def build() -> list[Node]:
        x, y = source(3, 4), source(3, 4)
        total = g.reduce("add", g.map_("mul", x, y), [1])
        return [total, g.map_("add", x, g.expand(total, (3, 4)))]

    assert key(*build()) == key(*build())


def test_sources_are_in_the_order_of_the_key() -> None:
    x, y = source(3), source(3)
    outputs = [g.map_("sub", y, x), g.map_("neg", x)]
    assert graph_key(outputs)[1] == [y.attr, x.attr]


def variants() -> dict[str, Callable[[], Sequence[Node]]]:
    n, wide = Variable("n", 1, 8), Variable("n", 1, 9)
    x, y = source(4, 4), source(4, 4)
    return {
        "plain": lambda: [g.map_("sub", x, y)],
        "another function": lambda: [g.map_("add", x, y)],
        "operands swapped by output": lambda: [g.map_("sub", x, y), g.map_("sub", y, x)],
        "one source twice": lambda: [g.map_("sub", x, x)],
        "two outputs": lambda: [g.map_("sub", x, y), x],
        "outputs swapped": lambda: [x, g.map_("sub", x, y)],
        "another dtype": lambda: [g.map_("sub", source(4, 4, dtype=F16), source(4, 4, dtype=F16))],
        "another shape": lambda: [g.map_("sub", source(2, 8), source(2, 8))],
        "a constant": lambda: [g.map_("sub", x, g.const(F32, 1.0, (4, 4)))],
        "another constant": lambda: [g.map_("sub", x, g.const(F32, 2.0, (4, 4)))],
        "a cast": lambda: [g.cast(x, F16)],
        "another cast": lambda: [g.cast(x, I32)],
        "a sum": lambda: [g.reduce("add", x, [0])],
        "a sum of another axis": lambda: [g.reduce("add", x, [1])],
        "a product": lambda: [g.reduce("mul", x, [1])],
        "a permutation": lambda: [g.permute(x, (1, 0))],
        "a flip": lambda: [g.flip(x, (1,))],
        "a dynamic dimension": lambda: [g.map_("neg", source(n))],
        "of another range": lambda: [g.map_("neg", source(wide))],
        "twice as long": lambda: [g.map_("neg", source(n * 2))],
        "a store": lambda: [g.map_("neg", g.store(g.map_("sub", x, y)))],
        "no store": lambda: [g.map_("neg", g.map_("sub", x, y))],
    }


def test_graphs_that_compute_something_else_have_other_keys() -> None:
    keys = {name: key(*build()) for name, build in variants().items()}
    assert len(set(keys.values())) == len(keys)


def test_marks_that_say_nothing_to_the_compiler_leave_the_key_as_it_is() -> None:
    x = source(4)
    plain = g.map_("mul", g.map_("exp", x), g.map_("exp", x))
    for number in (1, 2):
        marked = g.map_("exp", g.mark(g.mark(x, "input", number=number), "detach"))
        assert key(g.map_("mul", marked, g.map_("exp", x))) == key(plain)


def test_a_computation_that_is_made_again_has_another_key() -> None:
    x = source(4)
    first = g.map_("exp", x)
    second = g.map_("exp", g.mark(x, "again", first))
    assert key(g.map_("mul", first, second)) != key(g.map_("mul", first, first))


def test_a_name_has_one_range_in_a_graph() -> None:
    with pytest.raises(UsageError, match="dimension n has two ranges"):
        key(source(Variable("n", 1, 8)), source(Variable("n", 1, 9)))


def test_what_the_key_does_not_know_is_no_key() -> None:
    node = Node("map", F32, (3,), (), object())
    with pytest.raises(HarnessError, match="knows nothing"):
        key(node)


def test_a_key_looks_at_each_node_once_however_often_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    node = source(4)
    for number in range(100):  # 2 ** 100 paths lead to the source
        node = g.map_("add", g.map_("mul", node, node), g.const(F32, float(number), (4,)))
    looked_at: list[Node] = []
    kind = graph_key_module._Key
    add = kind.add

    def count(self: Any, node: Node) -> None:
        looked_at.append(node)
        add(self, node)

    monkeypatch.setattr(kind, "add", count)
    key(node)
    assert len(looked_at) == len({id(node) for node in looked_at})
    assert 200 < len(looked_at) < 1000
