"""From a graph of tensor operations to kernels of twelve ops: simplify, fuse, schedule, lower, decompose, legalise."""

from __future__ import annotations
