"""RISC-V with vectors (RVV 1.0): machine code straight from the twelve operations, run by qemu-riscv64.

The route for a chip of which there is nothing but the manual: no assembler, linker, compiler or C library is needed.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere

VLEN_VARIABLE = "PORTKIT_RISCV_VLEN"
VLENS = ("256", "128", "512", "1024")
"""The lengths of a vector register in bits that the emulator offers, the default first."""


class RiscvBackend:
    """The port to RISC-V; the environment variable PORTKIT_RISCV_VLEN chooses the length of vectors."""

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
        vlen = os.environ.get(VLEN_VARIABLE, VLENS[0])
        if vlen not in VLENS:
            raise CannotRunHere(f"{VLEN_VARIABLE} is {vlen!r}; it is one of {', '.join(VLENS)}")
        if not hasattr(os, "memfd_create"):
            raise CannotRunHere("qemu-riscv64 runs on Linux only")
        from portkit.backends.riscv.device import open_emulator

        return open_emulator(int(vlen))


BACKEND = RiscvBackend()
