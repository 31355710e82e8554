"""The hand-written kernels compute what their names say, by the reference and against independent NumPy code."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from portkit.conformance.case import Trial
from portkit.conformance.cases import collect
from portkit.conformance.cases.kernels_bits import PARITY, ROTATIONS, ROUNDS
from portkit.conformance.cases.kernels_index import DIVISORS, magic
from portkit.conformance.cases.ops_convert import const_kernel
from portkit.conformance.cases.specials import finite_specials, nonfinite_specials
from portkit.reference.values import run
from portkit.spec.forms import accuracy
from portkit.spec.types import DTYPES, encode
from tests.conformance.cases.host_device import MAXIMAL

CASES = {c.id: c for c in collect(MAXIMAL)}
Array = np.ndarray[Any, Any]


def launch(case_id: str) -> tuple[Trial, dict[str, Array]]:
    """Return a case's launch and every buffer after it."""
    make = CASES[case_id].trial
    assert make is not None
    trial = make()
    return trial, run(trial.kernel, trial.scalars, trial.inputs)


def rows(trial: Trial, name: str = "a") -> Array:
    """Return an input as the matrix that the scalars say it is, or one row per work-group."""
    data = trial.inputs[name]
    count = int(trial.scalars.get("rows", trial.scalars.get("groups", 1)))
    return data.reshape(count, -1)


@pytest.mark.parametrize("lanes", [2, 31, 64, 200])
def test_scan_gives_prefix_sums(lanes: int) -> None:
    trial, out = launch(f"kernels/shared/scan/i32_{lanes}")
    assert np.array_equal(out["out"], np.cumsum(rows(trial), axis=1).reshape(-1))


@pytest.mark.parametrize("lanes", [2, 16, 64])
def test_bitonic_sort_sorts(lanes: int) -> None:
    trial, out = launch(f"kernels/shared/bitonic_sort/{lanes}")
    assert np.array_equal(out["out"], np.sort(rows(trial), axis=1).reshape(-1))


@pytest.mark.parametrize("lanes", [1, 3, 64, 100, 256])
def test_tree_gives_sums_and_maxima(lanes: int) -> None:
    for kind, fold in (("sum/i32", np.sum), ("sum/f32", np.sum), ("max/f32", np.max)):
        trial, out = launch(f"kernels/shared/tree_{kind}_{lanes}")
        assert np.array_equal(out["out"], np.repeat(fold(rows(trial), axis=1), lanes))


@pytest.mark.parametrize("side", [1, 3, 8, 16])
def test_transpose_transposes(side: int) -> None:
    trial, out = launch(f"kernels/shared/transpose/{side}")
    matrix = trial.inputs["a"].reshape(int(trial.scalars["rows"]) * side, -1)
    assert np.array_equal(out["out"], matrix.T.reshape(-1))


def test_histogram_counts() -> None:
    trial, out = launch("kernels/shared/histogram/64")
    expected = [np.bincount(row & 15, minlength=64) for row in rows(trial)]
    assert np.array_equal(out["out"], np.concatenate(expected))


@pytest.mark.parametrize("shape", ["1x1", "1x6", "4x5"])
def test_double_buffering_sums_columns_in_row_order(shape: str) -> None:
    trial, out = launch(f"kernels/shared/double_buffer/{shape}")
    total = np.zeros_like(out["out"])
    for row in trial.inputs["a"].reshape(-1, len(total))[:-1]:
        total = total + row
    assert np.array_equal(out["out"], total)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_stencil_weighs_neighbours(size: int) -> None:
    trial, out = launch(f"kernels/shared/stencil/{size}")
    padded = np.pad(trial.inputs["a"], 1)
    quarter, half = np.float32(0.25), np.float32(0.5)
    assert np.array_equal(out["out"], padded[:-2] * quarter + padded[1:-1] * half + padded[2:] * quarter)


@pytest.mark.parametrize("shape", ["1x1x1", "9x7x17", "37x29x41"])
def test_integer_gemm_multiplies_matrices(shape: str) -> None:
    trial, out = launch(f"kernels/math/gemm/i32_{shape}")
    m, n, k = (int(trial.scalars[name]) for name in "mnk")
    expected = trial.inputs["a"].reshape(m, k) @ trial.inputs["b"].reshape(k, n)
    assert np.array_equal(out["c"], expected.reshape(-1))


