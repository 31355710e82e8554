"""Random tensors: reproducible, independent of shape, and distributed as they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.spec.types import BF16, F16, F32, F64, DType
from portkit.tensor import pending, random
from portkit.tensor.random import Generator
from portkit.tensor.tensor import Tensor

COUNT = 20_000
SIGMAS = 5
"""A mean of n samples strays from its expectation by more than 5 / sqrt(n) deviations once in 1.7 million draws."""

DRAWS: dict[str, Callable[[tuple[int, ...], Generator], Tensor]] = {
    "rand": lambda shape, g: random.rand(*shape, generator=g),
    "randn": lambda shape, g: random.randn(*shape, generator=g),
    "randint": lambda shape, g: random.randint(-3, 12, shape, generator=g),
    "bits": lambda shape, g: random.bits(*shape, generator=g),
    "bernoulli": lambda shape, g: random.bernoulli(0.3, shape, generator=g),
}


def strays(sample: np.ndarray, mean: float, deviation: float) -> float:
    """Return by how many deviations of the mean a sample's mean misses its expectation."""
    return abs(float(sample.mean()) - mean) / (deviation / math.sqrt(sample.size))


@pytest.mark.parametrize("name", DRAWS)
def test_equal_seeds_draw_equal_numbers_whatever_the_shape(name: str) -> None:
    draw = DRAWS[name]
    flat, shaped = draw((12,), Generator(7)).numpy(), draw((3, 4), Generator(7)).numpy()
    np.testing.assert_array_equal(shaped.ravel(), flat)
    np.testing.assert_array_equal(draw((5,), Generator(7)).numpy(), flat[:5])


@pytest.mark.parametrize("name", DRAWS)
def test_draws_and_seeds_differ(name: str) -> None:
    generator = Generator(1)
    seen = {DRAWS[name]((64,), generator).numpy().tobytes() for _ in range(3)}
    seen |= {DRAWS[name]((64,), Generator(seed)).numpy().tobytes() for seed in (2, 1 << 40)}
    assert len(seen) == 5


def test_a_draw_does_not_depend_on_when_the_count_is_computed() -> None:
    early, late = Generator(3), Generator(3)
    first = [random.rand(4, generator=late).numpy() for _ in range(3)]
    for expected in first:
        np.testing.assert_array_equal(random.rand(4, generator=early).numpy(), expected)
        early.state_dict()["draws"].realize()
        for tensor in pending.take():
            tensor.realize()  # type: ignore[attr-defined]


def test_the_count_of_draws_stays_one_addition() -> None:
    generator = Generator(3)
    for _ in range(50):
        random.rand(4, generator=generator)
    (count,) = generator.state_dict()["draws"].node.inputs[:1]
    assert count.op == "source"
    assert generator.state_dict()["draws"].item() == 50


def test_a_state_continues_the_stream() -> None:
    generator, other = Generator(5), Generator(6)
    random.rand(3, generator=generator)
    other.load_state_dict(generator.state_dict())
    np.testing.assert_array_equal(random.rand(3, generator=other).numpy(), random.rand(3, generator=generator).numpy())
    with pytest.raises(UsageError, match="has 'key' and 'draws', got \\['x'\\]"):
        other.load_state_dict({"x": Tensor(0)})


def test_seeding_starts_the_default_stream_again() -> None:
    random.seed(11)
    first = random.rand(4).numpy()
    random.seed(11)
    np.testing.assert_array_equal(random.rand(4).numpy(), first)


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64])
def test_uniform_numbers_have_their_mean_and_variance(dtype: DType) -> None:
    found = random.rand(COUNT, dtype=dtype, generator=Generator(1)).numpy().astype(np.float64)
    assert 0 <= found.min() < found.max() < 1
    half_step = 2.0 ** -(dtype.precision + 1)
    assert strays(found + half_step, 1 / 2, math.sqrt(1 / 12)) < SIGMAS
    assert strays((found + half_step - 1 / 2) ** 2, 1 / 12, math.sqrt(1 / 180)) < SIGMAS


@pytest.mark.parametrize("dtype", [F16, BF16, F32, F64])
def test_normal_numbers_have_their_moments(dtype: DType) -> None:
    found = random.randn(COUNT, dtype=dtype, generator=Generator(2)).numpy().astype(np.float64)
    for power, mean, square in ((1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105)):
        assert strays(found**power, mean, math.sqrt(square - mean**2)) < SIGMAS


def test_scaled_distributions_have_the_range_and_moments_asked_for() -> None:
    found = random.uniform(COUNT, low=-2, high=4, generator=Generator(3)).numpy().astype(np.float64)
    assert -2 <= found.min() < found.max() <= 4
    assert strays(found, 1, 6 * math.sqrt(1 / 12)) < SIGMAS
    found = random.normal(COUNT, mean=3, std=0.5, generator=Generator(3)).numpy().astype(np.float64)
    assert strays(found, 3, 0.5) < SIGMAS


def test_integers_are_each_as_likely() -> None:
    found = random.randint(-3, 7, COUNT, generator=Generator(4)).numpy()
    counts = np.bincount(found + 3, minlength=10)
    assert len(counts) == 10
    share = COUNT / 10
    assert np.abs(counts - share).max() < SIGMAS * math.sqrt(share * 0.9)


@pytest.mark.parametrize(("dtype", "low", "high"), [("i8", -128, 128), ("u8", 0, 256), ("u32", 0, 1 << 32)])
def test_integers_span_the_whole_range_of_a_dtype(dtype: str, low: int, high: int) -> None:
    found = random.randint(low, high, COUNT, dtype=dtype, generator=Generator(5)).numpy().astype(np.int64)
    assert low <= found.min() < low + (high - low) // 100 + 1
    assert high - (high - low) // 100 - 2 < found.max() < high


def test_a_permutation_has_each_number_once_and_not_in_order() -> None:
    found = random.permutation(100, generator=Generator(6)).numpy()
    np.testing.assert_array_equal(np.sort(found), np.arange(100))
    assert (found != np.arange(100)).any()


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_coins_fall_with_their_probability(probability: float) -> None:
    found = random.bernoulli(probability, COUNT, generator=Generator(7)).numpy()
    deviation = math.sqrt(probability * (1 - probability)) or 1 / COUNT
    assert strays(found, probability, deviation) < SIGMAS


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UsageError, match="a seed is an integer from 0 to 2\\^64-1, got -1"):
        Generator(-1)
    with pytest.raises(DTypeError, match="not i32"):
        random.rand(3, dtype="i32")
    with pytest.raises(DTypeError, match="not f8e4m3fn"):
        random.randn(3, dtype="f8e4m3fn")
    with pytest.raises(ShapeError, match="negative extent"):
        random.rand(-3)
    with pytest.raises(ShapeError, match="at most 2147483647"):
        random.rand(1 << 31)
    with pytest.raises(UsageError, match="the range has 0 integers"):
        random.randint(3, 3, 2)
    with pytest.raises(DTypeError, match="does not fit i8"):
        random.randint(0, 129, 2, dtype="i8")
    with pytest.raises(UsageError, match=r"from 0 to 1, got 1\.5"):
        random.bernoulli(1.5, 3)
