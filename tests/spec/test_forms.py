"""The tables of forms: closed, complete and consistent with themselves."""

from __future__ import annotations

import pytest

from portkit.errors import SpecError
from portkit.spec.forms import (
    ACCURACY,
    CLASSES,
    CLAUSES,
    EXTENSIONS,
    FORMS,
    OPCODES,
    Form,
    Op,
    Role,
    accuracy,
    counts,
    form,
)
from portkit.spec.types import BF16, DTYPES, F16, F32

ALL = pytest.mark.parametrize("found", FORMS.values(), ids=FORMS.keys())


def test_there_are_twelve_opcodes() -> None:
    expected = "add mul reduce mov load store fence barrier wait phi loop endloop"
    assert " ".join(op.value for op in Op) == expected == " ".join(OPCODES)


def test_the_counts_add_up_to_all_forms() -> None:
    opcodes, base, extension = counts()
    assert (opcodes, base + extension) == (12, len(FORMS))
    assert base == 27


@ALL
def test_a_form_is_named_after_its_op(found: Form) -> None:
    assert found.name.partition(".")[0] == found.op.value


@ALL
def test_a_form_cites_clauses_that_exist(found: Form) -> None:
    assert found.clauses
    assert set(found.clauses) <= CLAUSES.keys()


@ALL
def test_an_extension_form_belongs_to_a_named_extension(found: Form) -> None:
    assert not found.extension or found.extension in EXTENSIONS


@ALL
def test_every_type_variable_of_a_signature_has_dtypes(found: Form) -> None:
    fixed = {*DTYPES, "token", "MxI"}
    used = {o.pattern for o in found.operands if o.role in (Role.REGISTER, Role.REGISTERS)} - fixed
    assert used <= {variable for variable, _ in found.types}


@ALL
def test_the_effect_of_a_form_is_one_of_five(found: Form) -> None:
    assert found.effect in {"pure", "read", "write", "sync", "control"}


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_extension_has_a_form(extension: str) -> None:
    assert any(found.extension == extension for found in FORMS.values())


def test_the_classes_hold_dtypes_of_the_spec() -> None:
    assert {name for members in CLASSES.values() for name in members} <= {*DTYPES, "token"}


def test_the_accuracy_table_names_forms() -> None:
    assert ACCURACY.keys() <= FORMS.keys()


def test_an_exact_form_is_correctly_rounded() -> None:
    assert accuracy("add", F32) == accuracy("reduce.max", F32) == 0.5


def test_a_bound_may_depend_on_the_dtype() -> None:
    assert (accuracy("mov.exp2", F32), accuracy("mov.exp2", F16), accuracy("mov.exp2", BF16)) == (3.0, 2.0, 3.0)


def test_an_unknown_form_is_refused_with_near_names() -> None:
    with pytest.raises(SpecError, match=r"unknown form 'mul.shk'; did you mean mul.shr, mul.shl") as caught:
        form("mul.shk")
    assert caught.value.clause == "form_c1"
