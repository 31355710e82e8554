"""Index expressions: exact at every point, in one form, with proven bounds."""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.compiler import index as ix
from portkit.compiler.index import Axis, Expr, Index, Value, Variable
from portkit.errors import ShapeError, UsageError

OPERATORS: tuple[tuple[Callable[..., Index], Callable[..., np.ndarray]], ...] = (
    (operator.add, operator.add),
    (operator.sub, operator.sub),
    (operator.mul, operator.mul),
    (ix.minimum, np.minimum),
    (ix.maximum, np.maximum),
)
DIVISIONS = (operator.floordiv, operator.mod)
Pair = tuple[Index, np.ndarray]


class Points:
    """Random expressions over a few leaves, each with its value at every point of them, by plain NumPy."""

    def __init__(self, seed: int, symbolic: bool = False) -> None:
        self.random = random.Random(seed)
        rng = self.random
        n = Variable("n", 1, 5)
        extents: list[Index] = [n if symbolic else rng.randint(1, 6), rng.randint(1, 9), rng.choice((2, 4, 8))]
        self.axes = [Axis(e) for e in extents]
        value = Value("v", -3, 3)
        ranges = [range(1, 6), *(range(ix.bounds(e)[1]) for e in extents), range(-3, 4)]
        points = np.array(list(itertools.product(*ranges)))
        if symbolic:
            points = points[points[:, 1] < points[:, 0]]
        self.leaves: list[Pair] = list(zip((n, *self.axes, value), points.T, strict=True))
        self.numbers = {e: a for e, a in self.leaves if isinstance(e, Expr)}
        self.ones = np.ones(len(points), np.int64)

    def constant(self, low: int, high: int) -> Pair:
        value = self.random.randint(low, high)
        return value, self.ones * value

    def make(self, depth: int) -> Pair:
        rng = self.random
        if depth == 0:
            return rng.choice(self.leaves) if rng.random() < 0.7 else self.constant(-9, 13)
        a, x = self.make(depth - 1)
        if rng.random() < 0.45:
            divide = rng.choice(DIVISIONS)
            d, y = self.leaves[0] if rng.random() < 0.25 else self.constant(1, 12)
            return divide(a, d), divide(x, y)
        b, y = self.make(rng.randrange(depth))
        if rng.random() < 0.4:
            b, y = self.constant(-12, 12)
        ours, theirs = rng.choice(OPERATORS)
        return ours(a, b), theirs(x, y)


def check(points: Points, depth: int) -> None:
    e, expected = points.make(depth)
    assert np.array_equal(ix.evaluate(e, points.numbers) * points.ones, expected), str(e)
    low, high = ix.bounds(e)
    assert low <= expected.min()
    assert expected.max() <= high, str(e)
    other, x = points.make(depth)
    said = ix.at_most(e, other)
    assert said is None or np.all((expected <= x) == said), f"{e} <= {other}"


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_random_expressions_have_their_plain_value_at_every_point(depth: int, symbolic: bool) -> None:
    for seed in range(120):
        check(Points(1000 * depth + seed, symbolic), depth)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_any_expression_has_its_plain_value(seed: int, depth: int, symbolic: bool) -> None:
    check(Points(seed, symbolic), depth)


@pytest.mark.parametrize("symbolic", [False, True])
def test_substitution_is_evaluation(symbolic: bool) -> None:
    for seed in range(150):
        points = Points(seed, symbolic)
        e, expected = points.make(3)
        at = points.random.randrange(len(expected))
        numbers = {leaf: int(a[at]) for leaf, a in points.numbers.items()}
        first = dict(list(numbers.items())[:2])
        assert ix.substitute(ix.substitute(e, first), numbers) == expected[at], str(e)


# --- one form -----------------------------------------------------------------------------------------------------


def axes(*extents: Index) -> tuple[Axis, ...]:
    return tuple(Axis(e) for e in extents)


def test_the_same_expression_is_the_same_object() -> None:
    a, b = axes(7, 5)
    assert (a + b) * 3 - b is b * 2 + a * 3
    assert (a * b) * 2 is (b + b) * a
    assert (a + 3) // 4 is (3 + a) // 4
    assert hash(a + b) == hash(b + a)


