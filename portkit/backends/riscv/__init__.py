"""RISC-V with vectors (RVV 1.0): machine code straight from the twelve operations, run by qemu-riscv64."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere

_VLEN = "PORTKIT_RISCV_VLEN"
_LENGTHS = ("256", "128", "512", "1024")


class RiscvBackend:
    """The port to RISC-V; PORTKIT_RISCV_VLEN in the environment is the length of a vector register in bits."""

    name = "riscv"

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the backend declares, read from the file beside it."""
        return load_capabilities(Path(__file__).with_name("capabilities.toml"))

    def probe(self) -> str | None:
        """Return None, or why the emulator does not run here."""
        try:
            self.open().close()
        except CannotRunHere as error:
            return str(error)
        return None

    def open(self) -> Device:
        """Start an emulator.

        Raises:
            CannotRunHere: it is not installed, does not start, or is asked for vectors that it has not.
        """
        vlen = os.environ.get(_VLEN, _LENGTHS[0])
        if vlen not in _LENGTHS:
            raise CannotRunHere(f"{_VLEN} is {vlen!r}; it is one of {', '.join(_LENGTHS)}")
        if not hasattr(os, "memfd_create"):
            raise CannotRunHere("qemu-riscv64 runs on Linux only")
        from portkit.backends.riscv.device import open_emulator

        return open_emulator(int(vlen))


BACKEND = RiscvBackend()
