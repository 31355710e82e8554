"""The largest kernels, shaped to hurt: whatever is not near-linear here runs into the time limit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from portkit.errors import VerifyError
from portkit.spec.jsonform import from_json, to_json
from portkit.spec.kernel import Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.text import parse
from portkit.spec.uniform import uniform_registers
from portkit.spec.uses import uses
from portkit.spec.verify import verify
from tests.spec.kernels import COPIES, DOT, edited

N = 20_000


def chain() -> str:
    return edited(DOT, ("barrier", "".join(f"q{i} = add acc zero\n" for i in range(3 * N))))


def many_loops() -> str:
    return edited(DOT, ("barrier", "".join(f"q{i} = loop.serial 1\nendloop q{i}\n" for i in range(N))))


def many_carries() -> str:
    carries = "".join(f"c{i} = phi.carry zero\n" for i in range(N))
    rotated = " ".join(f"c{i}=c{(i + 1) % N}" for i in range(N))
    return edited(DOT, ("barrier", f"q = loop.serial n\n{carries}endloop q {rotated}\n"))


def differing_carries() -> str:
    """One carry of a long ring differs between lanes; it spreads one step per round of a naive fixpoint."""
    ring = many_carries()
    return edited(ring, (f"c{N - 1}=c0", f"c{N - 1}=zl"), ("q = loop", "zl = mov.cast f32 l\nq = loop"))


def many_copies_around_loops() -> str:
    issues = "".join(f"a{i} = load.async tile z <- x z 1\n" for i in range(N // 2))
    loops = "".join(f"q{i} = loop.serial 1\nendloop q{i}\n" for i in range(N // 2))
    waits = "".join(f"wait.token a{i}\n" for i in range(N // 2))
    return edited(COPIES, ("t0 = load", f"{issues}{loops}{waits}t0 = load"))


def many_barriers() -> str:
    return edited(DOT, ("t = mul", "barrier\n" * 2 * N + "t = mul"))


def deep_loads() -> str:
    """Loads below sixty loops, whose counts come to differ from the inside out."""
    heads = "".join(f"z{i} = loop.serial {'l' if i == 0 else f'z{i - 1}'}\n" for i in range(50))
    ends = "".join(f"endloop z{i}\n" for i in reversed(range(50)))
    loads = "".join(f"r{i} = load x izero\n" for i in range(N))
    return edited(DOT, ("barrier", heads + loads + ends))


SHAPES: dict[str, Callable[[], str]] = {
    shape.__name__: shape
    for shape in (
        chain,
        many_loops,
        many_carries,
        differing_carries,
        many_copies_around_loops,
        many_barriers,
        deep_loads,
    )
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_large_kernel_is_read_verified_and_analysed(shape: Callable[[], str]) -> None:
    kernel = parse(shape())
    verify(kernel)
    assert uses(kernel).lanes == kernel.lanes
    assert uniform_registers(kernel)
    assert kernel.nest.body


@pytest.mark.timeout(60)
@pytest.mark.parametrize("shape", [chain, many_carries], ids=lambda shape: shape.__name__)
def test_a_large_kernel_is_printed(shape: Callable[[], str]) -> None:
    kernel = parse(shape())
    assert parse(format_kernel(kernel)) == kernel
    assert from_json(to_json(kernel)) == kernel


def test_a_difference_spreads_round_a_long_ring_of_carries() -> None:
    uniform = uniform_registers(parse(differing_carries()))
    assert not any(f"c{i}" in uniform for i in range(0, N, 1000))


@pytest.mark.timeout(60)
def test_a_barrier_below_many_loops_of_differing_counts_is_found() -> None:
    kernel: Kernel = parse(edited(deep_loads(), ("r0 = load x izero", "barrier\nr0 = load x izero")))
    with pytest.raises(VerifyError) as caught:
        verify(kernel)
    assert caught.value.clause == "barrier_c2"
