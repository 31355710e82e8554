"""Judging outputs that were made elsewhere, by the acceptance sets of the bundle, with nothing launched.

The checks are those of a launch on a device, in `portkit.conformance.launching`: a client that answers with the image
that was given takes the place of the device.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import msgspec

from portkit import __version__
from portkit.conformance.bundle.load import Loaded, LoadedCase, load_case
from portkit.conformance.bundle.make import may_hold_poison
from portkit.conformance.bundle.model import BundledCase, Outputs, Unmade
from portkit.conformance.bundle.outputs import Given, OnCase
from portkit.conformance.card import Card
from portkit.conformance.expectation import Acceptances
from portkit.conformance.finding import Check, Finding
from portkit.conformance.journal import JOURNAL_VERSION, Entry, Header
from portkit.conformance.judge import CASE_SECONDS, model_of
from portkit.conformance.launching import Launch
from portkit.conformance.outcome import card_of, entry_of
from portkit.conformance.verdict import ExitCode, Verdict
from portkit.contract import CONTRACT_VERSION, DeviceInfo
from portkit.errors import SchemaError
from portkit.runtime.client import Bytes, DeviceClient, Executed, Guard
from portkit.spec.kernel import Kernel

_CHECKS = {"crash": Check.CRASH, "timeout": Check.HANG, "fail": Check.CALL}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of judging: the header and entries of a journal, and the ids of cases without outputs."""

    header: Header
    entries: tuple[Entry, ...]
    not_run: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """0 where every case of the bundle has outputs and all are right."""
        worst = max((entry.verdict.meaning.exit for entry in self.entries), default=ExitCode.NOT_PASSED)
        return ExitCode.NOT_PASSED if self.not_run and worst is ExitCode.PASSED else worst


def judge_outputs(
    loaded: Loaded,
    given: Given,
    *,
    genuine: bool,
    on_case: OnCase = lambda case_id, done, total: None,
) -> Judgement:
    """Judge every case of a bundle by its outputs.

    `genuine` is whether the bundle was found to be what this suite gives; then hints are looked for too. Raises
    `SchemaError` where a file of the bundle or an output does not fit.
    """
    entries: list[Entry] = []
    not_run: list[str] = []
    for number, case in enumerate(loaded.bundle.cases):
        on_case(case.id, number, len(loaded.bundle.cases))
        if given.complete(case):
            entries.append(judge_case(loaded, given, case, hints=genuine))
        else:
            not_run.append(case.id)
    return Judgement(_header(loaded, given.record, genuine=genuine), tuple(entries), tuple(not_run))


def judge_case(loaded: Loaded, given: Given, record: BundledCase, *, hints: bool = True) -> Entry:
    """Return the journal entry of one case whose outputs are complete."""
    started = time.perf_counter()
    case = load_case(loaded, record)
    unmade = given.record.unmade.get(record.id)
    found = _unmade(unmade) if unmade else _RecordedLaunch(loaded, given, case).run()
    card = None if found.verdict is Verdict.PASS else _card(loaded, case, found, hints=hints)
    entry = entry_of(found, record.id, record.level, card)
    return msgspec.structs.replace(entry, cells=record.cells, seconds=round(time.perf_counter() - started, 6))


def _unmade(unmade: Unmade) -> Finding:
    return Finding(Verdict(unmade.verdict), f"as stated with the outputs: {unmade.reason}", _CHECKS[unmade.verdict])


class _RecordedLaunch(Launch):
    """A launch that happened elsewhere; what is expected is what the bundle says."""

    def __init__(self, loaded: Loaded, given: Given, case: LoadedCase) -> None:
        client = cast("DeviceClient", _Recorded(given, case))
        self._case = case
        super().__init__(case.trial, client, model_of(loaded.bundle.capabilities), CASE_SECONDS)
        if len(case.expected) == 1 and may_hold_poison(self):
            raise SchemaError(f"{loaded.where}: case {case.record.id} needs a second launch, with another poison")

    def expected(self, poison: int) -> Acceptances:
        """Return the acceptance sets of the written buffers, which are all that a launch asks for."""
        return self._case.expected[poison]


class _Recorded:
    """A device client that answers with the images that were given."""

    def __init__(self, given: Given, case: LoadedCase) -> None:
        self._given = given
        self._case = case

    def execute(
        self,
        kernel: Kernel,
        grid: Sequence[int],
        operands: Sequence[Bytes | Guard],
        scalars: Sequence[int | float],
        *,
        timeout: float | None = None,
    ) -> Executed:
        """Return the operands after the launch that began with this guard."""
        del kernel, grid, scalars, timeout
        assert isinstance(operands[0], Guard)
        guard = bytes(operands[0].data)
        number = next(k for k, launch in enumerate(self._case.record.launches) if launch.guard == guard[0])
        image = self._given.image(self._case.record, number)
        return Executed(self._case.layout.pieces(image, guard), "", 0.0, 0.0, 0.0)


# --- the card and the header --------------------------------------------------------------------------------------


def _card(loaded: Loaded, case: LoadedCase, found: Finding, *, hints: bool) -> Card:
    record = case.record
    suspect = record.cells[0] if record.cells else record.id
    source = loaded.read(record.source).decode(errors="replace") if record.source else ""
    return card_of(found, record.id, suspect, case.trial, source=source, hints=hints)


def _header(loaded: Loaded, outputs: Outputs, *, genuine: bool) -> Header:
    """Return the header of the journal; the run is a selection, which claims nothing."""
    bundle = loaded.bundle
    sets = "made again by this suite" if genuine else "as given, by another suite"
    return Header(
        journal=JOURNAL_VERSION,
        portkit=__version__,
        spec=bundle.spec,
        spec_digest=bundle.spec_digest,
        suite=bundle.suite,
        suite_digest=bundle.suite_digest,
        contract=CONTRACT_VERSION,
        backend=bundle.capabilities.name,
        backend_digest="",
        capabilities=msgspec.structs.replace(bundle.capabilities, evidence=outputs.evidence),
        info=DeviceInfo(
            device=f"{outputs.device or 'not stated'} (outputs made elsewhere)",
            driver=outputs.driver,
            compiler=outputs.compiler,
        ),
        profile=bundle.profile,
        tier=bundle.tier.value,
        patterns=(*bundle.patterns, f"launches of the bundle {loaded.digest[:12]}, acceptance sets {sets}"),
        started=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        cases=len(bundle.cases),
    )
