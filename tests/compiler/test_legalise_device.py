"""Kernels legalised to the base, on the cpu backend as if it had no more: real compilers and threads agree too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from portkit.backends.cpu import BACKEND
from portkit.backends.cpu.device import CpuDevice, open_host
from portkit.compiler.legalise import legalise
from portkit.compiler.storage import from_device, to_device
from portkit.reference import values
from portkit.spec.kernel import Kernel
from portkit.spec.types import BF16, DTYPES, F16, F32, I64, U64, DType, Type
from tests.backends.launching import execute
from tests.compiler.legal import BASE, Array, column_kernel, form, same
from tests.compiler.test_legalise_floats import fused_columns
from tests.compiler.test_legalise_integers import random_patterns
from tests.compiler.test_legalise_vectors import GROUPS, data, group_kernel, kinds_of, vector_kernel


@pytest.fixture(scope="module")
def device() -> Iterator[CpuDevice]:
    opened = open_host(BACKEND.capabilities)
    yield opened
    opened.close()


def assert_runs(device: CpuDevice, kernel: Kernel, inputs: dict[str, Array]) -> None:
    """The device leaves in every buffer what the reference leaves there for the kernel that was legalised."""
    legal, dtypes = legalise(kernel, BASE), {b.name: b.dtype for b in kernel.buffers}
    held = {name: to_device(array, legal.storage[name]) for name, array in inputs.items()}
    after = execute(device, legal.kernel, held)
    for name, array in values.run(kernel, {}, inputs).items():
        given = from_device(after[name].tobytes(), dtypes[name], array.shape, legal.storage[name])
        assert same(array, given).all(), name


def assert_column_runs(device: CpuDevice, name: str, source: DType, target: DType, columns: list[Array]) -> None:
    """The same for one form on columns of bit patterns."""
    written = Type(target) if name in ("mov.cast", "mov.bits") else None
    kernel = column_kernel(form(name, type=written), [source] * len(columns), target, len(columns[0]), "strict")
    arrays = [column.astype(f"u{source.bytes}").view(source.numpy) for column in columns]
    assert_runs(device, kernel, {f"in{k}": array for k, array in enumerate(arrays)})


@pytest.mark.parametrize("dtype", [F32, F16, I64, DTYPES["u8"]], ids=str)
def test_vectors_in_pieces_run_on_a_device(dtype, device):
    kernel = vector_kernel(dtype, 4, kinds_of(dtype))
    assert_runs(device, kernel, {"a": data(dtype, 256), "out": np.zeros(256, dtype.numpy)})


@pytest.mark.parametrize("dtype", [F32, BF16, I64, DTYPES["i16"]], ids=str)
@pytest.mark.parametrize("lanes", [1, 4])
def test_reductions_over_the_group_run_on_a_device(dtype, lanes, device):
    kernel = group_kernel(dtype, (37,), kinds_of(dtype), lanes)
    assert_runs(device, kernel, {"a": data(dtype, GROUPS * 37 * lanes)})


@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
def test_fused_products_and_sums_run_on_a_device(dtype, device):
    assert_column_runs(device, "mul.add", dtype, dtype, fused_columns(dtype, seed=11))


@pytest.mark.parametrize("name", ["mul.hi", "mul.shr", "reduce.max"])
def test_wide_integers_run_on_a_device(name, device):
    assert_column_runs(device, name, I64, I64, random_patterns(I64, 1024, seed=5))


@pytest.mark.parametrize(
    ("source", "target"), [("f16", "f32"), ("f8e4m3fn", "bf16"), ("bf16", "u64"), ("f16", "f8e5m2")]
)
def test_narrow_casts_run_on_a_device(source, target, device):
    column = np.arange(1 << DTYPES[source].bits, dtype=np.uint64)
    assert_column_runs(device, "mov.cast", DTYPES[source], DTYPES[target], [column])


def test_rounding_a_wide_integer_to_f32_runs_on_a_device(device):
    assert_column_runs(device, "mov.cast", U64, F32, random_patterns(U64, 2048, seed=6)[:1])


def test_the_bits_of_narrow_signalling_nan_pass_through_a_device(device):
    """They are carried in f32 registers, where arithmetic would quieten them."""
    kernel = column_kernel(lambda b, xs: xs[0], [F16], F16, 1 << 16, "strict")
    patterns = np.arange(1 << 16, dtype=np.uint16)
    legal = legalise(kernel, BASE)
    after = execute(device, legal.kernel, {"in0": to_device(patterns.view(np.float16), legal.storage["in0"])})
    assert after["out"].tolist() == patterns.tolist()
