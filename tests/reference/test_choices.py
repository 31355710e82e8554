"""Sets of integer and bool alternatives."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit.reference import choices, numerics
from portkit.reference.planes import Choices, Value, anything, undetermined
from portkit.spec.types import I8, I32

small_sets = st.lists(st.sets(st.integers(-128, 127), min_size=1, max_size=4), min_size=1, max_size=5)


def register(sets: list[set[int]]) -> Value:
    """Return a register whose elements are the given sets, each of at most four integers."""
    columns = [[sorted(s)[min(k, len(s) - 1)] for s in sets] for k in range(4)]
    return choices.collect([np.array(c, np.int8) for c in columns], np.zeros(len(sets), np.bool_))


def sets_of(x: Value) -> list[set[int] | None]:
    """Return the alternatives of each element, None where anything is possible."""
    if isinstance(x, np.ndarray):
        return [{int(v)} for v in x]
    assert isinstance(x, Choices)
    return [None if free else {int(o[k]) for o in x.alternatives} for k, free in enumerate(x.free)]


@given(sets=small_sets)
def test_collecting_keeps_each_set(sets: list[set[int]]) -> None:
    assert sets_of(register(sets)) == sets


@pytest.mark.parametrize("form", ["add", "mul", "max", "xor"])
@given(
    pairs=st.lists(st.tuples(*[st.sets(st.integers(-128, 127), min_size=1, max_size=3)] * 2), min_size=1, max_size=4)
)
def test_a_lifted_operation_gives_every_combination_or_gives_up(
    form: str, pairs: list[tuple[set[int], set[int]]]
) -> None:
    f = numerics.fold(form, I8)
    result = sets_of(choices.lift(f, register([p for p, _ in pairs]), register([q for _, q in pairs])))
    for (p, q), got in zip(pairs, result, strict=True):
        every = {int(f(np.array([a], np.int8), np.array([b], np.int8))[0]) for a, b in product(p, q)}
        assert got == (every if len(every) <= 4 else None)


def test_one_register_used_twice_is_one_choice() -> None:
    x = register([{1, 5}])
    assert sets_of(choices.lift(numerics.add(I8), x, x)) == [{2, 10}]


def test_five_alternatives_are_anything_at_all() -> None:
    options = [np.array([v], np.int32) for v in range(5)]
    assert sets_of(choices.collect(options, np.array([False]))) == [None]
    assert sets_of(choices.collect(options[:4], np.array([False]))) == [{0, 1, 2, 3}]


def test_a_comparison_with_anything_at_all_is_true_or_false() -> None:
    unknown = anything(np.dtype(np.int32), (2,))
    result = choices.lift(numerics.less(I32), unknown, np.array([1, 2], np.int32))
    assert sets_of(result) == [{0, 1}, {0, 1}]


def test_an_unknown_operand_leaves_the_elements_beside_it_alone() -> None:
    x = Choices((np.array([3, 4], np.int32),), np.array([True, False]))
    assert sets_of(choices.lift(numerics.add(I32), x, np.array([1, 1], np.int32))) == [None, {5}]


def test_a_selection_takes_both_sides_only_where_it_is_open() -> None:
    holds, fails = np.array([True, False, False]), np.array([False, True, False])
    a, b = np.array([1, 2, 3], np.int32), np.array([7, 8, 9], np.int32)
    assert sets_of(choices.select(holds, fails, a, b)) == [{1}, {8}, {3, 9}]


@given(sets=small_sets)
def test_certainty_of_a_comparison_is_agreement_of_all_alternatives(sets: list[set[int]]) -> None:
    condition = choices.lift(numerics.less(I8), register(sets), np.zeros(len(sets), np.int8))
    holds, fails = choices.certainly(condition)
    assert holds.tolist() == [all(v < 0 for v in s) for s in sets]
    assert fails.tolist() == [all(v >= 0 for v in s) for s in sets]
    assert undetermined(condition).tolist() == [not (h or f) for h, f in zip(holds, fails, strict=True)]
