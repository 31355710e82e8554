"""Level `device`: compiling and launching, argument order, geometry, lifetimes of executables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from portkit.conformance.case import Case, CheckFailed, Level, Tier
from portkit.conformance.cases.session import SYNCHRONISE_SECONDS, buffer, buffers, expect_array, expect_error, launch
from portkit.contract import ALIGNMENT, Capabilities
from portkit.errors import DeviceHang, DeviceLost, InvalidHandle, PortkitError
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel

if TYPE_CHECKING:
    from portkit.runtime.client import DeviceClient

LANES = 64
REPEATS = 300
EXECUTABLES = 24
ARGUMENTS = 4
Check = Callable[["DeviceClient"], None]
Row = tuple[str, Tier, tuple[str, ...], Check]
"""Id without the level, tier, needed checks, the check."""
_FIRST = ("launch/index",)


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the launch checks in the order of bring-up."""
    for path, tier, needs, check in (*_TABLE, *_alignment_rows(capabilities)):
        yield Case(f"device/{path}", Level.DEVICE, tier, check=check, needs=tuple(f"device/{n}" for n in needs))


def index_kernel(step: int = 1) -> Kernel:
    """out[g * 64 + l] = (g * 64 + l) * step, over `groups` work-groups."""
    b = Builder(f"index_{step}")
    out = b.buffer("out", "i32", ("groups", LANES), "write")
    groups = b.scalar("groups", "i32")
    group, lane = b.grid(groups), b.lane(LANES)
    i = b.add(b.mul(group, b.const("i32", LANES)), lane)
    b.store(out, i, b.mul(i, b.const("i32", step)))
    return b.build()


def _expected(groups: int, step: int = 1) -> np.ndarray:
    return np.arange(groups * LANES, dtype=np.int32) * np.int32(step)


def _index(groups: int, client: DeviceClient) -> None:
    out = launch(client, index_kernel(), {}, {"groups": groups})["out"]
    expect_array(out, _expected(groups), f"the index over {groups} work-groups")


def _one_lane(client: DeviceClient) -> None:
    b = Builder("one_lane")
    out = b.buffer("out", "i32", 1, "write")
    b.grid(1)
    lane = b.lane(1)
    b.store(out, lane, b.const("i32", 42))
    expect_array(launch(client, b.build(), {}, {})["out"], np.array([42], np.int32), "one lane of one group")


def _empty_grid(groups: int, client: DeviceClient) -> None:
    """A count of zero or less launches nothing (Spec: nest_c3)."""
    b = Builder("empty_grid")
    out = b.buffer("out", "i32", LANES, "write")
    b.grid(b.scalar("groups", "i32"))
    lane = b.lane(LANES)
    b.store(out, lane, lane)
    before = np.full(LANES, -7, np.int32)
    after = launch(client, b.build(), {"out": before}, {"groups": groups})["out"]
    expect_array(after, before, f"the buffer after a grid of {groups}")


def _nested_grid(shape: tuple[int, ...], lanes: tuple[int, ...], client: DeviceClient) -> None:
    """Each lane stores its linear number: the last grid loop and the last lane loop count fastest (Spec: nest_c5)."""
    b = Builder("nested")
    group_size, total = int(np.prod(lanes)), int(np.prod(shape) * np.prod(lanes))
    out = b.buffer("out", "i32", total, "write")
    linear = b.const("i32", 0)
    for count, opened in ((c, o) for counts, o in ((shape, b.grid), (lanes, b.lane)) for c in counts):
        extent = b.const("i32", count)
        linear = b.add(b.mul(linear, extent), opened(count))
    b.store(out, linear, linear)
    after = launch(client, b.build(), {}, {})["out"]
    expect_array(after, np.arange(total, dtype=np.int32), f"grid {shape}, lanes {lanes} of {group_size}")


def _many_launches(client: DeviceClient) -> None:
    """One executable launched hundreds of times, each adding one; nothing may be lost or reordered."""
    b = Builder("increment")
    data = b.buffer("data", "i32", LANES, "readwrite")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(data, lane, b.add(b.load(data, lane), b.const("i32", 1)))
    executable = client.compile(b.build())
    with buffer(client, LANES * 4) as handle:
        client.write(handle, 0, bytes(LANES * 4))
        for _ in range(REPEATS):
            client.launch(executable, (1,), [handle], [])
        client.synchronise(SYNCHRONISE_SECONDS)
        after = np.frombuffer(client.read(handle, 0, LANES * 4), np.int32)
    expect_array(after, np.full(LANES, REPEATS, np.int32), f"{REPEATS} launches of an increment")


