"""Random tensors: threefry-2x32 of the element's number, so that element n is the same on every backend.

A generator has a key, made of its seed, and counts its draws; both are tensors, so that a captured function draws
other numbers each time that it is replayed. The words, and so `rand`, `randint`, `bernoulli` and `permutation`, agree
bit for bit everywhere; `randn` agrees within the accuracy of the logarithm and cosine. No number depends on the shape:
`rand(6)` and `rand(2, 3)` of equal generators hold the same six.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from portkit.compiler import graph
from portkit.compiler.graph import Node, Shape, Size, map_, show
from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.spec.types import F32, F64, I32, U32, DType
from portkit.tensor import pending, threefry
from portkit.tensor.base import device_name
from portkit.tensor.movement import sizes
from portkit.tensor.promotion import DTypeLike, as_dtype, wide
from portkit.tensor.tensor import Tensor

WORDS = 1 << 32
MAX_ELEMENTS = (1 << 31) - 1
"""Element numbers are i32 where they are made."""


class Generator:
    """A stream of random tensors that depends on its seed and on what was drawn from it before, and nothing else."""

    def __init__(self, seed: int = 0, device: str | None = None) -> None:
        """Start the stream of a seed, 0 .. 2^64-1. Raises `UsageError` for another."""
        self.device = device_name(device)
        self._key = Tensor([0, 0], "u32", self.device)
        self._draws = Tensor(0, "u32", self.device)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the stream of another seed. Raises `UsageError`."""
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < WORDS * WORDS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"seed: a seed is an integer from 0 to 2^64-1, got {seed!r}")
        seed = int(seed)
        # Assigned to, so that what is captured draws from the new stream too.
        self._key.assign(Tensor([seed % WORDS, seed // WORDS], "u32", self.device))
        self._draws.assign(Tensor(0, "u32", self.device))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the key and the number of draws, with which `load_state_dict` continues the stream."""
        return {"key": Tensor(self._key), "draws": Tensor(self._draws)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue the stream of a state. Raises `UsageError` where it is none."""
        if set(state) != {"key", "draws"}:
            raise UsageError(f"the state of a generator has 'key' and 'draws', got {sorted(state)}")
        self._key.assign(state["key"])
        self._draws.assign(state["draws"])

    def words(self, shape: Shape) -> tuple[Node, Node]:
        """Return two random u32 words for each element of a shape, and count a draw. Raises `ShapeError`."""
        if any(isinstance(n, int) and n < 0 for n in shape):
            raise ShapeError(f"random: shape {show(shape)} has a negative extent")
        count = graph.count(shape)
        if isinstance(count, int) and count > MAX_ELEMENTS:
            raise ShapeError(f"random: shape {show(shape)} has {count} elements, at most {MAX_ELEMENTS} are numbered")
        draw = self._draws.node
        self._draws.assign(Tensor.of(_next(draw), self.device))
        pending.note(self._draws)
        return threefry.words(self._key.node, draw, shape)


def _next(draws: Node) -> Node:
    """Return the count plus one, in which what was added before is added up: `(n + 2) + 1` is `n + 3`."""
    known = draws.op == "map" and draws.inputs[1].op == "const"
    start, more = (draws.inputs[0], draws.inputs[1].attr + 1) if known else (draws, 1)
    return map_("add", start, graph.const(U32, more % WORDS))


_default: Generator | None = None


def default_generator() -> Generator:
    """Return the generator that functions use where none is given; its seed is 0 until `seed` is called."""
    global _default
    if _default is None:
        _default = Generator()
    return _default


def seed(seed: int) -> None:
    """Start the stream of a seed in the default generator. Raises `UsageError`."""
    default_generator().seed(seed)


# --- drawing ------------------------------------------------------------------------------------------------------


def bits(*shape: Size | Sequence[Size], generator: Generator | None = None) -> Tensor:
    """Return random u32 words. Raises `ShapeError`."""
    source = generator or default_generator()
    return Tensor.of(source.words(tuple(sizes(shape)))[0], source.device)


def rand(*shape: Size | Sequence[Size], dtype: DTypeLike = F32, generator: Generator | None = None) -> Tensor:
    """Return multiples of 2^-p from 0 to below 1, p being the precision of the float dtype, each as likely.

    Raises `ShapeError`, `DTypeError`.
    """
    source = generator or default_generator()
    target = _float("rand", dtype)
    return Tensor.of(threefry.fractions(source.words(tuple(sizes(shape))), target), source.device)


def uniform(
    *shape: Size | Sequence[Size],
    low: float = 0.0,
    high: float = 1.0,
    dtype: DTypeLike = F32,
    generator: Generator | None = None,
) -> Tensor:
    """Return low + (high - low) * `rand`, computed in the dtype. Raises as `rand`."""
    return rand(*shape, dtype=dtype, generator=generator) * (high - low) + low


def randn(*shape: Size | Sequence[Size], dtype: DTypeLike = F32, generator: Generator | None = None) -> Tensor:
    """Return numbers of the standard normal distribution, at most 6.8 (f64: 8.6) from 0.

    f16 and bf16 are computed in f32 and rounded. Raises `ShapeError`, `DTypeError`.
    Source: G. Box, M. Muller, "A Note on the Generation of Random Normal Deviates", 1958, one of its two numbers.
    """
    source = generator or default_generator()
    target = _float("randn", dtype)
    shape = tuple(sizes(shape))
    if target is F64:
        radius = 1.0 - rand(shape, dtype=F64, generator=source)
        turn = rand(shape, dtype=F64, generator=source)
    else:
        first, second = (Tensor.of(word, source.device) for word in source.words(shape))
        radius = (first.cast(F32) + 0.5) * 2.0**-32
        turn = (second >> (32 - F32.precision)).cast(F32) * 2.0**-F32.precision
    found = (radius.log() * -2.0).sqrt() * (turn * (2.0 * math.pi)).cos()
    assert found.dtype is wide(target)
    return found.cast(target)


def normal(
    *shape: Size | Sequence[Size],
    mean: float = 0.0,
    std: float = 1.0,
    dtype: DTypeLike = F32,
    generator: Generator | None = None,
) -> Tensor:
    """Return mean + std * `randn`, computed in the dtype. Raises as `randn`, and `UsageError` for a negative std."""
    if isinstance(std, (int, float)) and not std >= 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"normal: std is a number of 0 or more, got {std}; give its size without the sign")
    return randn(*shape, dtype=dtype, generator=generator) * std + mean


def randint(
    low: int,
    high: int,
    shape: Size | Sequence[Size],
    dtype: DTypeLike = I32,
    generator: Generator | None = None,
) -> Tensor:
    """Return integers from low to below high, their likelihoods within 2^-32 of each other.

    Raises `UsageError` for an empty range or one beyond 2^32, `DTypeError` where it does not fit the dtype.
    """
    source = generator or default_generator()
    target = as_dtype(dtype)
    if not 0 < high - low <= WORDS:
        raise UsageError(f"randint from {low} to below {high}: the range has {high - low} integers, not 1 to 2^32")
    if not target.is_int or low < target.min_int or high - 1 > target.max_int:
        raise DTypeError(f"randint from {low} to below {high} does not fit {target}")
    word = source.words(tuple(sizes((shape,))))[0]
    return Tensor.of(threefry.below(word, high - low), source.device).cast(target) + low  # both wrap


def permutation(count: int, generator: Generator | None = None) -> Tensor:
    """Return 0 .. count-1 in random order, as i32: the order of random words, equal ones as they come.

    Raises `ShapeError`.
    """
    return bits(count, generator=generator).argsort()


def bernoulli(
    probability: float, shape: Size | Sequence[Size], dtype: DTypeLike = "bool", generator: Generator | None = None
) -> Tensor:
    """Return 1 with a probability, rounded to a multiple of 2^-24, else 0. Raises `UsageError`, `ShapeError`."""
    if not 0 <= probability <= 1:
        raise UsageError(f"bernoulli: a probability is from 0 to 1, got {probability}")
    return (rand(shape, generator=generator) < probability).cast(dtype)


def _float(name: str, dtype: DTypeLike) -> DType:
    target = as_dtype(dtype)
    if not target.is_float or target.bits == 8:
        raise DTypeError(f"{name} gives f16, bf16, f32 or f64, not {target}; cast the result")
    return target
