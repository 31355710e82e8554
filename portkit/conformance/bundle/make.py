"""Making a bundle: the launches of the selected cases, and what the reference accepts after each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from portkit import __version__
from portkit.conformance.bundle import archive
from portkit.conformance.bundle.layout import Layout, layout
from portkit.conformance.bundle.model import (
    INDEX,
    Buffer,
    Bundle,
    BundledCase,
    Expected,
    File,
    Launch,
    Printed,
    Scalar,
    digest,
    encode,
)
from portkit.conformance.bundle.sets import little, spell
from portkit.conformance.case import SUITE_VERSION, Case, Tier, Trial
from portkit.conformance.cases.collect import collect
from portkit.conformance.cases.fuzz import unlisted
from portkit.conformance.digest import suite_digest
from portkit.conformance.judge import CASE_SECONDS, model_of
from portkit.conformance.launching import _GUARDS as GUARDS
from portkit.conformance.launching import _POISONS as POISONS
from portkit.conformance.launching import GUARD_BYTES
from portkit.conformance.launching import Launch as Launching
from portkit.conformance.select import select
from portkit.conformance.support import undeclared
from portkit.contract import Capabilities
from portkit.errors import CompileError, UsageError
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient
from portkit.spec import forms
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.types import encode as encode_bits

SOURCES, KERNELS, CASES = "sources", "kernels", "cases"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to bundle: the cases of a profile, a tier and patterns, for declared capabilities."""

    capabilities: Capabilities
    profile: str = "core"
    tier: Tier = Tier.SMOKE
    patterns: tuple[str, ...] = ()
    on_case: Callable[[str, int, int], None] = field(default=lambda case_id, done, total: None)


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle and its files by name, `bundle.json` among them."""

    bundle: Bundle
    files: dict[str, bytes]

    def pack(self) -> bytes:
        """Return the archive."""
        return archive.pack(self.files)


class _Files:
    """Files by name; one content is kept once, under the name that it had first."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._known: dict[str, File] = {}

    def add(self, path: str, content: bytes) -> File:
        """Add a file, unless one with this content is there, and return the record of it."""
        sha = digest(content)
        if sha not in self._known:
            self.contents[path] = content
            self._known[sha] = File(path, len(content), sha)
        return self._known[sha]


def make_bundle(wanted: Wanted, printer: DeviceClient | None = None) -> Made:
    """Return the bundle of the selected cases; with a `printer`, the source that it generates for each kernel too.

    Raises `UsageError` where no case with a launch of its own is selected.
    """
    files = _Files()
    chosen = selected(wanted)
    launched = [case for case in chosen if case.trial is not None]
    if not launched:
        raise UsageError("none of the selected cases has a launch of its own; all of them talk to a running device")
    cases: list[BundledCase] = []
    for number, case in enumerate(launched):
        wanted.on_case(case.id, number, len(launched))
        made = bundled(case, number, wanted.capabilities, files.add, printer)
        cases += [made] if made else []
    bundle = Bundle(
        format="portkit-bundle",
        version=1,
        portkit=__version__,
        spec=forms.VERSION,
        spec_digest=forms.digest(),
        suite=SUITE_VERSION,
        suite_digest=suite_digest(),
        profile=wanted.profile,
        tier=wanted.tier,
        patterns=wanted.patterns,
        capabilities=wanted.capabilities,
        cases=tuple(cases),
        left_out=tuple(case.id for case in chosen if case.trial is None),
        printed=_printed(printer),
    )
    return Made(bundle, {INDEX: encode(bundle), **files.contents})


def selected(wanted: Wanted) -> list[Case]:
    """Return the cases that are meant, those included that cannot be bundled."""
    asked = unlisted(wanted.capabilities, wanted.patterns)
    return select([*collect(wanted.capabilities, wanted.profile), *asked], wanted.tier, wanted.patterns)


def _printed(printer: DeviceClient | None) -> Printed | None:
    return Printed(printer.name, printer.backend_digest, printer.info.compiler) if printer else None


# --- a case -------------------------------------------------------------------------------------------------------