@pytest.mark.parametrize("case", ["gemm/f32_exact", "gemm/f16_exact", "gemm/bf16_exact", "gemm/f64_exact"])
def test_gemm_of_small_integers_is_exact(case: str) -> None:
    trial, out = launch(f"kernels/math/{case}")
    m, n, k = (int(trial.scalars[name]) for name in "mnk")
    a, b = (trial.inputs[name].astype(np.float64) for name in "ab")
    assert np.array_equal(out["c"].astype(np.float64), (a.reshape(m, k) @ b.reshape(k, n)).reshape(-1))


def test_dot_of_small_integers_is_exact() -> None:
    trial, out = launch("kernels/math/dot/exact")
    assert out["out"].sum() == np.dot(trial.inputs["x"], trial.inputs["y"])


@pytest.mark.parametrize("shape", ["1x1", "5x32", "7x33", "3x100"])
def test_softmax_rows_sum_to_one_within_the_accuracy_of_its_parts(shape: str) -> None:
    trial, out = launch(f"kernels/math/softmax/{shape}")
    columns = int(trial.scalars["columns"])
    sums = out["out"].astype(np.float64).reshape(-1, columns).sum(axis=1)
    share = (accuracy("mov.exp2", DTYPES["f32"]) + accuracy("mov.recip", DTYPES["f32"]) + columns) * 2.0**-23
    assert np.all(np.abs(sums - 1.0) <= share)


@pytest.mark.parametrize("shape", ["5x32", "7x33", "3x100"])
def test_layernorm_of_constant_gain_has_mean_of_the_bias(shape: str) -> None:
    trial, _ = launch(f"kernels/math/layernorm/{shape}")
    rows_, columns = (int(trial.scalars[name]) for name in ("rows", "columns"))
    ones, zeros = np.ones(columns, np.float32), np.zeros(columns, np.float32)
    out = run(trial.kernel, trial.scalars, {**trial.inputs, "gain": ones, "bias": zeros})["out"]
    values = out.astype(np.float64).reshape(rows_, columns)
    largest = np.abs(values).max()
    assert np.all(np.abs(values.mean(axis=1)) <= columns * largest * 2.0**-23)


@pytest.mark.parametrize("case", ["math/argmax/64x10", "math/argmax/70x33"])
def test_argmax_gives_the_first_of_equal_elements(case: str) -> None:
    trial, out = launch(f"kernels/{case}")
    assert np.array_equal(out["out"], np.argmax(rows(trial), axis=1))


@pytest.mark.parametrize("lanes", [1, 5, 32, 127])
def test_group_argmax_gives_the_first_of_equal_elements(lanes: int) -> None:
    trial, out = launch(f"kernels/group/argmax/{lanes}")
    assert np.array_equal(out["out"], np.argmax(rows(trial), axis=1))


def test_conv_agrees_with_sliding_windows_in_the_same_order() -> None:
    trial, out = launch("kernels/math/conv/9x37")
    height, width = int(trial.scalars["height"]), int(trial.scalars["width"])
    padded = np.pad(trial.inputs["a"].reshape(height, width), 1)
    total = np.zeros((height, width), np.float32)
    for k, weight in enumerate(trial.inputs["weight"]):
        total = total + padded[k // 3 : k // 3 + height, k % 3 : k % 3 + width] * weight
    assert np.array_equal(out["out"], total.reshape(-1))


def test_threefry_gives_the_published_numbers() -> None:
    """Known answer of Random123 for counter and key of zeros, in the reference's own loop."""
    trial, out = launch("kernels/bits/threefry/13198a2e")
    keys = [int(trial.scalars[name]) & 0xFFFFFFFF for name in ("key0", "key1")]
    size = int(trial.scalars["n"])
    expected = [word for i in range(size) for word in _threefry((i, size), (keys[0], keys[1]))]
    assert out["out"].tolist() == expected
    assert _threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)


def _threefry(counter: tuple[int, int], key: tuple[int, int]) -> tuple[int, int]:
    mask, schedule = 0xFFFFFFFF, [*key, key[0] ^ key[1] ^ PARITY]
    x0, x1 = (counter[0] + schedule[0]) & mask, (counter[1] + schedule[1]) & mask
    for step in range(ROUNDS):
        rotation = ROTATIONS[step % 8]
        x0 = (x0 + x1) & mask
        x1 = ((x1 << rotation | x1 >> (32 - rotation)) & mask) ^ x0
        if step % 4 == 3:
            turn = step // 4 + 1
            x0, x1 = (x0 + schedule[turn % 3]) & mask, (x1 + schedule[(turn + 1) % 3] + turn) & mask
    return x0, x1


