"""Recorded programs: planned, checked and packed once, then replayed with other inputs.

Temporaries have fixed places in the device's arena, which all recordings take turns in; inputs and outputs are given to
each replay, and every replay has outputs of its own. On a device with `contract.Replay` a replay is one call.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence

from portkit.compiler.plan import Lifetime, Plan, colours, lifetimes, place, size_of
from portkit.compiler.program import Program
from portkit.contract import Call, Parameter, Recording, Replay, SubBuffers
from portkit.runtime.buffers import Buffer
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.execute import Step, check_inputs, resolve, run_program, values
from portkit.runtime.pool import Pool

_RECORDED = 256
"""Programs that a device remembers how to replay."""


def run(
    device: RuntimeDevice, program: Program, inputs: Sequence[Buffer], variables: Mapping[str, int] | None = None
) -> list[Buffer]:
    """Start a program and return its outputs, as `run_program` does.

    What runs once is not worth planning: a program is recorded when it comes again, and replayed from then on.
    """
    device.check()
    with device.lock:
        key = _key(program, variables)
        if key not in device.recorded:
            _keep(device, key, program, None)
            return run_program(device, program, inputs, variables)
    return recorded(device, program, variables).replay(inputs)


def recorded(device: RuntimeDevice, program: Program, variables: Mapping[str, int] | None = None) -> Recorded:
    """Return a program ready to be replayed on a device for given dimensions; the same one while it is remembered."""
    device.check()
    with device.lock:
        key = _key(program, variables)
        known = device.recorded.get(key, (program, None))[1]
        if known is None:
            known = Recorded(device, program, variables)
            _keep(device, key, program, known)
        device.recorded.move_to_end(key)
    return known


def _key(program: Program, variables: Mapping[str, int] | None) -> tuple[object, ...]:
    return (id(program), *sorted((variables or {}).items()))


def _keep(device: RuntimeDevice, key: tuple[object, ...], program: Program, made: Recorded | None) -> None:
    """Remember a program, which is kept with it so that its identity is not another's, and forget the oldest."""
    device.recorded[key] = (program, made)
    if len(device.recorded) > _RECORDED:
        device.recorded.popitem(last=False)


class Recorded:
    """A program on a device, for given values of its dynamic dimensions."""

    def __init__(self, device: RuntimeDevice, program: Program, variables: Mapping[str, int] | None = None) -> None:
        """Compile what is not compiled yet, and plan; what is recorded on the device is so at the first replay.

        Raises `UsageError` for a variable without a value in its bounds, `CompileError`.
        """
        self.device = device
        self.program = program
        known = values(program, variables)
        self._sizes = [size_of(slot.bytes, known) for slot in program.slots]
        self._steps = [resolve(device, launch, known) for launch in program.launches]
        self._names = [step.name for step in self._steps]
        self._alive = lifetimes(program, known)
        self.plan: Plan = place(self._alive)
        self._made = list(dict.fromkeys(slot for slot in program.outputs if slot not in program.inputs))
        used = {slot for step in self._steps for slot in step.slots}
        self._given = [slot for slot in dict.fromkeys((*program.inputs, *self._made)) if slot in used]
        self._memory: _Temporaries | None = None
        self._recording: Recording | None = None

    def replay(self, inputs: Sequence[Buffer]) -> list[Buffer]:
        """Start the program and return its outputs, complete once the device is synchronised.

        Raises as `run_program`.
        """
        device, program = self.device, self.program
        check_inputs(device, program, inputs, self._sizes)
        with device.lock:
            given = dict(zip(program.inputs, inputs, strict=True))
            made = device.allocate_each([self._sizes[slot] for slot in self._made])
            given.update(zip(self._made, made, strict=True))
            if self._memory is None or not self._memory.current:
                self._lay_out()
            if self._recording is not None:
                device.queue.replay(self._names, self._recording, [given[slot].handle for slot in self._given])
            else:
                self._launch_each(given)
        return [given[slot] for slot in program.outputs]

    def _lay_out(self) -> None:
        """Give every temporary its place, and record the launches where the device can."""
        self._recording = self._memory = None
        raw = self.device.device
        self._memory = _Temporaries(self.device, self._alive, self.plan)
        if isinstance(raw, Replay) and self._steps:  # outputs may all be inputs, handed through
            place_of = {slot: at for at, slot in enumerate(self._given)}
            self._recording = raw.record([self._call(step, place_of) for step in self._steps])

    def _call(self, step: Step, place_of: Mapping[int, int]) -> Call:
        assert self._memory is not None
        fixed = self._memory.handles
        buffers = [Parameter(place_of[slot]) if slot in place_of else fixed[slot] for slot in step.slots]
        return Call(step.executable, step.grid, buffers, step.scalars)

    def _launch_each(self, given: Mapping[int, Buffer]) -> None:
        assert self._memory is not None
        fixed = self._memory.handles
        for step in self._steps:
            handles = [given[slot].handle if slot in given else fixed[slot] for slot in step.slots]
            self.device.queue.launch(step.name, step.executable, step.grid, handles, step.scalars)


class _Temporaries:
    """A buffer for each temporary: parts of the device's arena, or buffers that they take turns in."""

    def __init__(self, device: RuntimeDevice, alive: Sequence[Lifetime], plan: Plan) -> None:
        self._device = device
        self._arena: Buffer | None = None
        self._buffers: list[Buffer] = []
        self.handles: dict[int, int] = {}
        if isinstance(device.device, SubBuffers) and plan.arena_bytes <= device.capabilities.limits.buffer_bytes:
            self._cut_arena(device.device, alive, plan)
        else:
            made = colours(alive)
            self._buffers = [device.allocate(size) for size in made.sizes]
            self.handles = {slot: self._buffers[colour].handle for slot, colour in made.of.items()}

    def _cut_arena(self, raw: SubBuffers, alive: Sequence[Lifetime], plan: Plan) -> None:
        self._arena = arena = self._device.arena(plan.arena_bytes)
        for life in alive:
            self.handles[life.slot] = raw.view(arena.handle, plan.offsets[life.slot], life.size)
        weakref.finalize(self, _release, self._device.pool, list(self.handles.values()), arena).atexit = False

    @property
    def current(self) -> bool:
        """Whether these are still where the device keeps its temporaries."""
        return self._arena is None or self._arena is self._device.arena(self._arena.size)


def _release(pool: Pool, parts: Sequence[int], arena: Buffer) -> None:
    for part in parts:
        pool.release(part, arena)
