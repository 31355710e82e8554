"""A device that keeps the spec and nothing more: wherever the spec frees something, it draws its choice at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.reference import engine, numerics
from portkit.reference.engine import Mask
from portkit.reference.faults import Site
from portkit.reference.generator import Stream
from portkit.reference.memory import allocate
from portkit.reference.ulp import min_normal, next_down, next_up
from portkit.reference.values import Values
from portkit.spec.forms import accuracy
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import BF16, F16, F64, DType


def run(
    kernel: Kernel, buffers: Mapping[str, NDArray], draws: Stream, flush: frozenset[str] = frozenset()
) -> dict[str, NDArray]:
    """Return one admitted outcome of a launch without scalars."""
    memories = allocate(kernel, {}, buffers)
    engine.run(kernel, _Wild(kernel, memories, draws, flush), {})
    return {name: memory.data[: memory.extent] for name, memory in memories.items()}


def _split(x: NDArray) -> tuple[NDArray, NDArray]:
    return np.frexp(x.astype(np.float64))


class _Wild(Values):
    def __init__(self, kernel: Kernel, memories: Mapping[str, Any], draws: Stream, flush: frozenset[str]) -> None:
        super().__init__(kernel, memories)
        self._draws = draws
        self._flush = flush

    def pure(self, position: int, instr: Instr) -> Callable[..., NDArray]:
        plain = super().pure(position, instr)
        if not instr.args or instr.name in ("mov.splat", "mov.lane", "mov.pack", "mov.bits"):
            return plain
        source = self.kernel.types[instr.args[0]].dtype
        assert instr.type is not None
        target = instr.type.dtype
        if source.is_float and instr.form.extension == "math" and instr.form.kind != "trunc":
            plain = self._native(instr.name, source, plain)
        if source.is_float and instr.name in ("reduce.max", "reduce.min"):
            plain = self._any_zero(plain)
        if instr.name in ("phi.lt", "phi.eq"):
            return self._compared(plain, source, instr.args[0] == instr.args[1])
        return lambda *xs: self._flushed(plain(*(self._flushed(x, source) for x in xs)), target)

    def _compared(self, plain: Callable[..., NDArray], dtype: DType, same: bool) -> Callable[..., NDArray]:
        """Flush what is compared, not what is selected; one register used twice is flushed once."""

        def compare(a: NDArray, b: NDArray, x: NDArray, y: NDArray) -> NDArray:
            left = self._flushed(a, dtype)
            return plain(left, left if same else self._flushed(b, dtype), x, y)

        return compare

    def _flushed(self, x: NDArray, dtype: DType) -> NDArray:
        if dtype.name not in self._flush:
            return x
        tiny = (np.abs(x.astype(np.float64)) < min_normal(dtype)) & (x != 0) & (self._toss(x) == 1)
        return np.where(tiny, np.where(self._toss(x) == 1, 0.0, -0.0), x).astype(x.dtype)

    def _toss(self, x: NDArray, low: int = 0, high: int = 1) -> NDArray:
        return self._draws.integers(low, high, x.size).reshape(x.shape)

    def _native(self, name: str, dtype: DType, plain: Callable[..., NDArray]) -> Callable[..., NDArray]:
        steps = floor(accuracy(name, dtype) - (1.5 if dtype == F64 else 0.5))  # f64 values are not rounded once

        def native(x: NDArray) -> NDArray:
            result = plain(x)
            exact = ~np.isfinite(x) | (x == 0) | ~np.isfinite(result) | (x == 1) | (np.abs(_split(result)[0]) == 0.5)
            move = np.where(exact, 0, self._toss(x, -steps, steps))
            for step in range(steps):
                moved = np.where(move > step, next_up(result, dtype), result)
                moved = np.where(move < -step, next_down(result, dtype), moved)
                result = np.where(_split(moved)[1] == _split(result)[1], moved, result)  # one ulp is the same there
            return result

        return native

    def _any_zero(self, plain: Callable[..., NDArray]) -> Callable[..., NDArray]:
        def extreme(*xs: NDArray) -> NDArray:
            result = plain(*xs)
            shape = np.broadcast_shapes(*(x.shape for x in xs))
            result = np.broadcast_to(result, shape)
            plus = np.logical_or.reduce([np.broadcast_to((x == 0) & ~np.signbit(x), shape) for x in xs])
            minus = np.logical_or.reduce([np.broadcast_to((x == 0) & np.signbit(x), shape) for x in xs])
            other = (result == 0) & plus & minus & (self._toss(result) == 1)
            return np.where(other, -result, result)

        return extreme

    def bind_group(self, site: Site) -> Callable[..., NDArray]:
        plain, kind = super().bind_group(site), site.instr.form.kind
        dtype = self.kernel.types[site.instr.result].dtype
        if not dtype.is_float or kind not in ("add", "mul"):
            return plain
        step = self._any_step(kind, dtype)

        def fold(mask: Mask, x: NDArray) -> NDArray:
            lanes = self.chunk.lanes
            wide = np.broadcast_to(x, (len(x), lanes, *x.shape[2:]))
            wide = wide.astype(np.float32) if kind == "add" and dtype in (F16, BF16) else wide
            parts = [wide[:, lane : lane + 1] for lane in np.argsort(self._draws.bits(lanes))]
            while len(parts) > 1:
                first = parts.pop(int(self._draws.integers(0, len(parts) - 1, 1)[0]))
                at = int(self._draws.integers(0, len(parts) - 1, 1)[0])
                parts[at] = step(first, parts[at])
            return self._flushed(parts[0].astype(dtype.numpy), dtype)

        return fold

    def _any_step(self, kind: str, dtype: DType) -> Callable[[NDArray, NDArray], NDArray]:
        if kind == "add" and dtype in (F16, BF16):
            return np.add
        plain = numerics.fold(kind, dtype)
        return lambda a, b: self._flushed(plain(self._flushed(a, dtype), self._flushed(b, dtype)), dtype)