def test_what_is_constant_is_an_int() -> None:
    a, b = axes(7, 1)
    assert type(a - a) is int
    assert type(b + 3) is int
    assert type(a // 7) is int
    assert type((a * 0) % 3) is int


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda a, b, x: (a * 12 + b) // 4, lambda a, b, x: a * 3),
        (lambda a, b, x: (a * 12 + b) % 4, lambda a, b, x: b),
        (lambda a, b, x: (x * 6 + a * 4 + 3) // 4, lambda a, b, x: x + a + (x + 1) // 2),
        (lambda a, b, x: (a * 8 + b) // 16, lambda a, b, x: a // 2),
        (lambda a, b, x: (a * 8 + b) % 16, lambda a, b, x: a % 2 * 8 + b),
        (lambda a, b, x: x // 3 // 5, lambda a, b, x: x // 15),
        (lambda a, b, x: (x // 3 + 2) // 5, lambda a, b, x: (x + 6) // 15),
        (lambda a, b, x: x % 15 // 5, lambda a, b, x: x // 5 % 3),
        (lambda a, b, x: x % 12 % 4, lambda a, b, x: x % 4),
        (lambda a, b, x: (x % 12 + a) % 4, lambda a, b, x: (x + a) % 4),
        (lambda a, b, x: x // 4 * 4 + x % 4, lambda a, b, x: x),
        (lambda a, b, x: x // 12 * 12 + x // 4 % 3 * 4 + x % 4, lambda a, b, x: x),
        (lambda a, b, x: x // 4 % 3 * 4 + x % 4, lambda a, b, x: x % 12),
        (lambda a, b, x: x - x // 4 * 4, lambda a, b, x: x % 4),
        (lambda a, b, x: x - x % 4, lambda a, b, x: x // 4 * 4),
        (lambda a, b, x: (x + 9) % 9, lambda a, b, x: x % 9),
        (lambda a, b, x: a % 10, lambda a, b, x: a),
        (lambda a, b, x: (a * 4 + 3 - b) // 4, lambda a, b, x: a),
        (lambda a, b, x: ix.minimum(a, 9), lambda a, b, x: a),
        (lambda a, b, x: ix.minimum(a + 3, b), lambda a, b, x: b),
        (lambda a, b, x: ix.maximum(ix.maximum(x, 5), 7), lambda a, b, x: ix.maximum(x, 7)),
        (lambda a, b, x: ix.minimum(x, x + a), lambda a, b, x: x),
    ],
)
def test_constants_divide_into_one_form(make: Callable[..., Index], expected: Callable[..., Index]) -> None:
    a, b, x = axes(10, 4, 1000)
    assert make(a, b, x) is expected(a, b, x)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda a, b, n, m: (a * n + b) // n, lambda a, b, n, m: a),
        (lambda a, b, n, m: (a * n + b) % n, lambda a, b, n, m: b),
        (lambda a, b, n, m: (n - 1 - b) % n, lambda a, b, n, m: n - 1 - b),
        (lambda a, b, n, m: (b + n) % n, lambda a, b, n, m: b),
        (lambda a, b, n, m: (a * n) // (n * m), lambda a, b, n, m: a // m),
        (lambda a, b, n, m: (a * n + b) // (n * 4), lambda a, b, n, m: a // 4),
        (lambda a, b, n, m: (a * n + b) % (n * 4), lambda a, b, n, m: a % 4 * n + b),
        (lambda a, b, n, m: (a * (n + 2) + b) // (n + 2), lambda a, b, n, m: a),
        (lambda a, b, n, m: (a * (n + m) + b + m) % (n + m), lambda a, b, n, m: b + m),
        (lambda a, b, n, m: (a * (n + 3) + b) // (n + 2), lambda a, b, n, m: a + (a + b) // (n + 2)),
        (lambda a, b, n, m: n // n, lambda a, b, n, m: 1),
        (lambda a, b, n, m: (n * m) % m, lambda a, b, n, m: 0),
        (lambda a, b, n, m: ix.minimum(b, n), lambda a, b, n, m: b),
        (lambda a, b, n, m: ix.maximum(b, n - 1), lambda a, b, n, m: n - 1),
    ],
)
def test_dimensions_divide_into_one_form(make: Callable[..., Index], expected: Callable[..., Index]) -> None:
    n, m = Variable("n", 1, 4096), Variable("m", 1, 64)
    a, b = axes(m, n)
    result = make(a, b, n, m)
    assert result == expected(a, b, n, m)


def test_a_variable_is_its_name_and_bounds() -> None:
    assert Variable("n", 1, 8) is Variable("n", 1, 8)
    assert Variable("n", 1, 8) is not Variable("n", 1, 9)
    assert Axis(8) is not Axis(8)


def test_comparisons_know_the_extent_of_an_axis() -> None:
    n, m = Variable("n", 1, 4096), Variable("m", 1, 64)
    a, b = axes(m, n)
    assert ix.less(b, n) is True
    assert ix.at_most(n, b) is False
    assert ix.less(a * n + b, m * n) is True
    assert ix.less(b, m) is None


# --- shapes -------------------------------------------------------------------------------------------------------

N = Variable("n", 1, 4096)
M = Variable("m", 0, 64)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (3, 4, 5), (3, 1, 1, 5), (2, N), (N, 3), (N, 1, M, 7), (N + 2, M)])
def test_unravel_of_ravel_is_the_coordinate(shape: tuple[Index, ...]) -> None:
    coordinate = tuple(0 if n == 1 else Axis(n) for n in shape)
    assert ix.unravel(ix.ravel(coordinate, shape), shape) == coordinate


@pytest.mark.parametrize("shape", [(3, 4, 5), (7, 1, 9), (2, 2, 2, 2), (3, N)])
def test_ravel_of_unravel_is_the_position(shape: tuple[Index, ...]) -> None:
    size = ix.ravel([n - 1 for n in shape], shape) + 1
    flat = Axis(size)
    assert ix.ravel(ix.unravel(flat, shape), shape) is flat


ROUND_TRIPS = [
    ((12,), (3, 4)),
    ((6, 4), (2, 3, 4)),
    ((6, 4), (3, 8)),
    ((2, 3, 4), (4, 3, 2)),
    ((8, 1, 9), (8, 9)),
    ((N, 12), (N, 3, 4)),
    ((N, 12), (3, 4, N)),
    ((4, N, 6), (4, N * 2, 3)),
    ((N, N + 2), (N * (N + 2),)),
]


@pytest.mark.parametrize(("first", "second"), ROUND_TRIPS)
def test_reshaping_there_and_back_is_the_identity(first: tuple[Index, ...], second: tuple[Index, ...]) -> None:
    for old, new in ((first, second), (second, first)):
        coordinate = tuple(0 if n == 1 else Axis(n) for n in old)
        there = ix.reshape_index(coordinate, old, new)
        assert ix.reshape_index(there, new, old) == coordinate


def random_shape(rng: random.Random, size: int) -> list[int]:
    """Return a shape of that many elements, extents of 1 among them."""
    shape: list[int] = []
    while size > 1:
        n = rng.choice([d for d in range(2, size + 1) if size % d == 0])
        shape.append(n)
        size //= n
    for _ in range(rng.randrange(3)):
        shape.insert(rng.randrange(len(shape) + 1), 1)
    rng.shuffle(shape)
    return shape


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_reshaped_coordinate_is_that_of_numpy(dynamic: bool) -> None:
    for seed in range(150):
        rng = random.Random(seed)
        size = rng.choice((1, 6, 12, 24, 36, 60))
        new, old = random_shape(rng, size), random_shape(rng, size)
        n = rng.choice((2, 3, 5)) if dynamic else 1
        places = [rng.randrange(len(s) + 1) for s in (new, old)]
        known = [[*s[:p], n, *s[p:]] for s, p in zip((new, old), places, strict=True)]
        symbolic = [[*s[:p], N if dynamic else 1, *s[p:]] for s, p in zip((new, old), places, strict=True)]
        coordinate = [Axis(e) for e in symbolic[0]]
        points = np.indices(known[0]).reshape(len(known[0]), -1)
        numbers: dict[Expr, np.ndarray] = {N: np.array(n), **dict(zip(coordinate, points, strict=True))}
        expected = np.unravel_index(np.arange(size * n), known[1])
        for e, wanted in zip(ix.reshape_index(coordinate, *symbolic), expected, strict=True):
            assert np.array_equal(np.broadcast_to(ix.evaluate(e, numbers), wanted.shape), wanted), (symbolic, str(e))


def windows(x: Axis, tap: Axis, n: Index, size: int, step: int, gap: int) -> Index:
    """Return where in a row of n a window reads: repeat the row, cut it at n + gap, and take every step-th."""
    copies = size * (1 + gap)
    flat = ix.ravel((tap, x * step), (size, n + gap))
    return ix.unravel(flat, (copies, n))[1]


@pytest.mark.parametrize(("size", "step", "gap"), [(3, 1, 1), (3, 2, 1), (3, 1, 2), (5, 3, 2), (7, 2, 1)])
@pytest.mark.parametrize("n", [40, Variable("n", 16, 512)], ids=str)
def test_windows_by_repetition_read_straight(n: Index, size: int, step: int, gap: int) -> None:
    x, tap = Axis((n - gap * (size - 1) - 1) // step + 1), Axis(size)
    assert windows(x, tap, n, size, step, gap) is x * step + tap * gap


def test_a_split_axis_still_reads_straight() -> None:
    outer, inner, tap = axes(5, 8, 3)
    x = Axis(40)
    position = ix.unravel(ix.ravel((tap, x), (3, 43)), (4, 42))[1]
    assert ix.substitute(position, {x: outer * 8 + inner}) is outer * 8 + inner + tap


def test_a_dimension_that_stays_passes_through() -> None:
    a, b, c = axes(N, 4, 5)
    first, second, rest = ix.reshape_index((a, 0, b, c), (N, 1, 4, 5), (1, N, 20))
    assert first == 0
    assert second is a
    assert rest is b * 5 + c


def test_a_window_of_a_row_reads_the_row_in_steps() -> None:
    row, tap = axes(30, 3)  # im2col by repeating: (row, tap) of shape (30, 32 + 1) laid out flat, cut back to width 32
    flat = ix.ravel((row, tap), (32, 33))
    outer, inner = ix.unravel(flat, (33, 32))
    assert outer is row
    assert inner is row + tap


def test_an_empty_shape_has_no_division_by_zero() -> None:
    a = Axis(0)
    assert ix.reshape_index((a, 0), (0, 4), (2, 0)) == (0, 0)


def test_shapes_that_differ_in_size_are_refused() -> None:
    a, b = axes(3, 4)
    with pytest.raises(ShapeError, match="number of elements"):
        ix.reshape_index((a, b), (3, 4), (5,))


# --- the rest -----------------------------------------------------------------------------------------------------


def test_a_divisor_that_cannot_be_positive_is_refused() -> None:
    a = Axis(4)
    for divide in DIVISIONS:
        with pytest.raises(UsageError, match="positive"):
            divide(a, 0)
        with pytest.raises(UsageError, match="positive"):
            divide(a, -3)


def test_an_expression_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        Axis(4).low = 3


def test_leaves_are_what_an_expression_is_made_of() -> None:
    a, b = axes(4, 5)
    assert ix.leaves((a * 7 + b) // 3) == {a, b}
    assert ix.leaves(3) == frozenset()


def test_a_sum_tells_its_coefficients() -> None:
    a, b = axes(4, 5)
    assert ix.linear(a * 3 - b + 7) == ({a: 3, b: -1}, 7)


def test_an_expression_reads_as_it_is_written() -> None:
    a, b = Axis(40, "a"), Axis(50, "b")
    assert str((a * 4 + b) // 3) == "a + (a + b) // 3"
    assert str((a * 2 + b) // 3 % 5) == "((a*2 + b) // 3) % 5"
    assert str(ix.minimum(a - b, 3)) == "min(a - b, 3)"
    assert str(-a) == "-a"
    assert str(a * b * 2) == "(a*b)*2"


def test_a_long_chain_needs_no_recursion() -> None:
    x: Index = Axis(1 << 60)
    start = x
    for _ in range(3000):
        x = ix.minimum(x // 3 * 5 + 7, Value("limit", 0, 1 << 40))
    assert isinstance(x, Expr)
    assert isinstance(ix.evaluate(x, dict.fromkeys(x.leaves, 1)), int)
    assert isinstance(ix.substitute(x, {start: 5}), Expr)


def test_what_is_not_used_any_more_is_forgotten() -> None:
    from portkit.compiler import expression

    a = Axis(1000)
    before = len(expression._interned)
    made = [(a * k) // 7 for k in range(8, 200)]
    assert len(expression._interned) > before
    del made
    assert len(expression._interned) == before
