"""The text of instructions in the C family: constants, casts, names."""

from __future__ import annotations

import math
import re
import struct

import pytest

from portkit.backends.toolkit.c_code import CCode
from portkit.backends.toolkit.c_kernel import GNU_C
from portkit.backends.toolkit.code import Value
from portkit.errors import CompileError


@pytest.fixture
def code() -> CCode:
    return CCode(GNU_C)


def x(element: str, lanes: int = 1) -> Value:
    return Value("x", element, lanes)


@pytest.mark.parametrize(
    ("element", "number", "text"),
    [
        ("i1", 1, "true"),
        ("i8", -1, "(u8)255"),
        ("i32", 7, "7u"),
        ("i32", -1, "0xffffffffu"),
        ("i64", -(1 << 63), "0x8000000000000000ull"),
        ("float", 1.5, "0x1.8p+0f"),
        ("float", -2.0, "-2.0f"),
        ("float", -0.0, "-0.0f"),
        ("float", 2.0**-149, "0x1p-149f"),
        ("float", 0.1, "0x1.99999ap-4f"),
        ("float", math.inf, "AS(f32, 0x7f800000u)"),
        ("double", 0.1, "0x1.999999999999ap-4"),
        ("double", -math.inf, "AS(f64, 0xfff0000000000000ull)"),
    ],
)
def test_a_constant_is_exact(code: CCode, element: str, number: float, text: str) -> None:
    assert code.literal(element, number).text == text


@pytest.mark.parametrize("seed", range(200))
def test_the_constant_of_any_float_reads_back_as_its_bits(code: CCode, seed: int) -> None:
    bits = seed * 2654435761 % 0x7F800000
    text = code.bits("float", bits).text.removesuffix("f")
    number = float.fromhex(text) if "x" in text else float(text)
    assert struct.pack("<f", number) == struct.pack("<I", bits)


def test_a_nan_keeps_its_payload(code: CCode) -> None:
    assert code.bits("float", 0x7FA00001).text == "AS(f32, 0x7fa00001u)"


@pytest.mark.parametrize(
    ("name", "element", "text"),
    [
        ("mul", "i16", "(u16)((u32)x * (u16)3)"),
        ("shl", "i8", "(u8)((u32)x << (u8)3)"),
        ("ashr", "i32", "(u32)((s32)x >> 3u)"),
        ("lshr", "i64", "x >> 3ull"),
        ("fdiv", "float", "x / 3.0f"),
    ],
)
def test_an_operation_reads_integers_with_the_sign_that_it_needs(
    code: CCode, name: str, element: str, text: str
) -> None:
    code.op(name, x(element), 3)
    assert code.lines == [f"    const {code.type(element)} v_1 = {text};"]


@pytest.mark.parametrize(
    ("name", "source", "target", "text"),
    [
        ("sext", "i8", "i32", "(u32)(s32)(s8)x"),
        ("zext", "i1", "i64", "(u64)x"),
        ("trunc", "i32", "i1", "(x & 1u) != 0u"),
        ("fptosi", "double", "i16", "(u16)(s16)x"),
        ("sitofp", "i64", "float", "(f32)(s64)x"),
        ("bitcast", "float", "i32", "AS(u32, x)"),
    ],
)
def test_a_conversion_goes_over_the_signed_type_where_it_has_a_sign(
    code: CCode, name: str, source: str, target: str, text: str
) -> None:
    code.convert(name, x(source), target)
    assert code.lines[0].endswith(f" = {text};")


def test_a_register_is_called_as_in_the_kernel_and_never_like_a_keyword(code: CCode) -> None:
    assert re.fullmatch(r"float_\d+", code.named(code.op("fadd", x("float"), 1.0), "float").text)


def test_a_register_that_is_another_under_a_second_name_is_not_renamed(code: CCode) -> None:
    first = code.named(code.op("fadd", x("float"), 1.0), "a")
    assert code.named(first, "b") == first


def test_a_function_that_the_dialect_lacks_is_refused_by_name(code: CCode) -> None:
    with pytest.raises(CompileError, match="no function ctpop of float"):
        code.call("ctpop", x("float"))


def test_lanes_are_refused_where_a_language_has_none(code: CCode) -> None:
    with pytest.raises(CompileError, match="no vectors"):
        code.broadcast(x("float"), 4)
