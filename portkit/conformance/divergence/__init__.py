"""Where a failing launch first goes wrong: the first instruction whose value leaves its acceptance set.

Copies of the kernel store every register to buffers of their own (*probes*); what the device stores is compared with
what the spec accepts of the copy. If a probe is wrong, the first in execution order is named; if every probe is right
and an output is not, the store is; if a copy does not fail any more, so is what its probes kept apart.
"""

from __future__ import annotations

from portkit.conformance.divergence.search import first_divergence

__all__ = ["first_divergence"]
