"""Every pure form on every dtype and lane count, bit for bit against the reference."""

from __future__ import annotations

import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.cpu.device import CpuDevice
from portkit.reference.values import run
from portkit.spec.forms import FORMS, Form, Role
from portkit.spec.types import BOOL, I32, DType, Type
from tests.backends.launching import LANES, assert_same, execute, operands, padded, pointwise

CAPABILITIES = BACKEND.capabilities
CORRECTLY_ROUNDED = ("mov.recip", "mov.sqrt", "mov.trunc")
SPECIAL_SHAPES = ("mov.const", "mov.cast", "mov.bits", "mov.splat", "mov.lane", "mov.pack", "phi.carry")
LANE_COUNTS = CAPABILITIES.lane_counts()


def lane_by_lane(form: Form) -> bool:
    exact = form.extension != "math" or form.name in CORRECTLY_ROUNDED
    return form.effect == "pure" and not form.specified_only and exact and form.name not in SPECIAL_SHAPES


CASES = [
    (form, dtype, lanes)
    for form in FORMS.values()
    if lane_by_lane(form)
    for dtype in form.dtypes("T")
    if CAPABILITIES.admits(form, dtype)
    for lanes in LANE_COUNTS
    if lanes > 1 or not form.vector
]


def operand_count(form: Form) -> int:
    variadic = any(o.role is Role.REGISTERS for o in form.operands)
    return 3 if variadic else sum(o.role is Role.REGISTER for o in form.operands)


@pytest.mark.parametrize(("form", "dtype", "lanes"), CASES, ids=lambda x: getattr(x, "name", str(x)))
def test_a_pure_form_gives_the_bits_of_the_reference(device: CpuDevice, form: Form, dtype: DType, lanes: int) -> None:
    count = operand_count(form)
    stored = I32 if dtype == BOOL else dtype
    arrays = padded(operands(stored, count, seed=form.name), LANES * lanes)
    kernel = pointwise(form.name, [str(Type(dtype, lanes))] * count, len(arrays[0]))
    inputs = {f"a{i}": array for i, array in enumerate(arrays)}
    assert_same(execute(device, kernel, inputs)["out"], run(kernel, {}, inputs)["out"], *arrays)
