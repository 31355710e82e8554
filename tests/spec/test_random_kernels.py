"""Properties of random kernels: both forms round-trip, the verifier agrees, the analyses match their definitions."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from portkit.spec.forms import FORMS
from portkit.spec.jsonform import from_json, to_json
from portkit.spec.kernel import Buffer, Instr, Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.text import parse
from portkit.spec.uniform import uniform_registers
from portkit.spec.uses import uses
from portkit.spec.verify import verify
from tests.spec.random_kernels import random_kernel

randoms = st.randoms(use_true_random=False)
few = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@few
@given(randoms)
def test_a_kernel_that_was_built_verifies(rng: Random) -> None:
    verify(random_kernel(rng))


@few
@given(randoms)
def test_the_text_form_round_trips(rng: Random) -> None:
    kernel = random_kernel(rng)
    text = format_kernel(kernel)
    assert parse(text) == kernel
    assert format_kernel(parse(text)) == text


@few
@given(randoms)
def test_the_json_form_round_trips(rng: Random) -> None:
    kernel = random_kernel(rng)
    assert from_json(to_json(kernel)) == kernel


@few
@given(randoms)
def test_uniform_registers_are_those_of_the_definition(rng: Random) -> None:
    kernel = random_kernel(rng)
    assert uniform_registers(kernel) == uniform_by_definition(kernel)


def test_random_kernels_reach_every_form_in_use() -> None:
    seen = {instr.name for seed in range(400) for instr in random_kernel(Random(seed)).body}
    assert seen == {name for name, form in FORMS.items() if not form.specified_only}


def test_what_a_kernel_uses_covers_its_body() -> None:
    for seed in range(50):
        kernel = random_kernel(Random(seed))
        needs = uses(kernel)
        assert {use.form for use in needs.forms} == {instr.name for instr in kernel.body}
        assert needs.dtypes >= {instr.type.dtype.name for instr in kernel.body if instr.type and instr.type.dtype.bits}


def uniform_by_definition(kernel: Kernel) -> frozenset[str]:
    """Spec: uniform_c1, read literally: assume that all is uniform, drop what contradicts a rule until nothing does."""
    uniform = set(kernel.types)
    while True:
        wrong = {name for name in _results(kernel, uniform) if name in uniform}
        if not wrong:
            return frozenset(uniform)
        uniform -= wrong


def _results(kernel: Kernel, uniform: set[str]) -> set[str]:
    """Every result that is not uniform if those of `uniform` are."""
    heads: list[Instr] = []
    owner: dict[str, Instr] = {}
    found: set[str] = set()
    for instr in kernel.body:
        counted = all(a in uniform for head in heads for a in head.args if head.name == "loop.serial")
        if instr.name == "endloop":
            heads.pop()
            found |= {c for c, value in instr.carries if value not in uniform or not set(owner[c].args) <= uniform}
            continue
        if instr.form.effect == "control":
            heads.append(instr)
        if instr.name == "phi.carry":
            owner[instr.result] = heads[-1]
        if instr.result and not _is_uniform(kernel, instr, uniform, counted):
            found.add(instr.result)
    return found


def _is_uniform(kernel: Kernel, instr: Instr, uniform: set[str], counted: bool) -> bool:
    if instr.form.extension == "group":
        return True
    if instr.name in ("loop.lane", "load.async"):
        return False
    if instr.form.effect == "read":
        memory = kernel.memories[instr.mems[0]]
        constant = isinstance(memory, Buffer) and memory.access == "read"
        return counted and constant and set(instr.reads) <= uniform
    return set(instr.reads) <= uniform
