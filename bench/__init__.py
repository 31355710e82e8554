"""Measurements of this machine and of portkit on it; every figure is a ratio taken in one run."""

from __future__ import annotations
