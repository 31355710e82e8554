"""From LLVM IR text to machine code for one target, through llvmlite; shared by every port that prints LLVM IR.

No pass reassociates, contracts or otherwise changes a float result: the text carries no fast-math flags, and the target
keeps LLVM's default of fusing only what the text already fuses. Importing this module loads llvmlite, so a port imports
it when it opens, not before.
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite.binding.newpassmanagers import NewPassManager

from portkit.errors import CompileError


class Tuning(NamedTuple):
    """The settings of LLVM's new pass manager that portkit chooses."""

    speed_level: int
    loop_vectorization: bool


class Effort(enum.Enum):
    """How hard to optimise: all give the same bits, `QUICK` compiles in two thirds of the time of `FULL`.

    `FULL` also vectorises loops. LLVM vectorises a float reduction only in its written order, so this too changes no
    result. Straight-line vectorisation stays off: it doubles the time of long bodies and the printer emits vectors
    itself. So does unrolling, which costs half as much again and gains nothing: the vectoriser interleaves by itself,
    and a kernel that wants more has it written out. `NONE` is for bodies of thousands of instructions, on which LLVM's
    passes take quadratic time.
    """

    NONE = Tuning(speed_level=0, loop_vectorization=False)
    QUICK = Tuning(speed_level=1, loop_vectorization=False)
    FULL = Tuning(speed_level=3, loop_vectorization=True)


def _compile_error(stage: str, error: RuntimeError) -> CompileError:
    return CompileError(f"LLVM could not {stage}: {str(error).strip()}")


class CodeGenerator:
    """Compiles LLVM IR text for one processor; safe to use from several threads (llvmlite runs one call at a time)."""

    def __init__(self, machine: Any) -> None:
        """Generate code with *machine*, an `llvmlite.binding.TargetMachine` whose target is initialised."""
        self._machine = machine
        self._layout = str(machine.target_data)

    def object_code(self, text: str, effort: Effort = Effort.FULL) -> bytes:
        """Compile *text* to a relocatable object file.

        Raises:
            CompileError: LLVM cannot parse, verify or select *text*; its own words are in the message.
        """
        with self._optimised(text, effort) as module:
            return _generate(self._machine.emit_object, module)

    def assembly(self, text: str, effort: Effort = Effort.FULL) -> str:
        """Compile *text* to assembler text, as a failure card shows it.

        Raises:
            CompileError: as for `object_code`.
        """
        with self._optimised(text, effort) as module:
            return _generate(self._machine.emit_assembly, module)

    @contextmanager
    def _optimised(self, text: str, effort: Effort) -> Generator[Any]:
        """Parse, verify and optimise *text* in a context of its own, so that all of its memory goes with it."""
        with llvm.create_context() as context, _parse(text, context) as module:
            module.triple = self._machine.triple
            module.data_layout = self._layout
            self._run_passes(module, effort)
            yield module

    def _run_passes(self, module: Any, effort: Effort) -> None:
        tuning = llvm.create_pipeline_tuning_options(speed_level=effort.value.speed_level)
        tuning.loop_vectorization = effort.value.loop_vectorization
        tuning.loop_unrolling = False
        builder = llvm.create_pass_builder(self._machine, tuning)
        # A pass manager that holds the inliner must not run twice (llvm-project #58939), so each module gets its own.
        manager = builder.getModulePassManager()
        try:
            manager.run(module, builder)
        finally:
            _dispose(manager)


def _dispose(manager: Any) -> None:
    """Free a pass manager (100 kB), which `close` of llvmlite 0.50 leaves: an empty method hides the right one."""
    NewPassManager._dispose(manager)
    manager.detach()


def _parse(text: str, context: Any) -> Any:
    try:
        module = llvm.parse_assembly(text, context)
    except RuntimeError as error:
        raise _compile_error("parse its input", error) from error
    try:
        module.verify()
    except RuntimeError as error:
        module.close()
        raise _compile_error("verify its input", error) from error
    return module


def _generate(emit: Any, module: Any) -> Any:
    try:
        return emit(module)
    except RuntimeError as error:
        raise _compile_error("generate code", error) from error
