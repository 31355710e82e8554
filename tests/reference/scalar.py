"""One lane at a time with a program counter: an i32 interpreter that shares no control flow with the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from portkit.spec.kernel import Instr, Kernel


def wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


_STEPS: dict[str, Callable[..., int]] = {
    "add": lambda a, b: wrap(a + b),
    "mul": lambda a, b: wrap(a * b),
    "reduce.xor": lambda a, b: a ^ b,
    "reduce.and": lambda a, b: a & b,
    "reduce.max": max,
    "phi.lt": lambda a, b, x, y: x if a < b else y,
}


def run_lane(kernel: Kernel, buffers: Mapping[str, list[int]], group: int, lane: int) -> None:
    """Execute the body of a kernel of one grid and one lane loop for one lane, in place."""
    registers: dict[str, int] = {}
    open_loops: list[tuple[int, int, int]] = []  # position of the head, index, count
    at = 0
    while at < len(kernel.body):
        instr = kernel.body[at]
        if instr.name == "loop.serial":
            count = registers[instr.args[0]] if instr.args else instr.imms[0]
            at = _enter(kernel, registers, open_loops, at, count)
            continue
        if instr.name == "endloop" and open_loops and instr.args[0] == kernel.body[open_loops[-1][0]].result:
            head, index, count = open_loops.pop()
            registers.update([(carry, registers[value]) for carry, value in instr.carries])
            if index + 1 < count:
                open_loops.append((head, index + 1, count))
                registers[kernel.body[head].result] = index + 1
                at = head + 1 + len(instr.carries)
                continue
        elif instr.name in ("loop.grid", "loop.lane"):
            registers[instr.result] = group if instr.name == "loop.grid" else lane
        elif instr.name != "endloop":
            _execute(instr, registers, buffers)
        at += 1


def _enter(
    kernel: Kernel, registers: dict[str, int], open_loops: list[tuple[int, int, int]], head: int, count: int
) -> int:
    """Set the carries to their initial values and return where to go on: the body, or behind the loop."""
    at = head + 1
    while kernel.body[at].name == "phi.carry":
        registers[kernel.body[at].result] = registers[kernel.body[at].args[0]]
        at += 1
    if count > 0:
        open_loops.append((head, 0, count))
        registers[kernel.body[head].result] = 0
        return at
    while not (kernel.body[at].name == "endloop" and kernel.body[at].args == (kernel.body[head].result,)):
        at += 1
    return at + 1


def _execute(instr: Instr, registers: dict[str, int], buffers: Mapping[str, list[int]]) -> None:
    operands = [registers[name] for name in instr.args]
    if instr.name == "mov.const":
        registers[instr.result] = wrap(instr.imms[0])
    elif instr.name == "load":
        registers[instr.result] = buffers[instr.mems[0]][operands[0]]
    elif instr.name == "store":
        buffers[instr.mems[0]][operands[0]] = operands[1]
    else:
        registers[instr.result] = _STEPS[instr.name](*operands)