def bundled(
    case: Case,
    number: int,
    capabilities: Capabilities,
    add: Callable[[str, bytes], File],
    printer: DeviceClient | None = None,
) -> BundledCase | None:
    """Return the record of a case with a launch, its files given to `add`; None where it needs what is not declared."""
    assert case.trial is not None
    trial = case.trial()
    if undeclared(trial.kernel, capabilities):
        return None
    kernel, place = trial.kernel, f"{CASES}/{number:05}"
    buffers, where = _buffers(trial)
    launch = _unlaunched(trial, model_of(capabilities))
    return BundledCase(
        id=case.id,
        level=case.level,
        tier=case.tier,
        cells=tuple(str(cell) for cell in case.cells),
        kernel=add(f"{KERNELS}/{number:05}-{kernel.name}.pk", format_kernel(kernel).encode()),
        strict=kernel.strict,
        lanes=kernel.lanes,
        shared_bytes=kernel.shared_bytes,
        grid=grid_counts(kernel, trial.scalars),
        scalars=tuple(
            Scalar(s.name, s.dtype.name, f"0x{encode_bits(s.dtype, trial.scalars[s.name]):08x}") for s in kernel.scalars
        ),
        buffers=buffers,
        image_bytes=where.size,
        launches=tuple(
            _launch(launch, poison, where, f"{place}.{poison}", f"{number:05}.{poison}.bin", add)
            for poison in range(1 + may_hold_poison(launch))
        ),
        device_check_only=trial.device_check_only,
        source=_source(kernel, number, add, printer) if printer else None,
    )


def _unlaunched(trial: Trial, model: NumericModel) -> Launching:
    """Return the launch for what it says before it happens: the buffers, and what is expected."""
    return Launching(trial, cast("DeviceClient", None), model, CASE_SECONDS)


def _buffers(trial: Trial) -> tuple[tuple[Buffer, ...], Layout]:
    extents = [buffer.extent.evaluate(trial.scalars) for buffer in trial.kernel.buffers]
    where = layout([n * b.dtype.bytes for n, b in zip(extents, trial.kernel.buffers, strict=True)])
    return tuple(
        Buffer(b.name, b.dtype.name, n, b.access, offset, size)
        for b, n, offset, size in zip(trial.kernel.buffers, extents, where.offsets, where.sizes, strict=True)
    ), where


def may_hold_poison(launch: Launching) -> bool:
    """Return whether an element that was never written can look right, so that a second poison is needed."""
    if launch.trial.device_check_only:
        return False
    before, expected = launch.before(0), launch.expected(0)
    unread = [b.name for b in launch.kernel.buffers if b.access != "read" and b.name not in launch.trial.inputs]
    return any(bool(expected[name].accepts(before[name]).any()) for name in unread)


def _launch(
    launch: Launching, poison: int, where: Layout, place: str, after: str, add: Callable[[str, bytes], File]
) -> Launch:
    before, guard = launch.before(poison), GUARDS[poison]
    pieces = [b"" for _ in range(2 * len(before) + 1)]
    pieces[1::2] = [little(array) for array in before.values()]
    image = where.image([bytes([guard]) * GUARD_BYTES, *pieces[1:]], guard)
    return Launch(
        poison=POISONS[poison],
        guard=guard,
        before=add(f"{place}.before.bin", image),
        after=after,
        expected=() if launch.trial.device_check_only else _expected(launch, poison, place, add),
    )


def _expected(launch: Launching, poison: int, place: str, add: Callable[[str, bytes], File]) -> tuple[Expected, ...]:
    accepted = launch.expected(poison)
    found: list[Expected] = []
    for buffer in launch.kernel.buffers:
        if buffer.access == "read":
            continue
        spelt = spell(accepted[buffer.name])
        name = f"{place}.{buffer.name}"
        values = tuple(add(f"{name}.{k}.bin", content) for k, content in enumerate(spelt.values))
        flags = add(f"{name}.flags.bin", spelt.flags) if spelt.flags else None
        found.append(Expected(buffer.name, spelt.rule, values, flags))
    return tuple(found)


def _source(kernel: Kernel, number: int, add: Callable[[str, bytes], File], printer: DeviceClient) -> File | None:
    """Return the generated source of a kernel, None where the backend shows none or does not compile it."""
    try:
        executable = printer.compile(kernel)
    except CompileError:
        return None
    executable.release()
    text = executable.source
    return add(f"{SOURCES}/{number:05}-{kernel.name}.txt", text.encode()) if text else None
