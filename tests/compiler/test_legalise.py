"""The legaliser as a whole: what it leaves alone, what it refuses, and kernels that were written for other purposes."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from random import Random

import msgspec
import numpy as np
import pytest

from portkit.compiler.legal.unused import drop_unused
from portkit.compiler.legalise import legalise
from portkit.compiler.storage import storage
from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.collect import collect
from portkit.contract import BASE_DTYPES, Capabilities, Limits, NumericLimits, unsupported
from portkit.errors import DTypeError, UsageError
from portkit.spec.builder import Builder, Reg
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES
from portkit.spec.verify import verify
from tests.compiler.legal import BASE, DEVICES, assert_agrees, like_base
from tests.spec.random_kernels import random_kernel

_NUMBERS = tuple(name for name in DTYPES if name not in ("f64", "f8e4m3fn", "f8e5m2"))
RICH = like_base("rich", dtypes=_NUMBERS, extensions=("vec", "group", "fma"), lanes=(2, 4, 8, 16))
"""What the kernels of the suite may use here: nothing whose result is free, nothing that cannot be had otherwise."""
TOTAL = like_base(
    "total", dtypes=tuple(DTYPES), extensions=("vec", "group", "fma", "atomic", "math"), lanes=tuple(range(2, 65)),
    math={k: tuple(DTYPES) for k in ("recip", "sqrt", "rsqrt", "exp2", "log2", "sin", "trunc")},
    atomic={k: tuple(DTYPES) for k in ("add", "max", "min")},
    limits=Limits(lanes=1 << 16, shared_bytes=1 << 30, buffers=999),
)  # fmt: skip


def map_kernel(dtype: str, name: str = "mul", operands: int = 2, lanes: int = 64) -> Kernel:
    """One form on every element of a buffer."""
    b = Builder("map")
    a = b.buffer("a", dtype, "n", "readwrite")
    b.scalar("n", "i32")
    index = b.add(b.grid(1), b.lane(lanes))
    b.store(a, index, b.op(name, *[b.load(a, index)] * operands))
    return b.build()


# --- what is left alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_a_kernel_that_fits_is_given_back_itself(seed):
    kernel = random_kernel(Random(seed))
    legal = legalise(kernel, TOTAL)
    assert legal.kernel is kernel
    assert all(legal.storage[b.name] == storage(b.dtype, TOTAL) for b in kernel.buffers)


def test_the_header_keeps_names_scalars_and_access():
    kernel = map_kernel("i64")
    legal = legalise(kernel, BASE).kernel
    assert legal.scalars == kernel.scalars
    assert [(b.name, str(b.extent), b.access) for b in legal.buffers] == [("a", "n*2", "readwrite")]


# --- what is refused ----------------------------------------------------------------------------------------------


def test_atomics_that_are_not_declared_are_refused():
    b = Builder("count")
    bins = b.buffer("bins", "u8", 8, "readwrite")
    b.op("store.atomic.add", b.add(b.grid(1), b.lane(8)), b.const("u8", 1), mems=(bins,))
    declares = like_base("some", extensions=("atomic",), atomic={"add": ("i32",)})
    with pytest.raises(UsageError, match=r"count: some has no store.atomic.add on u8; reduce in a second kernel"):
        legalise(b.build(), declares)


def test_doubles_in_registers_are_refused():
    b = Builder("wide")
    out = b.buffer("out", "f32", 8, "write")
    lane = b.add(b.grid(1), b.lane(8))
    b.store(out, lane, b.cast(b.cast(lane, "f64"), "f32"))
    with pytest.raises(DTypeError, match="wide computes in f64, which base has not"):
        legalise(b.build(), BASE)


def test_a_strict_kernel_is_refused_where_strict_is_not_declared():
    kernel = replace(map_kernel("f32"), numeric="strict")
    with pytest.raises(UsageError, match="numeric strict is not declared"):
        legalise(kernel, msgspec.structs.replace(BASE, numeric=NumericLimits()))


@pytest.mark.parametrize(
    ("limits", "message"),
    [(Limits(lanes=256), "1024 lanes are more than the declared 256"),
     (Limits(lanes=1024, buffers=8), "9 buffers are more than the declared 8")],
)  # fmt: skip
def test_sizes_beyond_the_limits_are_refused(limits, message):
    b = Builder("big")
    buffers = [b.buffer(f"a{k}", "f32", 1024, "write") for k in range(9)]
    lane = b.add(b.grid(1), b.lane(1024))
    for buffer in buffers:
        b.store(buffer, lane, b.const("f32", 0.0))
    with pytest.raises(UsageError, match=message):
        legalise(b.build(), like_base("small", limits=limits))


def test_a_kernel_that_grows_beyond_what_a_kernel_may_have_is_refused():
    b = Builder("long")
    a = b.buffer("a", "i64", 8, "readwrite")
    lane = b.add(b.grid(1), b.lane(8))
    x = b.load(a, lane)
    with b.serial(3, x=x) as loop:
        y = loop["x"]
        for _ in range(2500):
            y = b.op("mul.hi", y, y)
        loop.next(x=y)
    b.store(a, lane, loop["x"])
    with pytest.raises(UsageError, match="100000 is the most: split the kernel"):
        legalise(b.build(), BASE)


# --- kernels of every kind ----------------------------------------------------------------------------------------


def sized(device: Capabilities) -> Capabilities:
    """The device with f64 and room for random kernels, which are never run."""
    dtypes = tuple(dict.fromkeys((*device.dtypes, "f64")))
    return msgspec.structs.replace(device, dtypes=dtypes, limits=TOTAL.limits)


REFUSED = ("has no store.atomic", "needs the extension fma", "the bits of f64", "needs the extension group")
"""What has no other form; see the tests of refusals."""


@pytest.mark.parametrize("device", DEVICES.values(), ids=lambda c: c.name)
def test_random_kernels_fit_and_verify_or_are_refused_with_a_reason(device):
    fitted = 0
    for seed in range(24):
        kernel = random_kernel(Random(seed))
        try:
            legal = legalise(kernel, sized(device)).kernel
        except UsageError as error:
            if not any(reason in str(error) for reason in REFUSED):
                raise
            continue
        verify(legal)
        assert unsupported(legal, sized(device)) == []
        fitted += 1
    assert fitted > 6


@cache
def sampled(prefix: str, every: int) -> list[Case]:
    """Some cases of the suite for a rich device, the same always."""
    cases = [c for c in collect(RICH) if c.trial and c.id.startswith(prefix) and c.tier is not Tier.FULL]
    return cases[::every]


@pytest.mark.parametrize("device", DEVICES.values(), ids=lambda c: c.name)
@pytest.mark.parametrize(("prefix", "every"), [("ops/", 97), ("kernels/", 7)])
def test_kernels_of_the_conformance_suite_compute_the_same(prefix, every, device):
    for case in sampled(prefix, every):
        assert case.trial is not None
        trial = case.trial()
        if trial.kernel.name == "uniform_count" and not device.has("group"):
            continue  # a reduction over the group counts a loop with barriers: refused, see test_legalise_vectors
        assert_agrees(trial.kernel, device, trial.scalars, trial.inputs)


def test_the_time_grows_with_the_kernel_not_faster():
    def seconds(length: int) -> float:
        b = Builder("long")
        a = b.buffer("a", "f16", 64, "readwrite")
        lane = b.add(b.grid(1), b.lane(8))
        x: Reg = b.load(a, lane)
        for k in range(length):
            with b.serial(2, **{f"v{k}": x}) as loop:
                carried = loop[f"v{k}"]
                loop.next(**{f"v{k}": b.add(carried, carried)})
            x = loop[f"v{k}"]
        b.store(a, lane, x)
        kernel = b.build()
        start = time.process_time()
        legalise(kernel, BASE)
        return time.process_time() - start

    seconds(50)
    short = min(seconds(200) for _ in range(3))
    assert min(seconds(800) for _ in range(2)) < 4 * 3 * short


def test_every_device_lacks_what_the_rich_one_has():
    assert all(set(BASE_DTYPES) <= set(device.dtypes) for device in DEVICES.values())
    assert all(unsupported(map_kernel(name), BASE) for name in _NUMBERS if name not in (*BASE_DTYPES, "bool"))


def test_arrays_of_a_launch_need_no_change_where_the_dtype_is_native():
    legal = legalise(map_kernel("f16", "mul.add", 3), DEVICES["scalar"])
    assert legal.storage["a"].native
    assert_agrees(map_kernel("f16", "mul.add", 3), DEVICES["scalar"], {"n": 64}, {"a": np.arange(64, dtype=np.float16)})


def test_words_that_nothing_reads_are_not_loaded():
    b = Builder("low")
    a, out = b.buffer("a", "i64", 8, "read"), b.buffer("out", "i32", 8, "write")
    lane = b.add(b.grid(1), b.lane(8))
    b.store(out, lane, b.cast(b.load(a, lane), "i32"))
    kernel = b.build()
    assert sum(i.name == "load" for i in legalise(kernel, BASE).kernel.body) == 1
    assert_agrees(kernel, BASE, {}, {"a": np.arange(8) << 30})


def test_a_kernel_without_anything_unused_stays_as_it_is():
    kernel = map_kernel("f32", "mul.add", 3)
    assert drop_unused(kernel).body == kernel.body
