"""A device whose every text tells of the machine that it runs on."""

from __future__ import annotations

import platform
import tempfile

import msgspec

from portkit.contract import DeviceInfo
from portkit.errors import CompileError
from portkit.spec.kernel import Kernel
from tests.fakes.evaluator import CAPABILITIES, Evaluator, FakeBackend, Program

PLACE = f"{tempfile.gettempdir()}/build/kernel.o on {platform.node()}"


class Loud(Evaluator):
    """Fails to compile, and says where."""

    info = DeviceInfo(
        f"NumPy at {PLACE}", driver="/opt/vendor/lib/driver.so 5.2", compiler=r"C:\Program Files\cc.exe 9"
    )

    def compile(self, kernel: Kernel) -> Program:
        raise CompileError(f"cannot write '{PLACE}': no space left, see /opt/vendor/log")


LOUD = FakeBackend(Loud, msgspec.structs.replace(CAPABILITIES, vendor="/Users/bob/vendor", version="1 (/usr/src/x)"))
