"""The worst error of a unary f32 function over all 2^32 arguments, found by the cpu backend itself.

    python -m bench.exhaustive_f32 [--base | --fma] [NAME ...]

One kernel computes the function in f32, by base forms with `--base`, by `mul.add` too with `--fma`, else by all that
the device has, and beside it the same function in f64, and keeps the argument with the largest difference in ulp. The
f64 derivations err by some 2^-28 ulp of f32; the tests judge them against many digits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from portkit.compiler.accuracy import ulp_bound
from portkit.compiler.decompose import BASE, Features, emit
from portkit.compiler.derived.code import Code
from portkit.contract import Backend, find_backend
from portkit.spec.builder import Builder, Reg
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel
from portkit.spec.types import F32, F64, Type, max_finite

NAMES = ("recip", "sqrt", "rsqrt", "exp", "exp2", "log", "log2", "sin", "cos", "tan", "tanh", "sigmoid", "erf")
GROUPS, WORKERS, VECTOR = 4096, 16, 8
_TURNS = (1 << 32) // (GROUPS * WORKERS * VECTOR)
_SLICE = GROUPS // 64
_BIAS = F64.emax
_TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Worst:
    """The largest error in ulp and the argument that has it."""

    error: float
    argument: float


def search(name: str, features: Features, backend: Backend) -> Worst:
    """Return the worst argument of a function, with its error as f64 sees it."""
    device = backend.open()
    try:
        kernel = _kernel(name, features, Features.of(backend.capabilities))
        executable = device.compile(kernel)
        count = _SLICE * WORKERS * VECTOR
        errors, places = device.allocate(count * 8), device.allocate(count * 4)
        found: list[Worst] = []
        for first in range(0, GROUPS, _SLICE):
            scalars = {"first": first}
            device.launch(executable, grid_counts(kernel, scalars), [errors, places], [first])
            device.synchronise(_TIMEOUT)
            error = np.frombuffer(device.read(errors, 0, count * 8), np.float64)
            place = np.frombuffer(device.read(places, 0, count * 4), np.float32)
            at = int(np.argmax(error))
            found.append(Worst(float(error[at]), float(place[at])))
        return max(found, key=lambda worst: worst.error)
    finally:
        device.close()


def _kernel(name: str, features: Features, native: Features) -> Kernel:
    b = Builder(f"exhaust_{name}")
    count = _SLICE * WORKERS * VECTOR
    errors, places = b.buffer("errors", "f64", count, "write"), b.buffer("places", "f32", count, "write")
    first = b.scalar("first", "i32")
    group = b.grid(_SLICE)
    worker = b.lane(WORKERS)
    c = Code(b, native)
    item = c.add(c.mul(group, WORKERS), worker)
    lanes = b.op("mov.pack", *(b.const("u32", n) for n in range(VECTOR)))
    start = c.mul(c.add(c.mul(c.add(group, first), WORKERS), worker), _TURNS * VECTOR)
    none = c.like(Type(F64, VECTOR), -1.0), c.like(Type(F32, VECTOR), 0.0)
    with b.serial(_TURNS, worst=none[0], where=none[1]) as loop:
        bits = c.bits(c.add(start, c.mul(loop.index, VECTOR)), "u32")
        inside = Code(b, native)
        x = inside.bits(inside.add(lanes, b.splat(bits, VECTOR)), F32)
        error = _error(inside, emit(b, name, [x], F32, features), emit(b, name, [inside.cast(x, F64)], F64, native))
        worse = inside.lt(loop["worst"], error)
        loop.next(worst=inside.where(worse, error, loop["worst"]), where=inside.where(worse, x, loop["where"]))
    at = c.mul(item, VECTOR)
    b.store_vec(errors, at, loop["worst"])
    b.store_vec(places, at, loop["where"])
    return b.build()


def _error(c: Code, result: Reg, exact: Reg) -> Reg:
    """Return by how many ulp of f32 a result is off; what rounds to infinity counts as infinite."""
    size = c.bits(c.band(c.bits(exact, "u64"), (1 << 63) - 1), F64)
    limit = float(max_finite(F32)) * (1 + 2.0**-25)
    rounded = c.lt(size, limit, exact, c.eq(exact, exact, c.mul(exact, inf), exact))
    exponent = c.shr(c.bits(size, "i64"), F64.precision - 1)
    exponent = c.min(c.max(exponent, F32.emin + _BIAS), F32.emax + _BIAS)
    units = c.bits(c.shl(c.sub(c.like(exponent, 2 * _BIAS + F32.precision - 1), exponent), F64.precision - 1), F64)
    wide = c.cast(result, F64)
    apart = c.mul(c.sub(wide, rounded), units)
    apart = c.bits(c.band(c.bits(apart, "u64"), (1 << 63) - 1), F64)
    apart = c.eq(wide, rounded, 0.0, c.eq(apart, apart, apart, inf))
    return c.eq(wide, wide, apart, c.eq(exact, exact, apart, 0.0))


def main(arguments: Sequence[str]) -> int:
    """Print the worst error of each function beside its bound; return 1 where one is larger."""
    backend = find_backend("cpu")
    native = Features.of(backend.capabilities)
    chosen = {"--base": BASE, "--fma": Features(fma=native.fma)}
    features = next((chosen[a] for a in arguments if a in chosen), native)
    missed = 0
    for name in [a for a in arguments if a not in chosen] or NAMES:
        begin = time.perf_counter()
        worst, bound = search(name, features, backend), ulp_bound(name, F32, features)
        missed |= worst.error > bound
        seconds = time.perf_counter() - begin
        place = worst.argument.hex()
        print(f"{name:8} {worst.error:.4f} ulp, bound {bound:.1f}, at {place}, {seconds:.1f} s", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
