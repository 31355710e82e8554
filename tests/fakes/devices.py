"""Fake backends, one fault each; the device process imports them as `tests.fakes.devices:NAME`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from portkit.contract import DeviceInfo, NumericLimits
from portkit.errors import CompileError, DeviceHang, DeviceLost, OutOfMemory
from portkit.spec.kernel import Kernel
from tests.fakes import fenv
from tests.fakes.evaluator import CAPABILITIES, Evaluator, FakeBackend, Program


def _sleep_for_ever() -> None:
    while True:
        time.sleep(3600)


def _die() -> None:
    os.write(2, b"vendor: segmentation fault in lane 7\n")
    os.kill(os.getpid(), signal.SIGSEGV)


class FaultyByName(Evaluator):
    """Right, but for kernels named after a fault."""

    launches = 0

    def compile(self, kernel: Kernel) -> Program:
        if kernel.name.startswith("uncompilable"):
            try:
                raise RuntimeError("vendor compiler: register pressure")
            except RuntimeError as error:
                raise CompileError("cannot compile") from error
        if kernel.name.startswith("verbose"):
            raise CompileError("no " * 50_000)
        if kernel.name.startswith("foreign"):
            raise KeyError("vendor key")
        return super().compile(kernel)

    def launch(
        self, executable: Program, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        name = executable.kernel.name
        self.launches += 1
        actions = {"crash": _die, "hang": _sleep_for_ever, "exit": lambda: os._exit(0), "noise": _print_everywhere}
        action = actions.get(name.partition("_")[0])
        if action is not None:
            action()
        super().launch(executable, grid, buffers, scalars)
        last = self.buffers[buffers[-1]]
        if name.startswith("wrong") or (name.startswith("flaky") and self.launches == 1):
            last[0] ^= 1
        if name.startswith("stray"):
            self.buffers[buffers[-1] + 1][0] ^= 1
        if name.startswith("clobber"):
            self.buffers[buffers[0]][0] ^= 1
        if name.startswith("overrun"):
            extent = executable.kernel.buffers[-1].extent.evaluate({"n": 64})
            last[extent * executable.kernel.buffers[-1].dtype.bytes] ^= 1

    def synchronise(self, timeout: float) -> None:
        super().synchronise(timeout)


def _print_everywhere() -> None:
    sys.stdout.write("vendor banner on standard output\n" * 5000)
    sys.stdout.flush()
    os.write(1, b"\xff\xff\xff\xffraw bytes\n")
    os.write(2, b"vendor warning\n" * 5000)


class DoesNothing(Evaluator):
    """Says yes to everything and computes nothing."""

    def launch(
        self, executable: Program, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        del executable, grid, buffers, scalars


class FlushesItself(Evaluator):
    """Sets its own process to flush-to-zero, as a library built with -ffast-math does; computes with integers."""

    def __init__(self) -> None:
        super().__init__()
        fenv.flush_to_zero()


class HangsOnSynchronise(Evaluator):
    """Notices by itself that it hangs."""

    def synchronise(self, timeout: float) -> None:
        raise DeviceHang(f"nothing after {timeout} s")


class LosesDevice(Evaluator):
    """Reports that the device is gone, from a living process."""

    def synchronise(self, timeout: float) -> None:
        raise DeviceLost("the card fell off the bus")


class AlwaysFull(Evaluator):
    """Has no memory."""

    def allocate(self, size: int, align: int = 64) -> int:
        raise OutOfMemory(f"no room for {size} bytes")


class WrongTypes(Evaluator):
    """Answers with the wrong types."""

    def allocate(self, size: int, align: int = 64) -> Any:
        return "buffer"


class ShortRead(Evaluator):
    """Reads one byte less than asked."""

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return super().read(handle, offset, size)[:-1]


class WrongInfo(Evaluator):
    """Describes itself with a dict."""

    info: ClassVar[Any] = {"device": "x"}


class ExitsOnOpen(Evaluator):
    """Calls sys.exit when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        sys.exit(3)


class CheatsQuietly(Evaluator):
    """Tries to import the reference and swallows the refusal."""

    def __init__(self) -> None:
        super().__init__()
        try:
            __import__("portkit.reference")
        except Exception:  # noqa: BLE001
            self.info = DeviceInfo("honest")