def _dependent_launches(client: DeviceClient) -> None:
    """Launches take effect in order: each kernel reads what the one before wrote, without a synchronise between."""
    executables = [client.compile(_affine(k)) for k in range(1, 5)]
    expected = np.arange(LANES, dtype=np.int32)
    with buffer(client, LANES * 4) as handle:
        client.write(handle, 0, expected.tobytes())
        for k, executable in enumerate(executables * 5):
            client.launch(executable, (1,), [handle], [])
            expected = expected * np.int32(3) + np.int32(k % 4 + 1)
        client.synchronise(SYNCHRONISE_SECONDS)
        after = np.frombuffer(client.read(handle, 0, LANES * 4), np.int32)
    expect_array(after, expected, "twenty dependent launches")


def _copy_between_launches(client: DeviceClient) -> None:
    """A copy takes effect after the launches before it, and before those after it, without a synchronise between."""
    executable, start = client.compile(_affine(1)), np.arange(LANES, dtype=np.int32)
    with buffers(client, [start.nbytes] * 2) as (first, second):
        client.write(first, 0, start.tobytes())
        client.write(second, 0, bytes(start.nbytes))
        client.launch(executable, (1,), [first], [])
        client.copy(second, 0, first, 0, start.nbytes)
        client.launch(executable, (1,), [first], [])
        client.launch(executable, (1,), [second], [])
        client.synchronise(SYNCHRONISE_SECONDS)
        for handle in (first, second):
            after = np.frombuffer(client.read(handle, 0, start.nbytes), np.int32)
            expect_array(after, start * np.int32(9) + np.int32(4), "a launch, a copy of its result, and one more")


def _affine(constant: int) -> Kernel:
    b = Builder(f"affine_{constant}")
    data = b.buffer("data", "i32", LANES, "readwrite")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(data, lane, b.add(b.mul(b.load(data, lane), b.const("i32", 3)), b.const("i32", constant)))
    return b.build()


def _several_executables(client: DeviceClient) -> None:
    executables = [client.compile(index_kernel(step)) for step in range(1, EXECUTABLES + 1)]
    for step in reversed(range(1, EXECUTABLES + 1)):
        out = launch(client, index_kernel(step), {}, {"groups": 2}, executables[step - 1])["out"]
        expect_array(out, _expected(2, step), f"executable {step} of {EXECUTABLES} alive")


def _release(client: DeviceClient) -> None:
    first, second = client.compile(index_kernel(1)), client.compile(index_kernel(5))
    first.release()
    first.release()
    out = launch(client, index_kernel(5), {}, {"groups": 3}, second)["out"]
    expect_array(out, _expected(3, 5), "an executable after another was released")


def _compile_twice(client: DeviceClient) -> None:
    """The same kernel compiled twice gives two executables that both work."""
    pair = [client.compile(index_kernel(7)) for _ in range(2)]
    for executable in pair:
        expect_array(
            launch(client, index_kernel(7), {}, {"groups": 1}, executable)["out"], _expected(1, 7), "compiled twice"
        )


def _argument_order(client: DeviceClient) -> None:
    """Buffers and scalars arrive in header order, i32 and f32 scalars mixed."""
    b = Builder("arguments")
    sources = [b.buffer(f"in{k}", "f32", 1, "read") for k in range(ARGUMENTS)]
    outs = b.buffer("out", "f32", 3 * ARGUMENTS, "write")
    floats: list[Reg] = []
    integers: list[Reg] = []
    for k in range(ARGUMENTS):
        integers.append(b.scalar(f"i{k}", "i32"))
        floats.append(b.scalar(f"f{k}", "f32"))
    b.grid(1)
    zero = b.lane(1)
    values = [b.load(s, zero) for s in sources] + floats + [b.cast(i, "f32") for i in integers]
    for place, value in enumerate(values):
        b.store(outs, b.const("i32", place), value)
    inputs = {f"in{k}": np.array([k + 0.25], np.float32) for k in range(ARGUMENTS)}
    scalars: dict[str, int | float] = {}
    for k in range(ARGUMENTS):
        scalars |= {f"i{k}": -(k + 100), f"f{k}": k + 0.5}
    expected = [k + 0.25 for k in range(ARGUMENTS)] + [k + 0.5 for k in range(ARGUMENTS)]
    expected += [-(k + 100.0) for k in range(ARGUMENTS)]
    out = launch(client, b.build(), inputs, scalars)["out"]
    expect_array(out, np.array(expected, np.float32), "arguments in header order")


