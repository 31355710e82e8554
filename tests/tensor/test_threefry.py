"""Threefry against the published known answers, and what is made of its words."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.compiler.graph import Source
from portkit.spec.types import BF16, F16, F32, F64, U32, DType
from portkit.tensor.threefry import below, fractions, threefry2x32, words

# Random123, tests/kat_vectors, `threefry2x32 20`: counter, key, answer
KNOWN_ANSWERS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def word(value: int, shape: tuple[int, ...] = ()) -> graph.Node:
    return graph.const(U32, value, shape)


def drawn(shape: tuple[int, ...], key: tuple[int, int] = (1, 2), draw: int = 3) -> tuple[graph.Node, graph.Node]:
    source = Source(U32, (2,))
    pair = words(graph.source(source), word(draw), shape)
    first, second = evaluate(pair, {source: np.array(key, np.uint32)})
    return tuple(graph.source(s) for s in (Source(U32, shape, first), Source(U32, shape, second)))  # type: ignore[return-value]


def values(node: graph.Node) -> np.ndarray:
    contents = {n.attr: n.attr.buffer for n in graph.topological([node]) if n.op == "source"}
    return evaluate([node], contents)[0]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_threefry_gives_the_published_answers(
    counter: tuple[int, int], key: tuple[int, int], answer: tuple[int, int]
) -> None:
    pair = threefry2x32((word(key[0]), word(key[1])), (word(counter[0]), word(counter[1])))
    assert tuple(int(v) for v in evaluate(pair, {})) == answer


def test_the_counter_of_an_element_is_its_number_and_the_draw() -> None:
    pair = drawn((2, 3), key=(5, 6), draw=7)
    lone = threefry2x32((word(5), word(6)), (word(4), word(7)))
    assert [int(values(w)[1, 1]) for w in pair] == [int(v) for v in evaluate(lone, {})]


def test_an_element_is_the_same_in_every_shape() -> None:
    np.testing.assert_array_equal(values(drawn((2, 3, 4))[0]).ravel(), values(drawn((24,))[0]))
    np.testing.assert_array_equal(values(drawn((5,))[0]), values(drawn((24,))[0])[:5])


def test_another_draw_and_another_key_give_other_words() -> None:
    seen = {values(drawn((4,), key, draw)[0]).tobytes() for key in ((0, 0), (0, 1), (1, 0)) for draw in (0, 1)}
    assert len(seen) == 6


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64])
def test_fractions_are_multiples_of_the_dtype_s_step_from_0_to_below_1(dtype: DType) -> None:
    extremes = (word(0, (1,)), word(0xFFFFFFFF, (1,)))
    low = values(fractions((extremes[0], extremes[0]), dtype)).astype(np.float64)
    high = values(fractions((extremes[1], extremes[1]), dtype)).astype(np.float64)
    assert (low[0], high[0]) == (0.0, 1 - 2.0**-dtype.precision)


def test_numbers_below_a_count_are_the_high_half_of_a_product() -> None:
    pair = drawn((1000,))
    found = values(below(pair[0], 10))
    np.testing.assert_array_equal(found, (values(pair[0]).astype(np.uint64) * 10) >> 32)
    np.testing.assert_array_equal(values(below(pair[0], 1 << 32)), values(pair[0]))
