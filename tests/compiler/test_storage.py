"""How elements are stored on devices that lack their dtype, and arrays converted to and from that."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from portkit.compiler.storage import element_bytes, from_device, storage, to_device
from portkit.contract import BASE_DTYPES, Capabilities
from portkit.errors import DTypeError
from portkit.spec.types import BOOL, DTYPES, F64, I64, U8

BASE = Capabilities(name="base", version="1", vendor="test", evidence="stand-in")
EVERY = msgspec.structs.replace(BASE, dtypes=tuple(DTYPES))
BYTES = msgspec.structs.replace(BASE, dtypes=(*BASE_DTYPES, "u8", "u16"))
STORED = [d for d in DTYPES.values() if d not in (BOOL, F64)]


def every_pattern(dtype):
    """All patterns of a narrow dtype; of a wide one, those with one bit, and their neighbours."""
    unsigned = f"u{dtype.bytes}"
    if dtype.bits <= 16:
        return np.arange(1 << dtype.bits).astype(unsigned).view(dtype.numpy)
    ones = np.uint64(1) << np.arange(dtype.bits, dtype=np.uint64)
    return np.concatenate([ones, ones - np.uint64(1), ~ones]).astype(unsigned).view(dtype.numpy)


@pytest.mark.parametrize("capabilities", [BASE, EVERY, BYTES], ids=["base", "every", "bytes"])
@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_every_pattern_survives_the_way_to_the_device_and_back(dtype, capabilities):
    values, stored = every_pattern(dtype), storage(dtype, capabilities)
    raw = to_device(values, stored).tobytes()
    assert len(raw) == values.size * element_bytes(dtype, capabilities)
    back = from_device(raw, dtype, values.shape, stored)
    assert back.dtype == dtype.numpy
    assert back.tobytes() == values.tobytes()


def test_a_narrow_element_is_one_word_with_zero_extended_bits():
    stored = storage(DTYPES["i8"], BASE)
    assert to_device(np.array([-1, 2], np.int8), stored).tolist() == [255, 2]


def test_a_wide_element_is_two_words_low_first():
    stored = storage(I64, BASE)
    assert to_device(np.array([1, -2]), stored).tolist() == [1, 0, 0xFFFFFFFE, 0xFFFFFFFF]


def test_a_narrow_element_takes_an_unsigned_integer_of_its_width_where_there_is_one():
    assert storage(DTYPES["bf16"], BYTES).element.name == "u16"
    assert storage(DTYPES["f8e5m2"], BYTES).element.name == "u8"


@pytest.mark.parametrize("capabilities", [BASE, EVERY], ids=["base", "every"])
def test_bool_is_stored_as_u8_is(capabilities):
    values, stored = np.array([[True], [False]]), storage(BOOL, capabilities)
    assert stored.element == storage(U8, capabilities).element
    assert from_device(to_device(values, stored).tobytes(), BOOL, (2, 1), stored).tolist() == [[True], [False]]


@pytest.mark.parametrize(("name", "capabilities"), [("f32", BASE), ("f16", EVERY), ("i64", BASE), ("bf16", BYTES)])
def test_elements_of_the_same_size_are_not_copied(name, capabilities):
    values = np.zeros((4, 3), DTYPES[name].numpy)
    stored = storage(DTYPES[name], capabilities)
    assert np.shares_memory(to_device(values, stored), values)
    raw = bytearray(values.tobytes())
    assert np.shares_memory(from_device(memoryview(raw), DTYPES[name], (4, 3), stored), np.frombuffer(raw, np.uint8))


def test_doubles_are_refused_where_the_device_has_none():
    with pytest.raises(DTypeError, match=r"base has no f64: cast to f32"):
        storage(F64, BASE)


def test_an_empty_array_is_no_bytes():
    stored = storage(I64, BASE)
    assert to_device(np.zeros((0, 3), np.int64), stored).size == 0
    assert from_device(b"", I64, (0, 3), stored).shape == (0, 3)
