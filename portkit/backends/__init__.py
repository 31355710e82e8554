"""Ports of the twelve-op language to devices; each is reached only through the entry-point group `portkit.backends`."""

from __future__ import annotations
