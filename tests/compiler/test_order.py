"""The order of launches: possible, and lean on memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit.compiler.order import launch_order
from portkit.errors import HarnessError

Graph = tuple[list[set[int]], list[int]]


def peak(order: Sequence[int], needs: Sequence[set[int]], made: Sequence[int]) -> int:
    """Return the most bytes that are alive at once."""
    waiting = [sum(n in needed for needed in needs) for n in range(len(needs))]
    alive = most = 0
    for number in order:
        alive += made[number] if waiting[number] else 0
        most = max(most, alive)
        for needed in needs[number]:
            waiting[needed] -= 1
            alive -= 0 if waiting[needed] else made[needed]
    return most


def possible(order: Sequence[int], needs: Sequence[set[int]]) -> bool:
    place = {number: at for at, number in enumerate(order)}
    return len(place) == len(needs) and all(place[n] < place[u] for u, needed in enumerate(needs) for n in needed)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(0, 7))
    needs = [draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else set[int]() for n in range(count)]
    return needs, [draw(st.integers(0, 5)) for _ in range(count)]


@given(graphs())
def test_an_order_is_possible(graph: Graph) -> None:
    needs, made = graph
    assert possible(launch_order(needs, made, range(len(needs))), needs)


def backward_pass(layers: int) -> Graph:
    """0 .. layers-1 forward; then for each layer from the last its cotangent, and its weight's gradient, for nobody."""
    needs: list[set[int]] = [{n - 1} if n else set() for n in range(layers)]
    made = [1] * layers
    for layer in reversed(range(layers)):
        above = len(needs) - 2
        needs.append({layer} if layer == layers - 1 else {layer, above})
        made.append(1)
        needs.append({len(needs) - 1, layer})
        made.append(0)
    return needs, made


def test_gradients_of_weights_are_taken_as_soon_as_they_free_memory() -> None:
    """All that is ever alive is what the forward pass kept, and two cotangents."""
    needs, made = backward_pass(20)
    order = launch_order(needs, made, range(len(needs)))
    assert peak(order, needs, made) <= 20 + 2
    late = [n for n in range(len(needs)) if made[n]] + [n for n in range(len(needs)) if not made[n]]
    assert possible(late, needs)
    assert peak(late, needs, made) == 40


def test_a_small_program_is_ordered_as_well_as_can_be() -> None:
    """Two branches that each make much of little, and join: one has to be finished before the other is begun."""
    needs: list[set[int]] = [set(), {0}, set(), {2}, {1, 3}]
    made = [10, 1, 10, 1, 0]
    best = min(peak(o, needs, made) for o in itertools.permutations(range(5)) if possible(o, needs))
    assert peak(launch_order(needs, made, [0, 2, 1, 3, 4]), needs, made) == best == 12


def test_equal_launches_keep_their_rank() -> None:
    assert launch_order([set(), set(), set()], [1, 1, 1], [2, 0, 1]) == [1, 2, 0]


def test_launches_that_need_each_other_are_a_fault() -> None:
    with pytest.raises(HarnessError, match="2 of 3 launches need each other"):
        launch_order([set(), {2}, {1}], [1, 1, 1], range(3))


def test_ten_thousand_launches_are_visited_a_few_times_each() -> None:
    """Counted by how often what is needed is looked up, which takes no clock."""

    class Counted(list[int]):
        looked = 0

        def __getitem__(self, at: int) -> int:  # type: ignore[override]
            Counted.looked += 1
            return super().__getitem__(at)

    def looked(layers: int) -> int:
        needs, made = backward_pass(layers)
        Counted.looked = 0
        launch_order(needs, Counted(made), range(len(needs)))
        return Counted.looked

    assert looked(4000) < 4.5 * looked(1000)
