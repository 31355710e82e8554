"""Compiled graphs on devices: the fault of a device and that of the compiler are told apart, and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import portkit.tensor as t
from portkit.compiler.graph import map_
from portkit.conformance.card import render
from portkit.conformance.case import Case, Cell, GraphTrial, Level, Tier
from portkit.conformance.cases.tensor_fuzz import narrow, plain, random_graph, stored
from portkit.conformance.cases.tensorcase import Input, TensorCase, leaves_of, trial_of
from portkit.conformance.graphs import COMPILER
from portkit.conformance.journal import Entry
from portkit.conformance.judge import judge_case
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities
from portkit.runtime.client import DeviceClient
from tests.fakes.host import CPU

FAKES = "tests.fakes.host"
SOFTMAX = TensorCase("softmax/f32", t.softmax, (Input((4, 9)),), grad=True)


@pytest.fixture(scope="module")
def base() -> Iterator[DeviceClient]:
    with DeviceClient(f"{FAKES}:BASE_ONLY") as client:
        yield client


@pytest.fixture(scope="module")
def squares() -> Iterator[DeviceClient]:
    with DeviceClient(f"{FAKES}:SQUARES") as client:
        yield client


def judge(client: DeviceClient, trial: Callable[[Capabilities], GraphTrial]) -> Entry:
    cell = Cell("tensor.made", "f32")
    return judge_case(Case("tensors/made/f32", Level.TENSORS, Tier.SMOKE, (cell,), graph=trial), client)


def test_a_right_device_passes_and_every_element_of_the_result_counts(base: DeviceClient) -> None:
    found = [judge_case(case, base) for case in SOFTMAX.cases(base.capabilities)]
    assert [(e.verdict, e.elements, e.ill_conditioned) for e in found] == [(Verdict.PASS, 36, 0)] * 2
    assert [e.cells for e in found] == [("tensor.softmax/f32",), ("tensor.softmax.grad/f32",)]


def test_a_fault_of_the_device_is_found_at_the_launch_and_shown_with_its_loops(squares: DeviceClient) -> None:
    entry = judge_case(next(SOFTMAX.cases(squares.capabilities)), squares)
    assert entry.verdict is Verdict.FAIL
    assert entry.reason.startswith("the launch: b1[0] is wrong")
    assert entry.card is not None
    assert entry.card.suspect == "tensor.softmax/f32"
    assert "mul" in entry.card.kernel
    assert "max over j in 9 of:" in entry.card.detail
    assert "reduce add" in entry.card.detail
    line = f"portkit conform --backend {FAKES}:SQUARES --profile compute --case 'tensors/softmax/f32'"
    assert render(entry.card).endswith(f"replay    {line}")


def test_the_first_wrong_launch_of_several_is_named(squares: DeviceClient) -> None:
    def two_launches(capabilities: Capabilities) -> GraphTrial:
        x = leaves_of([Input((6,), holds="small")], "seed")[0]
        nodes = [map_("add", x, x), map_("mul", map_("add", x, x), x)]
        return trial_of(nodes, capabilities, stored(nodes))

    entry = judge(squares, two_launches)
    assert entry.verdict is Verdict.FAIL
    assert entry.reason.startswith(("launch 2 of 2:", "the launch:"))


def test_a_wrong_result_of_right_launches_accuses_the_compiler(base: DeviceClient) -> None:
    def miscompiled(capabilities: Capabilities) -> GraphTrial:
        x, y = leaves_of([Input((5,)), Input((5,))], "seed")
        meant, made = map_("add", x, y), map_("sub", x, y)
        return trial_of([meant], capabilities, [made])

    entry = judge(base, miscompiled)
    assert (entry.verdict, entry.wrong, entry.elements) == (Verdict.FAIL, 5, 5)
    assert entry.card is not None
    assert entry.card.suspect == COMPILER
    assert "though every launch was right" in entry.reason
    assert "loops of launch 1" in entry.card.detail


def test_a_result_that_is_off_by_one_unit_in_the_last_place_is_refused(base: DeviceClient) -> None:
    def off_by_one(capabilities: Capabilities) -> GraphTrial:
        x, y = leaves_of([Input((5,)), Input((5,))], "seed")
        one = map_("bits", map_("add", x, y), dtype=t.arange(1).dtype)
        return trial_of([one], capabilities, [map_("add", one, t.full((5,), 1, "i32").node)])

    assert judge(base, off_by_one).verdict is Verdict.FAIL


def test_a_program_for_more_than_the_device_declares_is_an_error_of_portkit(base: DeviceClient) -> None:
    def for_another(capabilities: Capabilities) -> GraphTrial:
        del capabilities
        (x,) = leaves_of([Input((64,))], "seed")
        return trial_of([map_("exp", x)], CPU.capabilities)

    entry = judge(base, for_another)
    assert entry.verdict is Verdict.ERROR
    assert "compiled for more than the device declares" in entry.reason


def test_a_result_without_elements_passes(base: DeviceClient) -> None:
    row = TensorCase("slice/f32", lambda x: x[:, 3:3], (Input((2, 5)),))
    entry = judge_case(next(row.cases(base.capabilities)), base)
    assert (entry.verdict, entry.elements) == (Verdict.PASS, 0)


def test_integers_and_random_words_have_the_same_digest_on_every_device(base: DeviceClient) -> None:
    row = TensorCase("bits/u32", lambda: t.random.bits(9, generator=t.random.Generator(5)), ())
    with DeviceClient("cpu") as cpu:
        found = [judge_case(next(row.cases(c.capabilities)), c) for c in (base, cpu)]
    assert len({e.digest for e in found} | {e.reference_digest for e in found}) == 1
    assert found[0].digest


def test_types_that_a_device_lacks_are_held_in_words_of_integers(base: DeviceClient) -> None:
    row = TensorCase("mul/i64", t.mul, (Input((9,), "i64", "any"), Input((9,), "i64", "any")))
    entry = judge_case(next(row.cases(base.capabilities)), base)
    assert (entry.verdict, entry.elements) == (Verdict.PASS, 9)


def test_a_type_that_a_device_cannot_hold_has_no_case(base: DeviceClient) -> None:
    assert list(TensorCase("mul/f64", t.mul, (Input((9,), "f64"),)).cases(base.capabilities)) == []


def test_a_random_graph_passes_in_every_way_to_compile_it() -> None:
    nodes = random_graph(3)
    with DeviceClient("cpu") as cpu:
        ways = {"narrow": narrow(cpu.capabilities), "plain": plain(cpu.capabilities), "fused": cpu.capabilities}
        found = {name: judge(cpu, lambda _, c=c: trial_of(nodes, c)).verdict for name, c in ways.items()}
        found["stored"] = judge(cpu, lambda c: trial_of(nodes, c, stored(nodes))).verdict
    assert set(found.values()) == {Verdict.PASS}


def test_storing_every_step_of_a_graph_makes_more_launches() -> None:
    from portkit.compiler.compile import compile_graph

    nodes = random_graph(3)
    few, many = (len(compile_graph(list(n), CPU.capabilities).program.launches) for n in (nodes, stored(nodes)))
    assert many > few


def test_the_contents_of_an_input_follow_from_the_case_alone() -> None:
    given = Input((3, 4), "f16", "any")
    assert np.array_equal(given.contents("a").view(np.uint16), given.contents("a").view(np.uint16))
    assert not np.array_equal(given.contents("a").view(np.uint16), given.contents("b").view(np.uint16))