class CheatsByPath(Evaluator):
    """Loads a file of the judge under another name."""

    def __init__(self) -> None:
        super().__init__()
        import importlib.util
        from pathlib import Path

        import portkit

        path = Path(portkit.__file__).parent / "reference" / "__init__.py"
        spec = importlib.util.spec_from_file_location("harmless", path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["harmless"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["harmless"])


class CheatsByRemovingTheGuard(Evaluator):
    """Takes the guard away, then imports the judge."""

    def __init__(self) -> None:
        super().__init__()
        sys.meta_path[:] = [f for f in sys.meta_path if "Guard" not in type(f).__name__]
        __import__("portkit.reference")


class CheatsWhenCompiling(Evaluator):
    """Imports the judge only when a kernel is compiled."""

    def compile(self, kernel: Kernel) -> Program:
        __import__("portkit.conformance.case")

        return super().compile(kernel)


class CrashesOnClose(Evaluator):
    """Dies when it is closed."""

    def close(self) -> None:
        _die()


class StartsAChild(Evaluator):
    """Starts a helper process that holds its pipes open."""

    def __init__(self) -> None:
        super().__init__()
        if os.fork() == 0:
            _sleep_for_ever()


class KeepsItsMode(Evaluator):
    """A kernel named `mode` changes how every later one named `sums` computes."""

    mode = False

    def launch(
        self, executable: Program, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        super().launch(executable, grid, buffers, scalars)
        name = executable.kernel.name
        self.mode |= name.startswith("mode")
        if self.mode and name.startswith("sums"):
            self.buffers[buffers[-1]][0] ^= 1


class ClearsTooLate(Evaluator):
    """A kernel named `fills` leaves a byte in a scratch buffer, which the next one named `sums` adds, and clears."""

    scratch = 0

    def launch(
        self, executable: Program, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        super().launch(executable, grid, buffers, scalars)
        name = executable.kernel.name
        if name.startswith("sums"):
            self.buffers[buffers[-1]][0] ^= self.scratch
            self.scratch = 0
        if name.startswith("fills"):
            self.scratch = 1


class CachesByName(Evaluator):
    """Takes two kernels of one name for the same."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Program] = {}

    def compile(self, kernel: Kernel) -> Program:
        return self.cache.setdefault(kernel.name, super().compile(kernel))


class CrashesOnTheThird(Evaluator):
    """Dies of a kernel named `dies` once kernels named `one` and `two` have run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def launch(
        self, executable: Program, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        super().launch(executable, grid, buffers, scalars)
        self.seen.add(executable.kernel.name)
        if executable.kernel.name == "dies" and {"one", "two"} <= self.seen:
            _die()


class FailsEveryThird(Evaluator):
    """Is wrong in every third launch of a kernel named `sums`."""

    launches = 0

    def launch(
        self, executable: Program, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        super().launch(executable, grid, buffers, scalars)
        self.launches += executable.kernel.name.startswith("sums")
        if self.launches % 3 == 2:
            self.buffers[buffers[-1]][0] ^= 1


GOOD = FakeBackend(Evaluator)
KEEPS_MODE = FakeBackend(KeepsItsMode)
CLEARS_LATE = FakeBackend(ClearsTooLate)
CACHES_BY_NAME = FakeBackend(CachesByName)
CRASHES_ON_THIRD = FakeBackend(CrashesOnTheThird)
EVERY_THIRD = FakeBackend(FailsEveryThird)
FAULTY = FakeBackend(FaultyByName)
STRICT = FakeBackend(FaultyByName, msgspec.structs.replace(CAPABILITIES, numeric=NumericLimits(strict=True)))
NOTHING = FakeBackend(DoesNothing)
FLUSHES = FakeBackend(FlushesItself)
HANGS = FakeBackend(HangsOnSynchronise)
LOST = FakeBackend(LosesDevice)
FULL = FakeBackend(AlwaysFull)
WRONG_TYPES = FakeBackend(WrongTypes)
SHORT_READ = FakeBackend(ShortRead)
WRONG_INFO = FakeBackend(WrongInfo)
EXITS = FakeBackend(ExitsOnOpen)
QUIET_CHEAT = FakeBackend(CheatsQuietly)
PATH_CHEAT = FakeBackend(CheatsByPath)
GUARD_CHEAT = FakeBackend(CheatsByRemovingTheGuard)
COMPILE_CHEAT = FakeBackend(CheatsWhenCompiling)
CRASHES_ON_CLOSE = FakeBackend(CrashesOnClose)
STARTS_A_CHILD = FakeBackend(StartsAChild)
CANNOT_RUN = FakeBackend(Evaluator, reason="no such chip in this machine")
MISNAMED = FakeBackend(Evaluator)
MISNAMED.name, MISNAMED.capabilities = "one", msgspec.structs.replace(CAPABILITIES, name="another")
EMPTY_PROMISE = FakeBackend(Evaluator, msgspec.structs.replace(CAPABILITIES, extensions=("math",)))
NOT_A_BACKEND = object()