def _scalar_extremes(client: DeviceClient) -> None:
    b = Builder("scalar_extremes")
    out = b.buffer("out", "i32", 2, "write")
    integer, real = b.scalar("integer", "i32"), b.scalar("real", "f32")
    b.grid(1)
    zero = b.lane(1)
    b.store(out, zero, integer)
    b.store(out, b.const("i32", 1), b.bits(real, "i32"))
    for value, number in ((-(2**31), -0.0), (2**31 - 1, 1e-45), (-1, 3.4028234663852886e38), (0, float("inf"))):
        expected = np.array([value, np.array(number, np.float32).view(np.int32)], np.int32)
        out_array = launch(client, b.build(), {}, {"integer": value, "real": number})["out"]
        expect_array(out_array, expected, f"scalars {value} and {number}")


def _eight_buffers(client: DeviceClient) -> None:
    """Every device takes eight buffers (Spec: limit_c1)."""
    b = Builder("eight_buffers")
    sources = [b.buffer(f"in{k}", "i32", LANES, "read") for k in range(7)]
    out = b.buffer("out", "i32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    total = b.const("i32", 0)
    for k, source in enumerate(sources):
        total = b.add(total, b.mul(b.load(source, lane), b.const("i32", 10**k)))
    b.store(out, lane, total)
    inputs = {f"in{k}": np.full(LANES, k + 1, np.int32) for k in range(7)}
    out_array = launch(client, b.build(), inputs, {})["out"]
    expect_array(out_array, np.full(LANES, 7654321, np.int32), "eight buffers")


def _one_buffer_twice(client: DeviceClient) -> None:
    """One buffer given for two read-only arguments (Spec: header_c6)."""
    b = Builder("twice")
    x, y = (b.buffer(n, "i32", LANES, "read") for n in "xy")
    out = b.buffer("out", "i32", LANES, "write")
    b.grid(1)
    lane = b.lane(LANES)
    b.store(out, lane, b.add(b.load(x, lane), b.load(y, lane)))
    executable, data = client.compile(b.build()), np.arange(LANES, dtype=np.int32)
    with buffers(client, [data.nbytes] * 2) as (source, target):
        client.write(source, 0, data.tobytes())
        client.launch(executable, (1,), [source, source, target], [])
        client.synchronise(SYNCHRONISE_SECONDS)
        after = np.frombuffer(client.read(target, 0, data.nbytes), np.int32)
    expect_array(after, data * np.int32(2), "one buffer as two read-only arguments")


def _compile_error(client: DeviceClient) -> None:
    """A broken kernel is refused with an error, not with a crash, and the device still works."""
    kernel = index_kernel()
    body = tuple(replace(i, args=("nowhere", *i.args[1:])) if i.name == "store" else i for i in kernel.body)
    broken = Kernel("broken", kernel.buffers, kernel.scalars, kernel.shared, body)
    try:
        client.compile(broken)
    except (DeviceLost, DeviceHang) as error:
        raise CheckFailed(f"a store to an undefined index ended the device: {error}") from error
    except PortkitError:
        _index(1, client)
        return
    raise CheckFailed("a store to an undefined index was compiled")


def _freed_argument(client: DeviceClient) -> None:
    executable = client.compile(index_kernel())
    handle = client.allocate(LANES * 4)
    client.free(handle)

    def start() -> None:
        client.launch(executable, (1,), [handle], [1])
        client.synchronise(SYNCHRONISE_SECONDS)

    expect_error(InvalidHandle, "launching with a freed buffer", start)


def _reset_executables(client: DeviceClient) -> None:
    client.compile(index_kernel())
    client.reset()
    _index(2, client)


def _stale_executable(client: DeviceClient) -> None:
    executable = client.compile(index_kernel())
    client.reset()

    def start() -> None:
        with buffer(client, LANES * 4) as handle:
            client.launch(executable, (1,), [handle], [1])
            client.synchronise(SYNCHRONISE_SECONDS)

    expect_error(PortkitError, "launching an executable from before a reset", start)


def _alignment_rows(capabilities: Capabilities) -> list[Row]:
    """Aligned vector accesses to buffers between others of odd sizes, at every vector size up to 64 bytes."""
    counts = [n for n in capabilities.lane_counts()[1:] if n & (n - 1) == 0 and 4 * n <= ALIGNMENT]
    return [(f"allocate/aligned_{4 * n}", Tier.STANDARD, _FIRST, partial(_aligned, n)) for n in counts]


def _aligned(lanes: int, client: DeviceClient) -> None:
    """Every buffer starts at a multiple of 64 bytes (Spec: header_c7): a misplaced one faults or reads amiss."""
    b = Builder(f"aligned_{lanes}")
    source = b.buffer("a", "f32", LANES * lanes, "read")
    target = b.buffer("out", "f32", LANES * lanes, "write")
    b.grid(1)
    start = b.mul(b.lane(LANES), b.const("i32", lanes))
    b.store_vec(target, start, b.load_vec(source, start, lanes, 4 * lanes), 4 * lanes)
    kernel, data = b.build(), np.arange(LANES * lanes, dtype=np.float32)
    executable = client.compile(kernel)
    for odd in (1, 3, 65, 127, 4095):
        with buffer(client, odd):
            out = launch(client, kernel, {"a": data}, {}, executable)["out"]
            expect_array(out, data, f"vectors of {4 * lanes} bytes after a buffer of {odd}")


_TABLE: tuple[Row, ...] = (
    ("launch/one_lane", Tier.SMOKE, ("transfer/size_64",), _one_lane),
    ("launch/index", Tier.SMOKE, ("launch/one_lane",), partial(_index, 1)),
    *((f"launch/groups_{n}", Tier.SMOKE, _FIRST, partial(_index, n)) for n in (2, 3, 64, 1000)),
    ("launch/groups_100000", Tier.STANDARD, _FIRST, partial(_index, 100_000)),
    ("launch/grid_0", Tier.SMOKE, _FIRST, partial(_empty_grid, 0)),
    ("launch/grid_negative", Tier.SMOKE, _FIRST, partial(_empty_grid, -3)),
    ("launch/grid_2d", Tier.SMOKE, _FIRST, partial(_nested_grid, (3, 5), (8,))),
    ("launch/grid_3d", Tier.SMOKE, _FIRST, partial(_nested_grid, (2, 3, 7), (4,))),
    ("launch/lanes_2d", Tier.SMOKE, _FIRST, partial(_nested_grid, (3,), (8, 4))),
    ("launch/lanes_3d", Tier.SMOKE, _FIRST, partial(_nested_grid, (2,), (2, 3, 5))),
    ("launch/grid_3d_lanes_3d", Tier.STANDARD, _FIRST, partial(_nested_grid, (3, 2, 2), (2, 3, 4))),
    ("launch/grid_4d", Tier.STANDARD, _FIRST, partial(_nested_grid, (2, 3, 2, 5), (16,))),
    ("launch/grid_70000x2", Tier.STANDARD, _FIRST, partial(_nested_grid, (70_000, 2), (2,))),
    ("launch/grid_2x70000", Tier.STANDARD, _FIRST, partial(_nested_grid, (2, 70_000), (2,))),
    ("launch/lanes_256", Tier.STANDARD, _FIRST, partial(_nested_grid, (3,), (256,))),
    ("launch/argument_order", Tier.SMOKE, _FIRST, _argument_order),
    ("launch/scalar_extremes", Tier.SMOKE, _FIRST, _scalar_extremes),
    ("launch/eight_buffers", Tier.SMOKE, _FIRST, _eight_buffers),
    ("launch/one_buffer_twice", Tier.SMOKE, _FIRST, _one_buffer_twice),
    ("launch/many_times", Tier.STANDARD, _FIRST, _many_launches),
    ("launch/in_order", Tier.SMOKE, _FIRST, _dependent_launches),
    ("copy/between_launches", Tier.SMOKE, ("launch/index", "copy/whole"), _copy_between_launches),
    ("executable/several_alive", Tier.STANDARD, _FIRST, _several_executables),
    ("executable/release", Tier.SMOKE, _FIRST, _release),
    ("executable/compiled_twice", Tier.SMOKE, _FIRST, _compile_twice),
    ("errors/compile", Tier.SMOKE, _FIRST, _compile_error),
    ("errors/launch_with_freed_buffer", Tier.SMOKE, _FIRST, _freed_argument),
    ("reset/forgets_executables", Tier.SMOKE, _FIRST, _stale_executable),
    ("reset/allows_a_new_start", Tier.SMOKE, _FIRST, _reset_executables),
)
