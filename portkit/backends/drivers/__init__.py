"""What the driver halves of ports share: the checked device, launch arguments, addresses, and drivers in C."""

from __future__ import annotations
