"""The host's just-in-time compiler: LLVM IR text to callable addresses, with no compiler on the machine.

Compiling (text to object bytes, cacheable) and loading (object bytes to addresses) are separate. Loading goes through
ORC and JITLink: 0.06 ms for a small kernel against 1.2 ms for MCJIT, and unloading gives all of its memory back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import llvmlite.binding as llvm

from portkit.backends.toolkit.llvm import CodeGenerator
from portkit.errors import CompileError, InvalidHandle

_LINK_HINT = "if symbols failed to materialize, the assembly calls a function that this process does not have"


class LoadedCode:
    """Machine code in memory; its addresses are valid until `release`."""

    def __init__(self, tracker: Any) -> None:
        """Own *tracker*, which keeps one linked library in memory."""
        self._tracker = tracker

    def address(self, name: str) -> int:
        """Return the address of the exported function *name*.

        Raises:
            InvalidHandle: the code was released, or *name* was not exported when it was loaded.
        """
        if self._tracker is None:
            raise InvalidHandle(f"address of {name!r}: this code was released; load it again")
        try:
            return int(self._tracker[name])
        except KeyError as error:
            raise InvalidHandle(f"{name!r} was not exported when this code was loaded") from error

    def release(self) -> None:
        """Unload the code and free its memory; nobody may be executing it. A second call does nothing."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close()

    def __enter__(self) -> LoadedCode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class HostJit(CodeGenerator):
    """Compiles for this very processor and loads the result into this process; safe to use from several threads."""

    def __init__(self) -> None:
        """Prepare LLVM for the host.

        Raises:
            CompileError: this build of LLVM cannot generate code for the host, or the system forbids executable memory.
        """
        try:
            super().__init__(host_machine())
            llvm.check_jit_execution()
            self._linker = llvm.create_lljit_compiler(host_machine(), use_jit_link=True, suppress_errors=True)
        except (OSError, RuntimeError) as error:
            raise CompileError(f"LLVM cannot run code on this machine: {error}") from error
        self._serials = itertools.count()

    def load(self, object_code: bytes, exports: Iterable[str] = ("kernel",)) -> LoadedCode:
        """Link *object_code* into this process; what it leaves undefined is looked up in the process.

        Raises:
            CompileError: a symbol is missing, or *object_code* is not an object file of this machine.
        """
        # A library name is never reusable, even after its code is gone.
        library = llvm.JITLibraryBuilder().add_object_img(object_code).add_current_process()
        for name in exports:
            library.export_symbol(name)
        try:
            return LoadedCode(library.link(self._linker, f"portkit{next(self._serials)}"))
        except RuntimeError as error:
            raise CompileError(f"LLVM could not link: {str(error).strip()}; {_LINK_HINT}") from error


def host_machine(opt: int = 2) -> Any:
    """Return a target machine with every feature of the host, whose code fits the linker of `HostJit`.

    Instruction selection takes time quadratic in a block's length, but linear at *opt* 0.

    The small position-independent model suits JITLink, which lays one module out contiguously and reaches the rest of
    the process through stubs.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    features = llvm.get_host_cpu_features().flatten()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=opt, reloc="pic", codemodel="small", jit=True
    )
