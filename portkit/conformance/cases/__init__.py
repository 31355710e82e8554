"""The conformance cases: `collect` lists them, `cells` lists what they must cover."""

from __future__ import annotations

from portkit.conformance.cases.cells import cells
from portkit.conformance.cases.collect import PROFILES, collect

__all__ = ["PROFILES", "cells", "collect"]
