"""Interpreters of foreign machine code: models of chips, for machines that have none."""

from __future__ import annotations
