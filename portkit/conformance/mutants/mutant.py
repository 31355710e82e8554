"""What a mutant is: a seeded fault, what it accuses, and the case that finds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from portkit.conformance.hints.causes import Cause
from portkit.conformance.mutants import device
from portkit.contract import Capabilities
from portkit.runtime.client import DeviceClient
from portkit.spec.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Mutant:
    """A seeded fault.

    `suspect` is the prefix that the failure card of its witness must name; `witness` the id of the case that
    distinguishes it, by a valid kernel or a sequence of calls, from a correct device whose copies happen at once and
    whose lanes run one after another between barriers. `equivalent` says why no such case can exist on that model.
    """

    name: str
    suspect: str
    fault: Callable[[Kernel], Kernel] | type[device.Wrapped]
    witness: str = ""
    equivalent: str = ""
    cause: Cause | None = None
    """What the hint on its witness should name first."""

    @property
    def summary(self) -> str:
        """What the fault does, in one line."""
        return (getattr(self.fault, "summary", "") or self.fault.__doc__ or "").strip().splitlines()[0]

    @property
    def level(self) -> Literal["kernel", "device"]:
        """Where the fault lies: in what kernels are turned into, or in what the device's functions do."""
        return "device" if isinstance(self.fault, type) else "kernel"

    def rewrites(self, kernel: Kernel) -> bool:
        """Whether the fault changes what a kernel does; of a device's function that is not known beforehand: True."""
        return isinstance(self.fault, type) or self.fault(kernel) is not kernel

    def admitted(self, capabilities: Capabilities) -> bool:
        """Whether what a device declares allows the fault: one that flushes may flush."""
        flushes = "flush" in capabilities.numeric.subnormals.values()
        return self.cause is Cause.FLUSH and flushes

    def wrap(self, client: DeviceClient) -> device.Wrapped:
        """Return the client with the fault in it; what the fault does not distort is passed on."""
        wrapper = self.fault if isinstance(self.fault, type) else device.rewriting(self.fault)
        return wrapper(client)

    def plant(self, client: DeviceClient) -> DeviceClient:
        """Return the client with the fault in it, as the judge takes it."""
        return cast("DeviceClient", self.wrap(client))
