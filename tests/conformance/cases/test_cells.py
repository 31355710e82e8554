"""The coverage table: what is declared is listed, and what is listed is covered."""

from __future__ import annotations

import msgspec
import pytest

from portkit.conformance.case import Cell, Tier
from portkit.conformance.cases import cells, collect
from portkit.conformance.support import undeclared
from portkit.contract import Capabilities, NumericLimits
from portkit.spec.forms import FORMS
from tests.conformance.cases.host_device import BASE, MAXIMAL

TABLES = {"base": BASE, "maximal": MAXIMAL}


@pytest.mark.parametrize("capabilities", TABLES.values(), ids=TABLES.keys())
def test_every_cell_is_covered_by_a_case_up_to_standard(capabilities: Capabilities) -> None:
    covered = {cell for case in collect(capabilities) if case.tier is not Tier.FULL for cell in case.cells}
    assert [str(c) for c in cells(capabilities) if c not in covered] == []


@pytest.mark.parametrize("capabilities", TABLES.values(), ids=TABLES.keys())
def test_no_case_claims_a_cell_that_is_not_declared(capabilities: Capabilities) -> None:
    declared = set(cells(capabilities))
    assert [str(c) for case in collect(capabilities) for c in case.cells if c not in declared] == []


def test_cells_are_unique_and_every_form_in_use_has_one() -> None:
    found = cells(MAXIMAL)
    assert len(found) == len(set(found))
    assert {c.form for c in found} == {name for name, form in FORMS.items() if not form.specified_only}


def test_a_cast_has_a_cell_for_each_pair_of_dtypes() -> None:
    pairs = {(c.source, c.dtype) for c in cells(BASE) if c.form == "mov.cast"}
    numbers = ("i32", "u32", "f32")
    assert pairs == {(s, t) for s in numbers for t in numbers}


def test_a_bit_cast_keeps_the_total_size() -> None:
    found = {str(c) for c in cells(MAXIMAL) if c.form == "mov.bits"}
    assert {"mov.bits/i32<-f32", "mov.bits/i32<-u8x4", "mov.bits/f16x4<-i64"} <= found
    assert "mov.bits/u16<-f32" not in found


def test_scalar_memory_forms_have_one_lane_and_vector_forms_have_more() -> None:
    found = cells(MAXIMAL)
    assert {c.lanes for c in found if c.form in ("load", "store", "load.async", "mov.const")} == {1}
    assert min(c.lanes for c in found if c.form in ("load.vec", "store.scatter", "mov.pack")) == min(MAXIMAL.lanes)


def test_bool_has_the_cells_in_which_it_takes_part() -> None:
    forms = {c.form for c in cells(BASE) if c.dtype == "bool"}
    assert forms == {"mov.const", "phi.lt", "phi.eq", "phi.carry", "reduce.and", "reduce.or", "reduce.xor"}


def test_native_forms_are_listed_for_declared_dtypes_only() -> None:
    narrow = msgspec.structs.replace(BASE, extensions=("math",), math={"exp2": ("f32",)})
    assert [c for c in cells(narrow) if c.form in ("mov.exp2", "mov.sin")] == [Cell("mov.exp2", "f32")]


@pytest.mark.parametrize("capabilities", TABLES.values(), ids=TABLES.keys())
def test_no_case_uses_what_is_not_declared(capabilities: Capabilities) -> None:
    chosen = [c for c in collect(capabilities) if c.trial is not None and c.tier is not Tier.FULL]
    missing = {}
    for case in chosen[:: 1 if capabilities is BASE else 25]:
        assert case.trial is not None
        missing[case.id] = undeclared(case.trial().kernel, capabilities)
    assert {case_id: what for case_id, what in missing.items() if what} == {}


def test_a_device_without_infinities_gets_no_case_that_needs_them() -> None:
    finite = msgspec.structs.replace(MAXIMAL, numeric=NumericLimits(nonfinite=False))
    ids = [c.id for c in collect(finite)]
    assert ids
    assert [i for i in ids if i.endswith("/nonfinite")] == []


def test_a_device_without_strict_gets_no_strict_kernel() -> None:
    launches = [c.id for c in collect(BASE) if c.trial is not None]
    assert [i for i in launches if "strict" in i.rpartition("/")[2]] == []
