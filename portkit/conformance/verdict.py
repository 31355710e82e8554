"""What can be said of a case, how bad it is, and what it does to the exit status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """The exit status of a run."""

    PASSED = 0
    NOT_PASSED = 1
    USAGE = 2
    CANNOT_RUN_HERE = 3
    HARNESS_ERROR = 4
    INTERRUPTED = 130


class Verdict(Enum):
    """The verdict of one case; what each means is in `MEANINGS`."""

    PASS = "pass"
    UNSUPPORTED = "unsupported"
    WAIVED = "waived"
    BLOCKED = "blocked"
    FLAKY = "flaky"
    FAIL = "fail"
    TIMEOUT = "timeout"
    CRASH = "crash"
    ERROR = "error"

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self]

    @property
    def severity(self) -> int:
        """How bad it is; 0 is best."""
        return self.meaning.severity

    @property
    def passes(self) -> bool:
        """Whether a run with this verdict may still exit with 0."""
        return self.meaning.exit is ExitCode.PASSED


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a verdict says; `severity` orders them, 0 is best; `exit` is the least status of a run that has one."""

    text: str
    severity: int
    exit: ExitCode


MEANINGS: dict[Verdict, Meaning] = {
    Verdict.PASS: Meaning("every check held", 0, ExitCode.PASSED),
    Verdict.UNSUPPORTED: Meaning("needs a capability that the backend does not declare", 1, ExitCode.PASSED),
    Verdict.WAIVED: Meaning("did not pass, and a waiver in force says why", 2, ExitCode.PASSED),
    Verdict.BLOCKED: Meaning("not run: a case that it needs did not pass", 3, ExitCode.NOT_PASSED),
    Verdict.FLAKY: Meaning("did not pass, then passed when run again, as often as stated", 4, ExitCode.NOT_PASSED),
    Verdict.FAIL: Meaning("a wrong result, each time that it ran", 5, ExitCode.NOT_PASSED),
    Verdict.TIMEOUT: Meaning("no answer within the time limit; the device process was ended", 6, ExitCode.NOT_PASSED),
    Verdict.CRASH: Meaning("the device process died", 7, ExitCode.NOT_PASSED),
    Verdict.ERROR: Meaning("portkit itself is at fault; please report it", 8, ExitCode.HARNESS_ERROR),
}
