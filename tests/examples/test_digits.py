"""The example that trains a network: it learns, and it learns the same thing every time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 0.98


def trained(*options: str) -> dict[str, Any]:
    script = ROOT / "examples" / "digits" / "train.py"
    done = subprocess.run(
        [sys.executable, str(script), "--json", *options], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_the_network_reads_the_digits_and_two_trainings_have_the_same_losses_bit_for_bit() -> None:
    first, second = trained(), trained()
    assert first["accuracy"] >= ENOUGH
    assert first["losses"] == second["losses"]
    assert first["accuracy"] == second["accuracy"]


def test_another_seed_gives_other_losses() -> None:
    assert trained("--epochs", "1")["losses"] != trained("--epochs", "1", "--seed", "1")["losses"]
