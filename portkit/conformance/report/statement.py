"""What a report may claim, by the strength of its evidence."""

from __future__ import annotations

from portkit.conformance.case import Tier
from portkit.contract import Capabilities, Evidence

EVIDENCE_MEANING: dict[Evidence, str] = {
    "silicon": "ran on the chip itself",
    "vendor-simulator": "ran on the vendor's simulator of the chip",
    "third-party-emulator": "ran on an emulator by others",
    "own-model": "ran on a model by the authors of the port; a common error can hide",
    "stand-in": "ran on the host in the chip's place; says nothing about a chip",
    "compiled": "compiled only; nothing was executed",
}

_PASSES: dict[Evidence, str] = {
    "silicon": "conformant",
    "vendor-simulator": "conformant",
    "third-party-emulator": "passes on a third-party emulator",
    "own-model": "passes on its own model",
    "stand-in": "passes on its stand-in",
    "compiled": "compiles",
}


def statement(
    evidence: Evidence,
    profile: str,
    tier: Tier,
    *,
    passed: bool,
    selection: bool = False,
    mutant: str = "",
    missing: int = 0,
    waived: int = 0,
) -> str:
    """Return the one sentence that a report may say of its subject.

    Only a whole run of at least the standard tier claims a profile. `missing` cases were selected and have no verdict;
    `mutant` is the fault that was planted in the device. What passes thanks to waivers says how many it took.
    """
    if mutant:
        return f"says nothing of the device: the fault {mutant} was planted in it"
    if missing:
        have = "has" if missing == 1 else "have"
        return f"incomplete: {missing} of the run's cases {have} no verdict; claims nothing"
    but = f" but for {waived} waived" if waived and passed else ""
    if selection:
        return f"{'passes' if passed else 'does not pass'} the selected cases{but}; a selection claims nothing"
    if not passed:
        return f"does not pass {profile}"
    if tier is Tier.SMOKE:
        return f"passes the smoke tier of {profile}{but}; run the standard tier for a claim"
    return f"{_PASSES[evidence]}{f'{but} cases' if but else ''}: {profile}, {tier.value} tier"


def limits(capabilities: Capabilities) -> dict[str, str]:
    """Return what the device does not promise, for the first lines of a report."""
    numeric = capabilities.numeric
    flushed = [dtype for dtype, mode in numeric.subnormals.items() if mode == "flush"]
    return {
        "strict": "declared" if numeric.strict else "not declared: results may differ between devices",
        "subnormals": f"flushed: {' '.join(flushed)}"[:400] if flushed else "preserved",
        "nonfinite": "infinities and NaN" if numeric.nonfinite else "no infinities or NaN: those cases are left out",
    }
