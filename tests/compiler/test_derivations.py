"""The strict derivations: valid kernels in base forms, the same that the compiler writes, and expanded alike."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.compiler.decompose import BASE, emit
from portkit.compiler.derivations import ROWS, derivation_text
from portkit.errors import UsageError
from portkit.reference.values import run
from portkit.spec.builder import Builder
from portkit.spec.derivations import derivation, inline, names, text
from portkit.spec.kernel import Kernel
from portkit.spec.text import parse
from portkit.spec.types import BF16, F16, F32, DType
from portkit.spec.verify import verify
from tests.compiler.deriving import binades, padded, same_bits, special_values, spread

_LANES = 64


def test_every_derivation_of_the_compiler_has_a_file_and_every_file_a_derivation() -> None:
    assert set(names()) == set(ROWS)


@pytest.mark.parametrize("name", names())
def test_a_derivation_is_a_valid_strict_kernel_in_base_forms(name: str) -> None:
    kernel = parse(text(name))
    verify(kernel)
    assert kernel.strict
    assert kernel.name == name
    assert [i.name for i in kernel.body if not i.form.is_base] == []
    assert {t.lanes for t in kernel.types.values()} == {1}
    assert {t.dtype.base for t in kernel.types.values()} == {True}


@pytest.mark.parametrize("name", names())
def test_a_file_is_what_the_compiler_writes(name: str) -> None:
    assert text(name) == derivation_text(name), "run python -m portkit.compiler.derivations, and say why it changed"


@pytest.mark.parametrize("name", names())
def test_the_body_of_a_derivation_is_pure_and_needs_its_operands_only(name: str) -> None:
    found = derivation(name)
    defined = set(found.operands)
    for instr in found.body:
        assert instr.form.effect == "pure"
        assert set(instr.reads) <= defined
        defined.add(instr.result)
    assert found.result in defined


def _inlined(name: str, count: int, lanes: int) -> Kernel:
    b = Builder("inlined", "strict")
    source, target = b.buffer("x", "f32", count, "read"), b.buffer("out", "f32", count, "write")
    group, lane = b.grid(count // (_LANES * lanes)), b.lane(_LANES)
    item = b.mul(b.add(b.mul(group, b.const("i32", _LANES)), lane), b.const("i32", lanes))
    x = b.load(source, item) if lanes == 1 else b.load_vec(source, item, lanes)
    result = inline(b, name, [x])
    if lanes == 1:
        b.store(target, item, result)
    else:
        b.store_vec(target, item, result)
    kernel = b.build()
    verify(kernel)
    return kernel


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("name", ["exp", "sin", "sqrt", "round"])
def test_an_inlined_derivation_gives_the_bits_of_its_kernel(name: str, lanes: int) -> None:
    x = padded(special_values(F32), spread(F32, 1024, name), binades(F32, 4, name))
    alone = parse(text(f"{name}_f32"))
    expected = run(alone, {"groups": len(x) // _LANES}, {"x": x})["out"]
    assert same_bits(run(_inlined(f"{name}_f32", len(x), lanes), {}, {"x": x})["out"], expected).all()


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_a_narrow_float_is_widened_exactly_and_narrowed_back(dtype: DType) -> None:
    bits = np.arange(1 << 16, dtype=np.uint32)
    scalars = {"groups": len(bits) // _LANES}
    wide = run(parse(text(f"{dtype}_to_f32")), scalars, {"x": bits})["out"]
    values = bits.astype(np.uint16).view(dtype.numpy)
    assert same_bits(wide, values.astype(np.float32)).all()
    back = run(parse(text(f"f32_to_{dtype}")), scalars, {"x": wide})["out"]
    assert same_bits(back.astype(np.uint16).view(dtype.numpy), values).all()


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_narrowing_rounds_to_nearest_even(dtype: DType) -> None:
    x = padded(special_values(F32), binades(F32, 32, "narrow"), spread(F32, 4096, "narrow"))
    found = run(parse(text(f"f32_to_{dtype}")), {"groups": len(x) // _LANES}, {"x": x})["out"]
    with np.errstate(all="ignore"):
        expected = x.astype(dtype.numpy)
    assert same_bits(found.astype(np.uint16).view(dtype.numpy), expected).all()


def test_an_unknown_derivation_is_named_with_a_near_one() -> None:
    with pytest.raises(UsageError, match="exp_f32"):
        text("exp_f23")


def test_operands_of_another_dtype_are_refused() -> None:
    b = Builder("refused")
    b.grid(1)
    with pytest.raises(UsageError, match="exp_f32 takes f32, got i32"):
        inline(b, "exp_f32", [b.lane(1)])


def test_what_emit_writes_without_features_is_the_derivation() -> None:
    b = Builder("emitted", "strict")
    source, target = b.buffer("x", "f32", _LANES, "read"), b.buffer("out", "f32", _LANES, "write")
    b.grid(1)
    lane = b.lane(_LANES)
    b.store(target, lane, emit(b, "exp", [b.load(source, lane)], F32, BASE))
    emitted = [i.name for i in b.build().body if i.form.effect == "pure"]
    assert emitted == [i.name for i in derivation("exp_f32").body]
