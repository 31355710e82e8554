"""Start-up time over a bare interpreter: `import portkit` and `portkit --help`, against their limits.

Prints the median of interleaved runs in milliseconds, and exits 1 where one is over its limit.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

RUNS = 15
BARE = ("-c", "pass")


@dataclass(frozen=True, slots=True)
class Start:
    """One way to start portkit, and how much longer than a bare interpreter it may take, in milliseconds."""

    name: str
    arguments: tuple[str, ...]
    limit_ms: float


STARTS = (
    Start("import portkit", ("-c", "import portkit"), 150.0),
    Start("portkit --help", ("-c", "from portkit.cli.main import main; main()", "--help"), 300.0),
)


def seconds(arguments: tuple[str, ...]) -> float:
    """Return the wall time of one interpreter run.

    Raises:
        subprocess.CalledProcessError: the run failed.
    """
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def medians_ms(commands: list[tuple[str, ...]]) -> list[float]:
    """Return the median time of each command; runs are interleaved so that a busy moment hits all alike."""
    rounds = [[seconds(command) for command in commands] for _ in range(RUNS + 1)]
    warm = rounds[1:]  # the first round also writes the bytecode cache
    return [1000 * statistics.median(column) for column in zip(*warm, strict=True)]


def main() -> int:
    """Measure, print a table and return the exit code."""
    bare, *times = medians_ms([BARE, *(start.arguments for start in STARTS)])
    print(f"bare interpreter {bare:.0f} ms; medians of {RUNS} interleaved runs")
    print(f"{'':16} {'over bare':>10} {'limit':>8} {'ratio':>6}")
    over = [elapsed - bare for elapsed in times]
    for start, extra in zip(STARTS, over, strict=True):
        print(f"{start.name:16} {extra:7.0f} ms {start.limit_ms:5.0f} ms {extra / start.limit_ms:6.2f}")
    return int(any(extra > start.limit_ms for start, extra in zip(STARTS, over, strict=True)))


if __name__ == "__main__":
    sys.exit(main())
