"""Level `device`: allocate, copy, errors, launches, lifetime; one small function per check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from portkit.conformance.case import Case, CheckFailed, Level, Tier
from portkit.conformance.cases.draws import Draws
from portkit.conformance.cases.session import buffer, buffers, expect_equal, expect_error
from portkit.contract import Capabilities
from portkit.errors import DeviceError, InvalidHandle, OutOfMemory

if TYPE_CHECKING:
    from portkit.runtime.client import DeviceClient

Check = Callable[["DeviceClient"], None]

SIZES = (1, 2, 3, 4, 7, 63, 64, 65, 255, 4096, 4097, 65_536, 1_000_003)
OFFSETS = ((0, 1), (1, 3), (3, 5), (4, 8), (63, 2), (64, 64), (100, 900), (1023, 1))
LEAK_ROUNDS = 2000
BIG_BYTES = 1 << 26
IMPOSSIBLE_BYTES = 1 << 60


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the device checks in the order of bring-up."""
    del capabilities
    for path, tier, needs, check in _TABLE:
        yield Case(f"device/{path}", Level.DEVICE, tier, check=check, needs=tuple(f"device/{n}" for n in needs))


def payload(case_id: str, size: int) -> bytes:
    """Return `size` random bytes fixed by the case id."""
    return Draws(case_id).words((size + 7) // 8).tobytes()[:size]


def _allocate_one(client: DeviceClient) -> None:
    with buffer(client, 1024):
        pass


def _allocate_zero(client: DeviceClient) -> None:
    with buffer(client, 0) as handle:
        client.write(handle, 0, b"")
        expect_equal(client.read(handle, 0, 0), b"", "reading a buffer of no bytes")
        expect_error(InvalidHandle, "writing to a buffer of no bytes", lambda: client.write(handle, 0, b"x"))


def _distinct_handles(client: DeviceClient) -> None:
    with buffers(client, [16] * 100) as handles:
        if len(set(handles)) != len(handles):
            raise CheckFailed("two live buffers have the same handle")


def _live_buffers_do_not_overlap(client: DeviceClient) -> None:
    sizes = [size for size in SIZES if size < 5000]
    with buffers(client, sizes) as handles:
        contents = [payload(f"overlap:{k}", size) for k, size in enumerate(sizes)]
        for handle, data in zip(handles, contents, strict=True):
            client.write(handle, 0, data)
        for handle, data in zip(handles, contents, strict=True):
            expect_equal(client.read(handle, 0, len(data)), data, f"buffer of {len(data)} bytes beside others")


def _many_allocations(client: DeviceClient) -> None:
    with buffers(client, [4096] * 500) as handles:
        for number, handle in enumerate(handles):
            client.write(handle, 0, number.to_bytes(4, "little") * 1024)
        for number, handle in enumerate(handles):
            expect_equal(client.read(handle, 0, 4096), number.to_bytes(4, "little") * 1024, f"buffer {number} of 500")


def _allocate_and_free_many(client: DeviceClient) -> None:
    for number in range(LEAK_ROUNDS):
        client.free(client.allocate(1 << (number % 20)))


def _freed_memory_is_given_back(client: DeviceClient) -> None:
    """Allocate in turn more than the declared memory."""
    size = min(BIG_BYTES, client.capabilities.limits.buffer_bytes)
    rounds = min(client.capabilities.limits.buffer_bytes // size, 64) + 8
    for _ in range(rounds):
        with buffer(client, size) as handle:
            client.write(handle, size - 4, b"tail")


def _big_buffer(client: DeviceClient) -> None:
    size = min(BIG_BYTES, client.capabilities.limits.buffer_bytes)
    ends = payload("big", 4096)
    with buffer(client, size) as handle:
        for offset in (0, size // 2 - 2048, size - 4096):
            client.write(handle, offset, ends)
        for offset in (0, size // 2 - 2048, size - 4096):
            expect_equal(client.read(handle, offset, 4096), ends, f"4096 bytes at {offset} of {size}")


def _out_of_memory(client: DeviceClient) -> None:
    expect_error(OutOfMemory, f"allocating {IMPOSSIBLE_BYTES} bytes", lambda: client.allocate(IMPOSSIBLE_BYTES))
    _allocate_one(client)


# --- transfers ----------------------------------------------------------------------------------------------------


def _write_read(size: int, client: DeviceClient) -> None:
    data = payload(f"roundtrip:{size}", size)
    with buffer(client, size) as handle:
        client.write(handle, 0, data)
        expect_equal(client.read(handle, 0, size), data, f"{size} bytes written and read")


def _offsets(client: DeviceClient) -> None:
    size = 1024
    shadow = bytearray(payload("offsets", size))
    with buffer(client, size) as handle:
        client.write(handle, 0, bytes(shadow))
        for offset, length in OFFSETS:
            data = payload(f"offsets:{offset}", length)
            client.write(handle, offset, data)
            shadow[offset : offset + length] = data
            expect_equal(client.read(handle, 0, size), bytes(shadow), f"after writing {length} bytes at {offset}")
        for offset, length in OFFSETS:
            part = bytes(shadow[offset : offset + length])
            expect_equal(client.read(handle, offset, length), part, f"reading {length} bytes at {offset}")


def _memoryview(client: DeviceClient) -> None:
    data = payload("memoryview", 256)
    with buffer(client, 128) as handle:
        client.write(handle, 0, memoryview(data)[64:192])
        expect_equal(client.read(handle, 0, 128), data[64:192], "writing a memoryview")


def _overwrite(client: DeviceClient) -> None:
    with buffer(client, 64) as handle:
        for number in range(20):
            client.write(handle, 0, bytes([number]) * 64)
        expect_equal(client.read(handle, 0, 64), bytes([19]) * 64, "the last of twenty writes")


def _copy(client: DeviceClient) -> None:
    data = payload("copy", 1000)
    with buffers(client, [1000, 1000]) as (source, target):
        client.write(source, 0, data)
        client.write(target, 0, bytes(1000))
        client.copy(target, 0, source, 0, 1000)
        expect_equal(client.read(target, 0, 1000), data, "copy of a whole buffer")
        expect_equal(client.read(source, 0, 1000), data, "the source of a copy")


def _copy_offsets(client: DeviceClient) -> None:
    data = payload("copy_offsets", 1000)
    with buffers(client, [1000, 1000]) as (source, target):
        client.write(source, 0, data)
        shadow = bytearray(1000)
        client.write(target, 0, bytes(shadow))
        for offset, length in OFFSETS:
            start = min(2 * offset, 1000 - length)
            at = min(offset, 1000 - length)
            client.copy(target, at, source, start, length)
            shadow[at : at + length] = data[start : start + length]
        expect_equal(client.read(target, 0, 1000), bytes(shadow), "copies at offsets")


def _copy_within(client: DeviceClient) -> None:
    data = payload("copy_within", 512)
    with buffer(client, 1024) as handle:
        client.write(handle, 0, data + bytes(512))
        client.copy(handle, 512, handle, 0, 512)
        expect_equal(client.read(handle, 0, 1024), data + data, "copy between halves of one buffer")


# --- misuse -------------------------------------------------------------------------------------------------------


def _double_free(client: DeviceClient) -> None:
    handle = client.allocate(64)
    client.free(handle)
    expect_error(InvalidHandle, "freeing twice", lambda: client.free(handle))


def _use_after_free(client: DeviceClient) -> None:
    handle = client.allocate(64)
    client.free(handle)
    expect_error(InvalidHandle, "writing after free", lambda: client.write(handle, 0, b"x"))
    expect_error(InvalidHandle, "reading after free", lambda: client.read(handle, 0, 1))
    with buffer(client, 64) as other:
        expect_error(InvalidHandle, "copying from a freed buffer", lambda: client.copy(other, 0, handle, 0, 1))
        expect_error(InvalidHandle, "copying to a freed buffer", lambda: client.copy(handle, 0, other, 0, 1))


def _foreign_handle(client: DeviceClient) -> None:
    for handle in (987_654_321, -1, 1 << 62):
        expect_error(InvalidHandle, f"freeing handle {handle}", partial(client.free, handle))
        expect_error(InvalidHandle, f"reading handle {handle}", partial(client.read, handle, 0, 1))
        expect_error(InvalidHandle, f"writing handle {handle}", partial(client.write, handle, 0, b"x"))


_BAD_RANGES = ((0, 65), (64, 1), (65, 0), (1, 64), (-1, 2), (1 << 40, 1), (60, 1 << 30))


def _out_of_range(client: DeviceClient) -> None:
    with buffers(client, [64, 64]) as (handle, other):
        client.write(handle, 0, bytes(64))
        for offset, size in _BAD_RANGES:
            what = f"{size} bytes at {offset} of a buffer of 64"
            expect_error(InvalidHandle, f"reading {what}", partial(client.read, handle, offset, size))
            expect_error(InvalidHandle, f"copying {what}", partial(client.copy, other, 0, handle, offset, size))
            expect_error(InvalidHandle, f"copying to {what}", partial(client.copy, handle, offset, other, 0, size))
            if size < 100:
                expect_error(InvalidHandle, f"writing {what}", partial(client.write, handle, offset, bytes(size)))
        expect_equal(client.read(handle, 0, 64), bytes(64), "a buffer after refused writes")


def _negative_size(client: DeviceClient) -> None:
    with buffer(client, 64) as handle:
        expect_error(InvalidHandle, "reading -1 bytes", lambda: client.read(handle, 0, -1))
    expect_error(DeviceError, "allocating -1 bytes", lambda: client.allocate(-1))


def _reset(client: DeviceClient) -> None:
    handle = client.allocate(64)
    client.reset()
    expect_error(InvalidHandle, "a buffer from before the reset", lambda: client.read(handle, 0, 1))
    _write_read(64, client)


def _synchronise_idle(client: DeviceClient) -> None:
    client.synchronise(1.0)
    client.synchronise(1.0)


def _info(client: DeviceClient) -> None:
    if not client.info.device:
        raise CheckFailed("the device has no name; fill DeviceInfo.device")


def _size_tier(size: int) -> Tier:
    return Tier.SMOKE if size < 5000 else Tier.STANDARD


def _close(client: DeviceClient) -> None:
    client.leave()
    with buffer(client, 64) as handle:
        client.write(handle, 0, payload("close", 64))
        expect_equal(client.read(handle, 0, 64), payload("close", 64), "reading after the device was opened again")


_FIRST, _TRANSFER = ("allocate/one",), ("transfer/size_64",)
_TABLE: tuple[tuple[str, Tier, tuple[str, ...], Check], ...] = (
    ("info/name", Tier.SMOKE, (), _info),
    ("allocate/one", Tier.SMOKE, (), _allocate_one),
    ("allocate/zero_bytes", Tier.SMOKE, _FIRST, _allocate_zero),
    ("allocate/distinct_handles", Tier.SMOKE, _FIRST, _distinct_handles),
    ("synchronise/idle", Tier.SMOKE, (), _synchronise_idle),
    *((f"transfer/size_{n}", _size_tier(n), _FIRST, partial(_write_read, n)) for n in SIZES),
    ("transfer/offsets", Tier.SMOKE, _TRANSFER, _offsets),
    ("transfer/memoryview", Tier.SMOKE, _TRANSFER, _memoryview),
    ("transfer/last_write_wins", Tier.SMOKE, _TRANSFER, _overwrite),
    ("copy/whole", Tier.SMOKE, _TRANSFER, _copy),
    ("copy/offsets", Tier.SMOKE, _TRANSFER, _copy_offsets),
    ("copy/within_one_buffer", Tier.SMOKE, _TRANSFER, _copy_within),
    ("allocate/live_buffers_do_not_overlap", Tier.SMOKE, _TRANSFER, _live_buffers_do_not_overlap),
    ("allocate/five_hundred", Tier.STANDARD, _TRANSFER, _many_allocations),
    ("allocate/free_many_times", Tier.STANDARD, _FIRST, _allocate_and_free_many),
    ("allocate/memory_is_given_back", Tier.STANDARD, _TRANSFER, _freed_memory_is_given_back),
    ("allocate/big", Tier.STANDARD, _TRANSFER, _big_buffer),
    ("errors/out_of_memory", Tier.STANDARD, _FIRST, _out_of_memory),
    ("errors/double_free", Tier.SMOKE, _FIRST, _double_free),
    ("errors/use_after_free", Tier.SMOKE, _FIRST, _use_after_free),
    ("errors/foreign_handle", Tier.SMOKE, _FIRST, _foreign_handle),
    ("errors/out_of_range", Tier.SMOKE, _FIRST, _out_of_range),
    ("errors/negative_size", Tier.SMOKE, _FIRST, _negative_size),
    ("reset/forgets_buffers", Tier.SMOKE, _TRANSFER, _reset),
    ("close/opens_again", Tier.SMOKE, _TRANSFER, _close),
)
