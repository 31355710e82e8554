"""What a probe finds: rows that set what was measured against what is declared, and the capabilities they amount to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from portkit.contract import Capabilities, DeviceInfo

YES, NO = "yes", "no"


class State(Enum):
    """How a measurement stands to the declaration."""

    AGREES = "agrees"
    WRONG = "wrong"
    """The backend declares what the device does not do, or the device does what no declaration allows."""
    MORE = "more"
    """The device does more than is declared, which is no fault."""
    UNMEASURED = "unmeasured"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `field` is that of the capabilities file, empty where none speaks of it."""

    what: str
    field: str
    declared: str
    measured: str
    state: State
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """Copies count each byte as read and as written; a launch is that of an empty kernel, with the wait for it."""

    copy_bytes: int
    copy_seconds: float
    launch_seconds: float

    @property
    def gigabytes_per_second(self) -> float:
        return 2e-9 * self.copy_bytes / self.copy_seconds


@dataclass(slots=True)
class Probed:
    """All that was found; `drafted` is what the backend could declare."""

    device: DeviceInfo
    declared: Capabilities
    drafted: Capabilities
    rows: list[Row] = field(default_factory=list[Row])
    speed: Speed | None = None

    @property
    def wrong(self) -> list[Row]:
        """The rows that the declaration or the device must be changed for."""
        return [row for row in self.rows if row.state is State.WRONG]
