"""The judge's own execution of kernels: what they compute, what they may compute, and whether they are valid."""

from __future__ import annotations
