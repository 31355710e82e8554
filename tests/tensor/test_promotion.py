"""Which dtype an operation has: the table of promotion, and that Python numbers are weak."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from portkit.errors import DTypeError
from portkit.spec.types import (
    BF16,
    BOOL,
    DTYPES,
    F8E4M3FN,
    F8E5M2,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    DType,
)  # fmt: skip
from portkit.tensor.elementwise import add
from portkit.tensor.promotion import as_dtype, promote, promote_pair
from portkit.tensor.tensor import Tensor

ALL = list(DTYPES.values())
PAIRS = {
    (BOOL, I8): I8,
    (BOOL, F16): F16,
    (I8, U8): I16,
    (I16, U16): I32,
    (I32, U32): I64,
    (I32, U8): I32,
    (U8, U32): U32,
    (I64, U32): I64,
    (I64, F16): F16,
    (U64, BF16): BF16,
    (F16, BF16): F32,
    (F16, F32): F32,
    (BF16, F64): F64,
    (F8E4M3FN, F8E5M2): F16,
    (F8E5M2, BF16): BF16,
}


@pytest.mark.parametrize(
    ("pair", "wanted"), PAIRS.items(), ids=lambda p: "-".join(map(str, p)) if isinstance(p, tuple) else str(p)
)
def test_two_dtypes_promote_as_the_table_says(pair: tuple[DType, DType], wanted: DType) -> None:
    assert promote_pair(*pair) is wanted


def test_promotion_does_not_depend_on_the_order() -> None:
    for a, b in itertools.product(ALL, ALL):
        try:
            forth = promote_pair(a, b)
        except DTypeError:
            with pytest.raises(DTypeError, match="cast one of them"):
                promote_pair(b, a)
            continue
        assert promote_pair(b, a) is forth


@pytest.mark.parametrize("signed", [I8, I16, I32, I64], ids=str)
def test_unsigned_64_bits_with_a_signed_integer_has_no_dtype(signed: DType) -> None:
    with pytest.raises(DTypeError, match=f"no dtype holds both .*u64|no dtype holds both {signed} and u64"):
        promote_pair(signed, U64)


def test_promotion_of_integers_holds_every_value_of_both() -> None:
    integers = [d for d in ALL if d.is_int]
    for a, b in itertools.product(integers, integers):
        if {a, b} & {U64} and (a.is_signed or b.is_signed):
            continue
        both = promote_pair(a, b)
        assert both.min_int <= min(a.min_int, b.min_int)
        assert both.max_int >= max(a.max_int, b.max_int)


@pytest.mark.parametrize(
    ("dtype", "scalar", "wanted"),
    [
        (I8, 3, I8), (U64, 3, U64), (F16, 3, F16), (F16, 2.5, F16), (BF16, 2.5, BF16), (F64, 2.5, F64),
        (I32, 2.5, F32), (I64, 2.5, F32), (BOOL, True, BOOL), (BOOL, 3, I32), (BOOL, 2.5, F32), (I8, True, I8),
    ],
)  # fmt: skip
def test_a_python_number_is_weak(dtype: DType, scalar: float, wanted: DType) -> None:
    assert promote([dtype], [scalar]) is wanted
    zero = np.zeros(2, dtype.numpy)
    assert (Tensor(zero).maximum(scalar)).dtype is wanted


def test_a_tensor_of_rank_0_and_a_numpy_scalar_are_not_weak() -> None:
    x = Tensor(np.zeros(2, np.float16))
    assert (x + Tensor(1.0)).dtype is F32
    assert add(x, np.float32(1.0)).dtype is F32


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_goes_by_its_name_its_numpy_dtype_and_itself(name: str) -> None:
    dtype = DTYPES[name]
    assert as_dtype(name) is dtype
    assert as_dtype(dtype) is dtype
    assert as_dtype(dtype.numpy) is dtype
    assert as_dtype(dtype.numpy.type) is dtype


def test_the_types_of_python_have_default_dtypes() -> None:
    assert [as_dtype(t) for t in (bool, int, float)] == [BOOL, I32, F32]


@pytest.mark.parametrize("dtype", ["f33", "float", np.complex64, np.dtype("datetime64[s]")])
def test_an_unknown_dtype_is_refused_with_the_known_ones(dtype: object) -> None:
    with pytest.raises(DTypeError, match=r"unknown dtype .*known are bool i32"):
        as_dtype(dtype)  # type: ignore[arg-type]
