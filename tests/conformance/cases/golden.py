"""Recorded digests; PORTKIT_UPDATE_GOLDEN=1 writes them anew, and a missing one fails."""

from __future__ import annotations

import json
import os
from pathlib import Path

PATH = Path(__file__).with_name("golden.json")


def check_golden(key: str, value: object) -> None:
    """Compare with what is recorded under `key`, or record it where the environment asks for that."""
    recorded: dict[str, object] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    if os.environ.get("PORTKIT_UPDATE_GOLDEN") == "1":
        recorded[key] = value
        PATH.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert key in recorded, f"{key} is not recorded: run with PORTKIT_UPDATE_GOLDEN=1"
    assert recorded[key] == value
