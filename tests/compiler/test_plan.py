"""Plans keep apart what lives together, never beat the peak, and come close to it on traces like those of networks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.compiler.index import Variable
from portkit.compiler.plan import Colours, Lifetime, Plan, colours, lifetimes, peak, place, plan, size_of
from portkit.compiler.program import Launch, Program, Slot
from portkit.compiler.storage import Storage
from portkit.contract import ALIGNMENT
from portkit.spec.builder import Builder
from portkit.spec.types import F32

KIB = 1024
CLOSE = 1.1
"""How much larger than the peak the arena of a realistic trace may be."""


@st.composite
def traces(draw: st.DrawFn, most: int = 40) -> list[Lifetime]:
    count = draw(st.integers(0, most))
    spans = [draw(st.tuples(st.integers(0, 30), st.integers(0, 30))) for _ in range(count)]
    sizes = [draw(st.integers(0, 20)) * ALIGNMENT for _ in range(count)]
    return [Lifetime(slot, min(spans[slot]), max(spans[slot]), sizes[slot]) for slot in range(count)]


def clash(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


def assert_sound(alive: Sequence[Lifetime], made: Plan) -> None:
    assert made.peak_live_bytes == peak(alive)
    assert made.arena_bytes >= made.peak_live_bytes
    for life in alive:
        assert made.offsets[life.slot] % ALIGNMENT == 0
        assert 0 <= made.offsets[life.slot] <= made.arena_bytes - life.size
    for a, b in itertools.combinations(alive, 2):
        if clash(a, b) and a.size and b.size:
            start, other = made.offsets[a.slot], made.offsets[b.slot]
            assert start + a.size <= other or other + b.size <= start, (a, b)


@given(traces())
def test_no_two_slots_that_live_together_overlap_and_no_plan_beats_the_peak(alive: list[Lifetime]) -> None:
    assert_sound(alive, place(alive))


@given(traces())
def test_no_two_slots_that_live_together_share_a_colour(alive: list[Lifetime]) -> None:
    made: Colours = colours(alive)
    assert all(made.sizes[made.of[life.slot]] >= life.size for life in alive)
    assert not any(clash(a, b) and made.of[a.slot] == made.of[b.slot] for a, b in itertools.combinations(alive, 2))


def smallest(alive: Sequence[Lifetime]) -> int:
    """The least arena there is: some order of placing each at the lowest free place gives it."""

    def lowest(life: Lifetime, placed: list[tuple[Lifetime, int]]) -> int:
        beside = sorted((at, at + other.size) for other, at in placed if clash(life, other))
        start = 0
        for low, high in beside:
            if start + life.size <= low:
                break
            start = max(start, high)
        return start

    best = sum(life.size for life in alive)
    for order in itertools.permutations(alive):
        placed: list[tuple[Lifetime, int]] = []
        for life in order:
            placed.append((life, lowest(life, placed)))
        best = min(best, max((at + life.size for life, at in placed), default=0))
    return best


@settings(max_examples=60)
@given(traces(most=5))
def test_a_tiny_plan_is_hardly_larger_than_the_smallest_there_is(alive: list[Lifetime]) -> None:
    least = smallest(alive)
    assert least <= place(alive).arena_bytes <= 1.5 * least


def test_a_trace_that_best_fit_wastes_is_placed_without_waste() -> None:
    """Forwards, best fit puts the lasting small one in the middle; the optimum is the peak."""
    alive = [
        Lifetime(0, 0, 1, 4 * KIB),
        Lifetime(1, 1, 9, KIB),
        Lifetime(2, 2, 3, 5 * KIB),
        Lifetime(3, 4, 9, 5 * KIB),
    ]
    assert place(alive).arena_bytes == smallest(alive) == peak(alive)


class Tape:
    """Records slots as launches make and read them."""

    def __init__(self) -> None:
        self.lives: list[list[int]] = []
        self.now = 0

    def launch(self, read: Sequence[int], *sizes: int) -> list[int]:
        """Read slots and make new ones of `sizes` bytes; returns their numbers."""
        self.now += 1
        for slot in read:
            self.lives[slot][2] = self.now
        self.lives += [
            [len(self.lives) + n, self.now, self.now, -(-size // ALIGNMENT) * ALIGNMENT] for n, size in enumerate(sizes)
        ]
        return [life[0] for life in self.lives[len(self.lives) - len(sizes) :]]


def residual_network(batch: int, blocks: Sequence[int]) -> list[Lifetime]:
    """Training on 224 x 224: activations and statistics kept for the way back, both gradients, partial sums."""
    tape, channels, extent = Tape(), 64, 56
    (x,) = tape.launch([], 4 * batch * 64 * 112 * 112)
    kept: list[tuple[list[int], int, int]] = [([x], 4 * batch * 64 * 112 * 112, 4 * 3 * 64 * 49)]
    (x,) = tape.launch([x], 4 * batch * channels * extent * extent)
    for stage, count in enumerate(blocks):
        for block in range(count):
            before, shortcut = channels, x
            if stage and not block:
                channels, extent = channels * 2, extent // 2
            size = 4 * batch * channels * extent * extent
            for last in (False, True):
                (y,) = tape.launch([x], size)
                statistics = tape.launch([y], 4 * channels, 4 * channels)
                (z,) = tape.launch([y, *statistics, *([shortcut] if last else [])], size)
                kept.append(([x, y, *statistics, z], size, 4 * 9 * before * channels))
                x, before = z, channels
    gradient = tape.launch([x], 4 * batch * 1000)
    for needed, size, weights in reversed(kept):
        partial = tape.launch([*needed, *gradient], weights, weights // 4)
        gradient = tape.launch([*needed, *gradient, *partial], size)
    return [Lifetime(*life) for life in tape.lives]


@pytest.mark.parametrize("batch", [1, 8, 32])
@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (3, 4, 6, 3)], ids=["18", "34"])
def test_a_residual_network_forward_and_backward_takes_hardly_more_than_its_peak(
    batch: int, blocks: Sequence[int]
) -> None:
    alive = residual_network(batch, blocks)
    made = place(alive)
    assert_sound(alive, made)
    assert made.arena_bytes <= CLOSE * made.peak_live_bytes


def transformer(layers: int, tokens: int = 128, width: int = 256) -> list[Lifetime]:
    """Forward and backward of attention and two linear layers each, everything kept for the way back."""
    row = 4 * tokens * width
    sizes = [row, 3 * row, row, row, 4 * row, row]
    forward = [Lifetime(n, n, 2 * layers * len(sizes) - n, sizes[n % len(sizes)]) for n in range(layers * len(sizes))]
    start, end = len(forward), 2 * len(forward)
    backward = [Lifetime(n, n, n + 2, sizes[(end - n) % len(sizes)]) for n in range(start, end)]
    return forward + backward


@pytest.mark.parametrize("layers", [1, 12])
def test_a_transformer_forward_and_backward_takes_hardly_more_than_its_peak(layers: int) -> None:
    alive = transformer(layers)
    made = place(alive)
    assert_sound(alive, made)
    assert made.arena_bytes <= CLOSE * made.peak_live_bytes


def test_ten_thousand_temporaries_are_planned_in_a_second() -> None:
    alive = transformer(840)
    assert len(alive) > 10_000
    start = time.perf_counter()
    made = place(alive)
    assert time.perf_counter() - start < 1.0
    assert made.arena_bytes <= CLOSE * made.peak_live_bytes


# --- programs -----------------------------------------------------------------------------------------------------


def program(*launches: tuple[int, ...], roles: str, sizes: Sequence[int | Variable]) -> Program:
    """Launches over slots whose roles are letters: i, o and t."""
    b = Builder("nothing")
    b.grid(1)
    b.lane(1)
    names = {"i": "input", "o": "output", "t": "temporary"}
    slots = tuple(Slot(size, names[r], F32, (), Storage(F32)) for r, size in zip(roles, sizes, strict=True))  # type: ignore[arg-type]
    inputs, outputs = ([n for n, r in enumerate(roles) if r == letter] for letter in "io")
    return Program(tuple(Launch(b.build(), (), slots) for slots in launches), slots, tuple(inputs), tuple(outputs))


def test_only_temporaries_that_are_used_are_placed() -> None:
    made = program((0, 2), (2, 1), roles="iott", sizes=[64, 64, 100, 64])
    assert lifetimes(made) == [Lifetime(2, 0, 1, 128)]
    assert plan(made) == Plan({2: 0}, 128, 128)


def test_a_program_without_temporaries_needs_no_arena() -> None:
    assert plan(program((0, 1), roles="io", sizes=[64, 64])) == Plan({}, 0, 0)


def test_sizes_of_dynamic_dimensions_are_those_of_the_run() -> None:
    n = Variable("n", 1, 100)
    made = program((0, 2), (2, 1), roles="iot", sizes=[64, 64, n])
    assert plan(made, {n: 65}).arena_bytes == 128
    assert size_of(n, {n: 7}) == 7
    with pytest.raises(KeyError):
        plan(made)
