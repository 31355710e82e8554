"""Measure a device through kernels in the twelve ops, and compare what is found with what its backend declares."""

from __future__ import annotations

from portkit.conformance.probing.draft import draft_text
from portkit.conformance.probing.facts import Probed, Row, State
from portkit.conformance.probing.run import Part, probe

__all__ = ["Part", "Probed", "Row", "State", "draft_text", "probe"]
