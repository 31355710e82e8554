"""A compiled program: kernels to launch in order over numbered buffers.

The compiler makes one from a graph; the planner lays out its temporaries, the runtime launches it. Sizes and scalars
may depend on dynamic dimensions: they are then expressions over `Variable`s, which a run gives values to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from portkit.compiler.index import Expr
from portkit.compiler.storage import Storage
from portkit.spec.kernel import Kernel
from portkit.spec.types import DType

Size: TypeAlias = int | Expr
Role = Literal["input", "output", "temporary"]


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel over slots.

    `kernel` is legal on the device. `grid` is the extent of each grid loop, outermost first; empty where the host
    computes it from the kernel and the scalars (`portkit.spec.geometry.grid_counts`). `buffers` are slot numbers and
    `scalars` values, both in header order.
    """

    kernel: Kernel
    grid: tuple[Size, ...]
    buffers: tuple[int, ...]
    scalars: tuple[float | Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """A buffer of a program: its size in bytes, who provides it, what it holds, and how elements are stored."""

    bytes: Size
    role: Role
    dtype: DType
    shape: tuple[Size, ...]
    storage: Storage


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Program:
    """Launches in order; `inputs` and `outputs` are slot numbers in the order of the caller's arguments and results.

    An output may be an input, or be named twice. A program is equal to itself only, so that what is prepared for it is
    found at once.
    """

    launches: tuple[Launch, ...]
    slots: tuple[Slot, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