def test_int4_weights_are_signed_and_scaled() -> None:
    trial, out = launch("kernels/bits/int4/33")
    packed, scale = trial.inputs["packed"].astype(np.int64), trial.inputs["scale"]
    nibbles = np.stack([(packed >> (4 * k)) & 15 for k in range(8)], axis=1)
    signed = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.float32)
    assert np.array_equal(out["out"], (signed * scale[np.arange(len(packed)) // 4][:, None]).reshape(-1))


def test_half_to_float_by_bits_is_the_conversion() -> None:
    trial, out = launch("kernels/bits/half_to_float/all")
    halves = trial.inputs["a"].astype(np.uint16).view(np.float16)
    expected, got = halves.astype(np.float32), out["out"].view(np.float32)
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    known = ~np.isnan(expected)
    assert np.array_equal(got[known].view(np.int32), expected[known].view(np.int32))


def test_float_to_half_by_bits_is_the_conversion() -> None:
    trial, out = launch("kernels/bits/float_to_half/ties")
    floats = trial.inputs["a"].view(np.float32)
    known = ~np.isnan(floats)
    expected = [encode(DTYPES["f16"], float(x)) for x in floats[known]]
    assert out["out"][known].astype(np.uint16).tolist() == expected


@pytest.mark.parametrize(("name", "form"), [("exp2", "mov.exp2"), ("log2", "mov.log2")])
def test_functions_from_base_forms_are_as_accurate_as_native_ones(name: str, form: str) -> None:
    trial, out = launch(f"kernels/bits/derived/{name}")
    finite = np.isfinite(trial.inputs["a"])
    with np.errstate(over="ignore", under="ignore"):
        exact = getattr(np, name)(trial.inputs["a"][finite].astype(np.float64))
    normal = (np.abs(exact) >= float(np.finfo(np.float32).tiny)) & (np.abs(exact) <= float(np.finfo(np.float32).max))
    size = np.maximum(np.abs(exact[normal]), 1.0 if name == "log2" else 0.0)  # log2 near 1 cancels here
    ulp = np.exp2(np.floor(np.log2(size)) - 23)
    error = np.abs(out["out"][finite][normal].astype(np.float64) - exact[normal]) / ulp
    assert np.all(error <= accuracy(form, DTYPES["f32"]))


def test_integer_kernels_agree_with_python() -> None:
    functions = {
        "population_count": lambda v, i: (v & 0xFFFFFFFF).bit_count(),
        "reverse_bits": lambda v, i: int(f"{v & 0xFFFFFFFF:032b}"[::-1], 2),
        "long_product": lambda v, i: (v & 0xFFFFFFFF) * ((i * 2654435761 + 1) & 0xFFFFFFFF) >> 16,
        "integer_root": lambda v, i: int(np.floor(np.sqrt(np.float64(v & 0x7FFFFFFF)))),
    }
    for name, function in functions.items():
        trial, out = launch(f"kernels/bits/integer/{name}")
        expected = [function(int(v), i) & 0xFFFFFFFF for i, v in enumerate(trial.inputs["a"])]
        assert out["out"].view(np.uint32).tolist() == expected, name


@pytest.mark.parametrize("divisor", DIVISORS)
def test_magic_division_is_exact(divisor: int) -> None:
    trial, out = launch(f"kernels/index/divide/{divisor}")
    values = trial.inputs["a"].astype(np.int64)
    assert np.array_equal(
        out["out"].astype(np.int64) & 0xFFFFFFFF, (values // divisor * 3 + values % divisor) & 0xFFFFFFFF
    )


def test_magic_numbers_fit_32_bits() -> None:
    assert all(0 <= magic(d)[0] < 1 << 32 for d in DIVISORS if d > 1)


@pytest.mark.parametrize("shape", ["1x1", "13x7", "100x1"])
def test_matrix_kernel_transposes_and_marks(shape: str) -> None:
    trial, out = launch(f"kernels/index/matrix/{shape}")
    count, columns = int(trial.scalars["rows"]), int(trial.scalars["columns"])
    marked = rows(trial) + 1000 * np.arange(count)[:, None] + np.arange(columns)[None, :]
    assert np.array_equal(out["out"], marked.T.reshape(-1))


def test_four_dimensions_are_permuted() -> None:
    trial, out = launch("kernels/index/four_dimensions/2x3x5x16")
    shape = [int(trial.scalars[f"n{k}"]) for k in range(4)]
    assert np.array_equal(out["out"], trial.inputs["a"].reshape(shape).transpose(3, 1, 0, 2).reshape(-1))


def test_gather_rows_gives_zeros_for_unknown_rows() -> None:
    trial, out = launch("kernels/memory/gather_rows/10x40x25")
    width, table = int(trial.scalars["width"]), trial.inputs["table"].reshape(10, 40)
    expected = [table[row] if 0 <= row < 10 else np.zeros(width, np.float32) for row in trial.inputs["row"]]
    assert np.array_equal(out["out"], np.concatenate(expected))


def test_scatter_add_adds_every_row_once() -> None:
    trial, out = launch("kernels/memory/scatter_add/i32")
    width = int(trial.scalars["width"])
    expected = trial.inputs["out"].reshape(-1, width).copy()
    np.add.at(expected, trial.inputs["row"], trial.inputs["a"].reshape(-1, width))
    assert np.array_equal(out["out"], expected.reshape(-1))


def test_contention_counts_every_item() -> None:
    trial, out = launch("kernels/memory/contention/10000")
    values = trial.inputs["a"].astype(np.int64)
    total = (1 + values.sum()) & 0xFFFFFFFF
    assert int(out["count"][0]) == len(values)
    assert int(out["total"][0]) & 0xFFFFFFFF == total
    assert (out["top"][0], out["bottom"][0]) == (values.max(), values.min())


@pytest.mark.parametrize("lanes", [2, 4, 16])
def test_vector_gemm_of_small_integers_is_exact(lanes: int) -> None:
    trial, out = launch(f"kernels/vector/gemm/{lanes}_lanes_exact")
    m, k = int(trial.scalars["m"]) * 4, int(trial.scalars["k"])
    expected = trial.inputs["a"].reshape(m, k) @ trial.inputs["b"].reshape(k, -1)
    assert np.array_equal(out["c"], expected.reshape(-1))


def test_loops_run_as_often_as_their_counts_say() -> None:
    trial, out = launch("ops/loop.serial/i32/counts")
    counts = np.maximum(trial.inputs["count"].astype(np.int64), 0)
    assert np.array_equal(out["out"], counts * (counts + 1) // 2)


def test_collatz_counts_steps() -> None:
    trial, out = launch("kernels/loops/collatz")
    for item, value in enumerate(trial.inputs["a"].tolist()):
        number, steps = (value & 63) + 1, 0
        while number != 1 and steps < 60:
            number, steps = (3 * number + 1 if number % 2 else number // 2), steps + 1
        assert out["out"][item] == steps * 1000 + item


def test_carried_tokens_deliver_every_stage() -> None:
    trial, out = launch("ops/wait.token/i32/carried_9")
    total = 0
    for stage in trial.inputs["a"].reshape(9, -1).astype(np.int64):
        total = total * 3 + stage
    assert np.array_equal(out["out"].astype(np.int64) & 0xFFFFFFFF, total & 0xFFFFFFFF)


@pytest.mark.parametrize("dtype", ["f32", "i32", "f16", "u64"])
def test_constants_are_stored_bit_for_bit(dtype: str) -> None:
    out = run(const_kernel(dtype), {}, {})["out"]
    bits = out.view(np.dtype(f"uint{DTYPES[dtype].bits}")).tolist()
    assert bits == [*finite_specials(DTYPES[dtype]), *nonfinite_specials(DTYPES[dtype])]


def test_products_of_the_contraction_case_differ_when_rounded_once() -> None:
    """Otherwise `ops/mul.then_add` could not see a device that contracts."""
    trial, out = launch("ops/mul.then_add/f32/ties")
    a, b, c = (trial.inputs[name] for name in "abc")
    fused = [
        encode(DTYPES["f32"], Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))
        for x, y, z in zip(a, b, c, strict=True)
    ]
    assert np.count_nonzero(out["out"].view(np.uint32) != np.array(fused, np.uint32)) > len(fused) // 10
