"""What a conformance case is: an id, what it covers, and how to build what it runs.

A case is cheap to list and builds its kernel and inputs only when it runs. The id, with the suite version, fixes the
inputs bit for bit on every machine; it is also the filter and the name in every report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from portkit.spec.kernel import Kernel

if TYPE_CHECKING:
    import numpy as np

    from portkit.compiler.graph import Node, Source
    from portkit.contract import Capabilities
    from portkit.runtime.client import DeviceClient

SUITE_VERSION = "1.0-draft"


class Level(Enum):
    """The rungs of the suite, easiest first."""

    DEVICE = "device"
    OPS = "ops"
    KERNELS = "kernels"
    TENSORS = "tensors"


class Tier(Enum):
    """How much is run: a case belongs to the smallest tier that includes it."""

    SMOKE = "smoke"
    STANDARD = "standard"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the coverage table; for a cast `dtype` is the result's and `source` the operand's."""

    form: str
    dtype: str
    lanes: int = 1
    source: str = ""

    def __str__(self) -> str:
        lanes = f"x{self.lanes}" if self.lanes > 1 else ""
        return f"{self.form}/{self.dtype}{lanes}" + (f"<-{self.source}" if self.source else "")


@dataclass(frozen=True, slots=True)
class Trial:
    """One launch: a kernel, its scalars, and the contents of every buffer before it, by name.

    A buffer's array is one-dimensional, has the buffer's NumPy dtype and exactly its extent. Write-only buffers are
    left out: the judge fills them with poison.
    """

    kernel: Kernel
    scalars: Mapping[str, int | float]
    inputs: Mapping[str, np.ndarray[Any, Any]]
    device_check_only: bool = False
    """The spec leaves the values open: only guard bands and inputs are checked."""


@dataclass(frozen=True, slots=True)
class GraphTrial:
    """A graph to compile for the device and run: its outputs, and the contents of its sources.

    `nodes` are what the judge takes the graph to mean; `compiled` are nodes of the same meaning that are handed to the
    compiler in their place (with intermediate results stored, say), and `capabilities` those for which it compiles:
    the device's own, or fewer.
    """

    nodes: Sequence[Node]
    contents: Mapping[Source, np.ndarray[Any, Any]]
    capabilities: Capabilities
    compiled: Sequence[Node] = ()
    results_only: bool = False
    """Of the launches only guard bands and inputs are checked, the values of the results alone."""


@dataclass(frozen=True, slots=True)
class Case:
    """A conformance case; exactly one of `trial`, `graph` and `check` is given.

    `trial` builds a launch that the judge compares with the reference. `graph` builds, for a device's capabilities, a
    graph that is compiled, run launch by launch and compared with what the graph admits. `check` talks to the device
    itself and raises `CheckFailed` with what is wrong. `needs` are ids or id prefixes of the ladder that must have
    passed.
    """

    id: str
    level: Level
    tier: Tier
    cells: tuple[Cell, ...] = ()
    trial: Callable[[], Trial] | None = None
    graph: Callable[[Capabilities], GraphTrial] | None = None
    check: Callable[[DeviceClient], None] | None = None
    needs: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The case group that it runs in: the id without its last part."""
        return self.id.rpartition("/")[0]


class CheckFailed(Exception):
    """A device check did not hold; the message says what was expected and what was seen."""
