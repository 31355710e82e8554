"""How much of what a device declares its random kernels cover, by seeds: python bench/fuzz_coverage.py cpu 36 1000."""

from __future__ import annotations

import sys

from portkit.conformance.cases.fuzz import fuzz_kernel, palette_of
from portkit.conformance.cases.fuzz_coverage import Coverage, declared_cells
from portkit.runtime.client import DeviceClient


def main(backend: str, *counts: str) -> None:
    """Print the pairs of form and dtype, and the cells, after each number of seeds."""
    with DeviceClient(backend) as client:
        palette = palette_of(client.capabilities, "declared")
    coverage, wanted = Coverage(declared_cells(palette.cells)), sorted({int(count) for count in counts})
    for seed in range(max(wanted)):
        coverage.add(fuzz_kernel(f"kernels/fuzz/declared/{seed:04}", palette))
        if seed + 1 in wanted:
            covered, declared = coverage.forms()
            cells = f"{len(coverage.cells)} of {len(coverage.declared)} cells"
            print(f"{seed + 1} seeds: {covered} of {declared} form x dtype, {cells}, {coverage.by_context()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
