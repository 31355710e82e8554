"""The device under measurement: kernels go to its supervised process, and what it refuses is an answer too."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portkit.errors import ContractError, DeviceError, DeviceHang, DeviceLost
from portkit.runtime.client import DeviceClient
from portkit.spec.builder import Builder, Reg
from portkit.spec.geometry import buffer_extents, grid_counts
from portkit.spec.kernel import Kernel
from portkit.spec.types import DType, decode, encode

Array: TypeAlias = NDArray[Any]
Number: TypeAlias = float | int | bool
Operand: TypeAlias = float | int | Fraction
Body: TypeAlias = Callable[[Builder, Sequence[Reg]], Reg]
_WORDS = {DeviceHang: "does not end", DeviceLost: "ends the device process"}
_LONGEST = 200


class Refused(Exception):
    """The device did not run a kernel, or gave something else than the kernel computes; the message says which."""


class Bench:
    """Runs small kernels, each with a time limit."""

    def __init__(self, client: DeviceClient, seconds: float) -> None:
        """Use a client; `seconds` is the time limit of one kernel, its compilation included."""
        self.client = client
        self.seconds = seconds

    @contextmanager
    def asking(self) -> Generator[None]:
        """Turn what the device raises into `Refused`; a process that hangs is ended, the next question starts one."""
        try:
            yield
        except (DeviceHang, DeviceLost) as error:
            self.client.kill()
            raise Refused(_WORDS[type(error)]) from error
        except (DeviceError, ContractError) as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise Refused(text[:_LONGEST]) from error

    def run(self, kernel: Kernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Launch a kernel without scalars and return its buffers; those without inputs start as zeros.

        Raises `Refused`.
        """
        extents = buffer_extents(kernel, {})
        given = [
            inputs.get(b.name, np.zeros(extent, b.dtype.numpy))
            for b, extent in zip(kernel.buffers, extents, strict=True)
        ]
        with self.asking():
            ran = self.client.execute(
                kernel, grid_counts(kernel, {}), [a.tobytes() for a in given], [], timeout=self.seconds
            )
        return {b.name: np.frombuffer(data, b.dtype.numpy) for b, data in zip(kernel.buffers, ran.outputs, strict=True)}

    def each(self, body: Body, dtype: DType, result: DType, *columns: Sequence[Operand]) -> list[Number]:
        """Return what `body` gives for each row of operands, one lane a row; operands are rounded to `dtype`.

        Raises `Refused`.
        """
        arrays = {f"x{i}": _encoded(dtype, column) for i, column in enumerate(columns)}
        kernel = pointwise(body, dtype, result, len(columns), len(columns[0]))
        out = self.run(kernel, arrays)["out"]
        return [decode(result, int(bits)) for bits in out.view(f"u{result.bytes}")]


def pointwise(body: Body, dtype: DType, result: DType, operands: int, lanes: int) -> Kernel:
    """Return a kernel of one work-group whose lanes each apply `body` to an element of every operand."""
    b = Builder("probe")
    sources = [b.buffer(f"x{i}", dtype.name, lanes, "read") for i in range(operands)]
    out = b.buffer("out", result.name, lanes, "write")
    b.grid(1)
    lane = b.lane(lanes)
    b.store(out, lane, body(b, [b.load(source, lane) for source in sources]))
    return b.build()


def _encoded(dtype: DType, column: Sequence[Operand]) -> Array:
    bits = np.array([encode(dtype, x) for x in column], f"u{dtype.bytes}")
    return bits.view(dtype.numpy)
