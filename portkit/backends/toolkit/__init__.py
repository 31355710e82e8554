"""What ports share: printers, code generators and other parts that are about languages, not about one device."""

from __future__ import annotations
