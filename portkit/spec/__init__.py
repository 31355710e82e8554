"""The language: twelve operations, their forms, types and clauses, and kernels written in them."""

from __future__ import annotations
