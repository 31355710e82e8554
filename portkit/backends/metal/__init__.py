"""The port to Apple GPUs: kernels as text in the Metal Shading Language.

On macOS they run on the GPU. Elsewhere the same text is compiled as C++ and run on the host, which is a model of the
device and no evidence about the chip.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import structs

from portkit.contract import Capabilities, Device, load_capabilities
from portkit.errors import CannotRunHere, DeviceError

MODEL_VARIABLE = "PORTKIT_METAL"
"""Set to `model`, a Mac runs the kernels on the host as other machines do."""


class MetalBackend:
    """The port; Metal or the host's C++ compiler is looked for when it is probed or opened, not before."""

    name = "metal"

    @cached_property
    def on_gpu(self) -> bool:
        """Whether kernels run on a GPU by Metal, not on the host."""
        return sys.platform == "darwin" and os.environ.get(MODEL_VARIABLE) != "model"

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the backend declares, read from the file beside it, with the evidence that this machine can give."""
        declared = load_capabilities(Path(__file__).with_name("capabilities.toml"))
        return structs.replace(declared, evidence="silicon") if self.on_gpu else declared

    def probe(self) -> str | None:
        """Return None, or why this machine cannot run kernels."""
        return _probe_gpu() if self.on_gpu else _probe_model()

    def open(self) -> Device:
        """Open the device.

        Raises:
            CannotRunHere: the probe says why.
        """
        if reason := self.probe():
            raise CannotRunHere(reason)
        if self.on_gpu:
            from portkit.backends.metal.gpu import open_gpu

            return open_gpu(self.capabilities)
        from portkit.backends.metal.model import open_model

        return open_model(self.capabilities)


def _probe_gpu() -> str | None:
    try:
        metal: Any = importlib.import_module("Metal")
    except ImportError as error:
        return f"Metal cannot be loaded ({error}); pip install 'portkit[metal]'"
    if not hasattr(metal, "MTLLanguageVersion3_2"):
        return "Metal 3.2 is needed: macOS 15 or later, and pyobjc-framework-Metal 11 or later"
    return None if metal.MTLCreateSystemDefaultDevice() else "this Mac has no GPU that Metal can use"


def _probe_model() -> str | None:
    if importlib.util.find_spec("cffi") is None:
        return "the model of the device needs cffi; pip install 'portkit[metal]'"
    from portkit.backends.metal.model import runner

    try:
        runner()
    except DeviceError as error:
        reason = str(error).partition("\n")[0]
        return f"the model of the device needs a C++ compiler, as in apt install g++: {reason}"
    return None


BACKEND = MetalBackend()
