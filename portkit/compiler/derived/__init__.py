"""The functions of the graph language as instructions: how each is derived from the forms that a device has."""

from __future__ import annotations
