"""Made-up addresses: objects are found back, and where in them an address is."""

from __future__ import annotations

import pytest

from portkit.backends.drivers.addresses import Addresses
from portkit.errors import InvalidHandle


def test_an_address_is_found_back_as_its_object():
    addresses = Addresses[str]()
    first, second = addresses.place("a", 10, 64), addresses.place("b", 20, 64)
    assert addresses.find(first) == ("a", 0)
    assert addresses.find(second) == ("b", 0)


def test_an_address_inside_an_object_is_found_with_its_offset():
    addresses = Addresses[str]()
    addresses.place("a", 100, 64)
    start = addresses.place("b", 256, 64)
    assert addresses.find(start + 64) == ("b", 64)


def test_the_end_of_an_object_belongs_to_it_and_not_to_the_next():
    addresses = Addresses[str]()
    start = addresses.place("a", 64, 64)
    addresses.place("b", 64, 64)
    assert addresses.find(start + 64) == ("a", 64)


@pytest.mark.parametrize("align", [64, 256, 4096])
def test_addresses_are_aligned_as_asked(align: int):
    addresses = Addresses[str]()
    addresses.place("a", 1, 64)
    assert addresses.place("b", 1, align) % align == 0


def test_empty_objects_have_addresses_of_their_own():
    addresses = Addresses[str]()
    assert addresses.place("a", 0, 64) != addresses.place("b", 0, 64)


def test_no_address_is_zero_or_given_out_twice():
    addresses = Addresses[str]()
    first = addresses.place("a", 8, 1)
    addresses.remove(first)
    assert 0 < first < addresses.place("b", 8, 1)


def test_a_removed_object_is_given_back_and_not_found_again():
    addresses = Addresses[str]()
    start = addresses.place("a", 8, 64)
    kept = addresses.place("b", 8, 64)
    assert addresses.remove(start) == "a"
    assert addresses.find(kept) == ("b", 0)
    with pytest.raises(InvalidHandle, match=f"no buffer is at address {start:#x}"):
        addresses.find(start)


@pytest.mark.parametrize("address", [0, 100, 1 << 40])
def test_an_address_of_nothing_is_refused(address: int):
    addresses = Addresses[str]()
    addresses.place("a", 8, 64)
    with pytest.raises(InvalidHandle, match="no buffer is at address"):
        addresses.find(address)


def test_only_the_start_of_an_object_removes_it():
    addresses = Addresses[str]()
    start = addresses.place("a", 128, 64)
    with pytest.raises(InvalidHandle, match="no buffer starts at address"):
        addresses.remove(start + 64)
