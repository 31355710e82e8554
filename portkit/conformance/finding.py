"""What one attempt at a case found, and which check found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from portkit.conformance.card import Mismatch
from portkit.conformance.verdict import Verdict
from portkit.errors import ContractError, DeviceError, DeviceHang, DeviceLost, NotReachable
from portkit.runtime.client import DeviceClient

if TYPE_CHECKING:
    from portkit.conformance.hints.symptoms import Evidence

MOST_REASON = 800
"""Characters of a device's message that stand in the reason; all of it stands in the card's detail."""


class Check(Enum):
    """A technique by which the judge finds a fault; the value is its key in reports."""

    VALUES = "values"
    """An element that was written lies outside its acceptance set."""
    POISON = "poison"
    """An element still holds the poison that was put there before the launch."""
    SECOND_POISON = "second-poison"
    """An element holds the poison of a second launch, though the spec accepts its value."""
    TAIL = "tail"
    """Bytes after the end of a buffer changed."""
    GUARDS = "guards"
    """Bytes of an allocation that the launch was not given changed."""
    INPUTS = "inputs"
    """A buffer that is only read changed."""
    REPEAT = "repeat"
    """The same case gives another verdict, or bytes that are not admitted, when it is run again."""
    ORDER = "order"
    """The case fails only in a process in which a certain other case ran before."""
    CALL = "call"
    """A function of the device raised an error where it must not."""
    DEVICE = "device"
    """A function of the device did not do what the contract says."""
    CRASH = "crash"
    """The device process died."""
    HANG = "hang"
    """No answer within the time limit."""
    GRAPH = "graph"
    """Every launch of a compiled graph was right, and its result is not."""


@dataclass(frozen=True, slots=True)
class Stability:
    """What running a launch several times showed.

    `runs` are launches of the kernel as it is, 0 where nothing was repeated; `orders` are the group orders that were
    tried besides. `varying` says how many elements differed from the first launch, by what was done: nothing
    (`repeat`), or an order; empty means bit-identical, NaN payloads aside. `free` are the forms in the kernel whose
    result the spec leaves open, where something varied.
    """

    runs: int = 0
    orders: tuple[str, ...] = ()
    varying: Mapping[str, int] = field(default_factory=dict[str, int])
    free: tuple[str, ...] = ()

    def __add__(self, other: Stability) -> Stability:
        """Return what is to be said of two launches of one case."""
        orders = (*self.orders, *(o for o in other.orders if o not in self.orders))
        keys = [*self.varying, *(k for k in other.varying if k not in self.varying)]
        varying = {k: self.varying.get(k, 0) + other.varying.get(k, 0) for k in keys}
        free = tuple(sorted({*self.free, *other.free}))
        return Stability(max(self.runs, other.runs), orders, varying, free)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one attempt found; `reason` is empty and `check` None for a pass."""

    verdict: Verdict
    reason: str = ""
    check: Check | None = None
    checks: tuple[Check, ...] = ()
    """Every check that found something, where several may; `check` is the first."""
    suspect: str = ""
    """What the finding itself accuses, where that is more than the case is about."""
    detail: str = ""
    wrong: int = 0
    elements: int = 0
    ill_conditioned: int = 0
    error_share: float = 0.0
    ulp: float = 0.0
    mismatch: Mismatch | None = None
    evidence: Evidence | None = None
    """The launch with wrong elements, for what looks for their cause."""
    digest: str = ""
    reference_digest: str = ""
    device_seconds: float = 0.0
    stability: Stability = Stability()
    runs: int = 0
    """How often the case was run to see how flaky it is; 0 where it was not."""
    failed: int = 0
    """How many of these runs did not pass."""
    after: tuple[str, ...] = ()
    """The ids of the cases that must run before it in the same process, for it to fail."""

    @property
    def found_by(self) -> tuple[Check, ...]:
        """The checks that found something."""
        return self.checks or ((self.check,) if self.check else ())


def failed_call(error: DeviceError | ContractError, client: DeviceClient) -> Finding:
    """Return the finding for an exception of the device.

    Raises the exception itself where the device cannot be reached any more: that is no fault of the port.
    """
    if isinstance(error, NotReachable):
        raise error
    text, vendor = str(error), str(error.__cause__ or "")
    if len(text) > MOST_REASON:
        text, vendor = f"{text[:MOST_REASON]}... (see detail)", vendor or text
    if isinstance(error, DeviceHang | DeviceLost):
        client.kill()
        hung = isinstance(error, DeviceHang)
        verdict, check = (Verdict.TIMEOUT, Check.HANG) if hung else (Verdict.CRASH, Check.CRASH)
        return Finding(verdict, text, check, detail=vendor)
    return Finding(Verdict.FAIL, f"{type(error).__name__}: {text}", Check.CALL, detail=vendor)
