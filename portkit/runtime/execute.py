"""Running a compiled program launch by launch: temporaries come from the pool and go back after their last use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portkit.compiler.index import Expr, Variable, evaluate, leaves
from portkit.compiler.plan import size_of
from portkit.compiler.program import Launch, Program
from portkit.contract import Executable
from portkit.errors import DeviceMismatch, ShapeError, UsageError
from portkit.runtime.buffers import Buffer
from portkit.runtime.devices import RuntimeDevice
from portkit.spec.geometry import grid_counts


@dataclass(frozen=True, slots=True)
class Step:
    """A launch of which everything is known but the buffers."""

    name: str
    executable: Executable
    grid: tuple[int, ...]
    slots: tuple[int, ...]
    scalars: tuple[int | float, ...]


def run_program(
    device: RuntimeDevice, program: Program, inputs: Sequence[Buffer], variables: Mapping[str, int] | None = None
) -> list[Buffer]:
    """Start every launch of a program and return its outputs, which are complete once the device is synchronised.

    `variables` gives the dynamic dimensions by name.
    Raises `UsageError` for a wrong number of inputs or a variable without a value in its bounds, `ShapeError` for an
    input that is too small, `DeviceMismatch` for one of another device, `OutOfMemory`, `CompileError`.
    """
    known = values(program, variables)
    sizes = [size_of(slot.bytes, known) for slot in program.slots]
    check_inputs(device, program, inputs, sizes)
    held = dict(zip(program.inputs, inputs, strict=True))
    last = {slot: at for at, launch in enumerate(program.launches) for slot in launch.buffers}
    with device.lock:
        for at, launch in enumerate(program.launches):
            step = resolve(device, launch, known)
            for slot in step.slots:
                if slot not in held:
                    held[slot] = device.allocate(sizes[slot])
            handles = [held[slot].handle for slot in step.slots]
            device.queue.launch(step.name, step.executable, step.grid, handles, step.scalars)
            for slot in set(step.slots):
                if last[slot] == at and program.slots[slot].role == "temporary":
                    del held[slot]
    return [held[slot] if slot in held else device.allocate(sizes[slot]) for slot in program.outputs]


def values(program: Program, variables: Mapping[str, int] | None) -> dict[Expr, int]:
    """Return the value of every variable of a program. Raises `UsageError` for one without a value in its bounds."""
    given = dict(variables or {})
    found: dict[Expr, int] = {}
    for variable in variables_of(program):
        if variable.name not in given:
            raise UsageError(f"dimension {variable.name} has no value; it can be {variable.low} to {variable.high}")
        value = found[variable] = given[variable.name]
        if not variable.low <= value <= variable.high:
            raise UsageError(f"dimension {variable.name} is {value}, not in {variable.low} to {variable.high}")
    return found


def variables_of(program: Program) -> list[Variable]:
    """Return the dynamic dimensions that a program depends on, by name."""
    found: set[Expr] = set()
    for launch in program.launches:
        for expression in (*launch.grid, *launch.scalars):
            if isinstance(expression, Expr):
                found |= leaves(expression)
    for slot in program.slots:
        for expression in (slot.bytes, *slot.shape):
            found |= leaves(expression)
    return sorted((leaf for leaf in found if isinstance(leaf, Variable)), key=lambda v: v.name)


def resolve(device: RuntimeDevice, launch: Launch, known: Mapping[Expr, int]) -> Step:
    """Return a launch with its kernel compiled and its grid and scalars as numbers. Raises `CompileError`."""
    kernel = launch.kernel
    scalars = tuple(int(evaluate(s, dict(known))) if isinstance(s, Expr) else s for s in launch.scalars)
    grid = tuple(size_of(extent, known) for extent in launch.grid)
    if not grid:
        grid = grid_counts(kernel, dict(zip((s.name for s in kernel.scalars), scalars, strict=True)))
    return Step(kernel.name, device.kernels.executable(kernel), grid, launch.buffers, scalars)


def check_inputs(device: RuntimeDevice, program: Program, inputs: Sequence[Buffer], sizes: Sequence[int]) -> None:
    """Raise as `run_program` does for inputs that do not fit."""
    device.check()
    if len(inputs) != len(program.inputs):
        raise UsageError(f"the program takes {len(program.inputs)} inputs, got {len(inputs)}")
    for place, (slot, buffer) in enumerate(zip(program.inputs, inputs, strict=True)):
        if buffer.device is not device:
            raise DeviceMismatch(f"input {place} is on device {buffer.device.name}, the program runs on {device.name}")
        if buffer.size < sizes[slot]:
            raise ShapeError(f"input {place} has {buffer.size} bytes, the program reads {sizes[slot]}")
