"""Reading a bundle: everything that its index says is held against the archive, and each case against its kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from portkit.conformance.bundle.archive import MAX_TOTAL_BYTES, Source, open_source
from portkit.conformance.bundle.layout import Layout, layout
from portkit.conformance.bundle.model import (
    INDEX,
    MANIFEST,
    MAX_INDEX_BYTES,
    Bundle,
    BundledCase,
    Expected,
    File,
    Launch,
    brief,
    decode,
    digest,
)
from portkit.conformance.bundle.sets import Spelt, elements, little, restore
from portkit.conformance.case import Trial
from portkit.conformance.expectation import Acceptances
from portkit.conformance.launching import _GUARDS as GUARDS
from portkit.conformance.launching import _POISONS as POISONS
from portkit.conformance.launching import GUARD_BYTES
from portkit.contract import Capabilities, check_capabilities, unsupported
from portkit.errors import SchemaError, SpecError, UsageError
from portkit.spec import forms
from portkit.spec.geometry import grid_counts
from portkit.spec.kernel import Kernel
from portkit.spec.text import parse
from portkit.spec.types import DTYPES
from portkit.spec.types import decode as decode_bits
from portkit.spec.verify import verify

MAX_KERNEL_BYTES = 4 << 20


@dataclass(frozen=True)
class Loaded:
    """A bundle whose index fits its archive; files are held against their digests when they are read."""

    bundle: Bundle
    digest: str
    source: Source

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.close()

    @property
    def where(self) -> str:
        """What the archive is called in messages."""
        return self.source.where

    def read(self, file: File) -> bytes:
        """Return a file of the archive. Raises `SchemaError` where it is not the one that the index means."""
        content = self.source.read(file.path, file.size)
        if digest(content) != file.sha256:
            raise SchemaError(f"{self.where}: {file.path} was changed: its SHA-256 is not that of {INDEX}")
        return content


@dataclass(frozen=True)
class LoadedCase:
    """A case that fits its kernel."""

    record: BundledCase
    trial: Trial
    layout: Layout
    expected: tuple[Acceptances, ...]
    """Of each launch, what the written buffers may hold."""


def load_bundle(path: Path) -> Loaded:
    """Open a bundle; to be closed, or used in a `with`.

    Raises `UsageError` where there is none or it belongs to another version of the spec, `SchemaError` for an archive
    that is broken or hostile, and for an index that contradicts it or itself.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a bundle is the zip archive that portkit bundle wrote")
    source = open_source(path)
    try:
        if INDEX not in source.sizes():
            raise SchemaError(f"{path}: holds no {INDEX}; this is no bundle")
        content = source.read(INDEX, MAX_INDEX_BYTES)
        bundle = decode(content, Bundle, f"{path}: {INDEX}")
        _check_index(str(path), bundle, source)
        return Loaded(bundle, digest(content), source)
    except BaseException:
        source.close()
        raise


# --- the index ----------------------------------------------------------------------------------------------------


def files_of(case: BundledCase) -> Iterator[File]:
    """Yield every file that a case names."""
    yield case.kernel
    if case.source is not None:
        yield case.source
    for launch in case.launches:
        yield launch.before
        for expected in launch.expected:
            yield from expected.values
            if expected.flags is not None:
                yield expected.flags


def _check_index(where: str, bundle: Bundle, source: Source) -> None:
    if bundle.spec_digest != forms.digest():
        mine = f"{forms.VERSION} ({forms.digest()[:12]})"
        raise UsageError(
            f"{where}: made for the spec {bundle.spec} ({bundle.spec_digest[:12]}), this portkit has {mine}; "
            f"use portkit {bundle.portkit}"
        )
    _check_capabilities(where, bundle.capabilities)
    _check_once(where, "case", [case.id for case in bundle.cases])
    _check_once(where, "output", [launch.after for case in bundle.cases for launch in case.launches])
    _check_files(where, bundle, source)
    for case in bundle.cases:
        _check_case(f"{where}: case {case.id}", case)
    total = sum(case.image_bytes * len(case.launches) for case in bundle.cases)
    if total > MAX_TOTAL_BYTES:
        raise SchemaError(f"{where}: the outputs would take {total} bytes, {MAX_TOTAL_BYTES} are the most")


def _check_capabilities(where: str, capabilities: Capabilities) -> None:
    try:
        check_capabilities(capabilities, f"{INDEX}: capabilities")
    except SchemaError as error:  # its words hold names of the index, however long
        raise SchemaError(f"{where}: {brief(error)}") from error


def _check_once(where: str, what: str, names: list[str]) -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise SchemaError(f"{where}: names the {what} {name} {count} times")


def _check_files(where: str, bundle: Bundle, source: Source) -> None:
    named: dict[str, File] = {}
    for case in bundle.cases:
        for file in files_of(case):
            if named.setdefault(file.path, file) != file:
                raise SchemaError(f"{where}: {INDEX} describes {file.path} in two ways")
    sizes = source.sizes()
    for path, file in named.items():
        if path not in sizes:
            raise SchemaError(f"{where}: lacks {path}, which {INDEX} names")
        if sizes[path] != file.size:
            raise SchemaError(f"{where}: {path} has {sizes[path]} bytes, {INDEX} says {file.size}")
    surplus = sorted(sizes.keys() - named.keys() - {INDEX})
    if surplus:
        raise SchemaError(f"{where}: holds {surplus[0]}, which {INDEX} does not name")


def _check_case(where: str, case: BundledCase) -> None:
    for buffer in case.buffers:
        if buffer.dtype not in DTYPES or buffer.size != buffer.extent * DTYPES[buffer.dtype].bytes:
            raise SchemaError(f"{where}: buffer {buffer.name} has not the size of {buffer.extent} x {buffer.dtype}")
    place = layout([buffer.size for buffer in case.buffers])
    if (place.size, place.offsets) != (case.image_bytes, tuple(buffer.offset for buffer in case.buffers)):
        raise SchemaError(f"{where}: its memory image is not laid out as the format says")
    if case.kernel.size > MAX_KERNEL_BYTES:
        raise SchemaError(f"{where}: its kernel has {case.kernel.size} bytes, {MAX_KERNEL_BYTES} are the most")
    for number, launch in enumerate(case.launches):
        if (launch.poison, launch.guard) != (POISONS[number], GUARDS[number]):
            raise SchemaError(f"{where}: poison and guard of launch {number} are not those of the format")
        if "/" in launch.after or launch.after == MANIFEST:
            raise SchemaError(f"{where}: {launch.after} is no name for an output")
        _check_launch(f"{where}, launch {number}", case, launch)


def _check_launch(where: str, case: BundledCase, launch: Launch) -> None:
    if launch.before.size != case.image_bytes:
        raise SchemaError(f"{where}: {launch.before.path} is no image of {case.image_bytes} bytes")
    written = {b.name: b for b in case.buffers if b.access != "read" and not case.device_check_only}
    if [e.buffer for e in launch.expected] != list(written):
        raise SchemaError(f"{where}: what is expected is not of the written buffers, {', '.join(written) or 'none'}")
    for expected in launch.expected:
        buffer = written[expected.buffer]
        rule = "interval" if DTYPES[buffer.dtype].is_float else "choice"
        if expected.rule != rule or (rule == "interval" and len(expected.values) > 2):
            raise SchemaError(f"{where}: buffer {buffer.name} of {buffer.dtype} is judged by the rule {rule}")
        flags = [] if expected.flags is None else [expected.flags.size == buffer.extent]
        if not all([*(file.size == buffer.size for file in expected.values), *flags]):
            raise SchemaError(f"{where}: the acceptance set of {buffer.name} has not {buffer.extent} elements")


# --- a case -------------------------------------------------------------------------------------------------------


def load_case(loaded: Loaded, record: BundledCase) -> LoadedCase:
    """Return a case with its launch, all of it held against the kernel.

    Raises `SchemaError` where kernel, image and acceptance sets do not belong together.
    """
    where = f"{loaded.where}: case {record.id}"
    kernel = _kernel(where, loaded.read(record.kernel))
    scalars = {s.name: decode_bits(DTYPES[s.dtype], int(s.bits, 16)) for s in record.scalars if s.dtype in DTYPES}
    for what, differs in _DIFFERENCES:
        if differs(record, kernel, scalars):
            raise SchemaError(f"{where}: its {what} in {INDEX} are not those of the kernel")
    missing = unsupported(kernel, loaded.bundle.capabilities)
    if missing:
        raise SchemaError(f"{where}: the kernel needs what the bundle's capabilities lack: {missing[0]}")
    place = layout([buffer.size for buffer in record.buffers])
    images = [loaded.read(launch.before) for launch in record.launches]
    trial = Trial(kernel, scalars, _inputs(record, images[0]), record.device_check_only)
    for launch, image in zip(record.launches, images, strict=True):
        if image != _image(trial, record, place, launch):
            raise SchemaError(f"{where}: {launch.before.path} has not the guard and the poison of the format")
    expected = tuple(_expected(loaded, record, launch) for launch in record.launches)
    return LoadedCase(record, trial, place, expected)


def _kernel(where: str, text: bytes) -> Kernel:
    try:
        kernel = parse(text.decode())
        verify(kernel)
    except (SpecError, UnicodeDecodeError) as error:
        raise SchemaError(f"{where}: its kernel is not valid: {error}") from error
    return kernel


_Scalars = dict[str, int | float]
_Differs = Callable[[BundledCase, Kernel, _Scalars], bool]


def _buffers_differ(record: BundledCase, kernel: Kernel, scalars: _Scalars) -> bool:
    declared = [(b.name, b.dtype.name, b.extent.evaluate(scalars), b.access) for b in kernel.buffers]
    return declared != [(b.name, b.dtype, b.extent, b.access) for b in record.buffers]


def _grid_differs(record: BundledCase, kernel: Kernel, scalars: _Scalars) -> bool:
    try:
        return grid_counts(kernel, scalars) != record.grid
    except SpecError:
        return True


_DIFFERENCES: tuple[tuple[str, _Differs], ...] = (
    ("scalars", lambda r, k, _: [(s.name, s.dtype.name) for s in k.scalars] != [(s.name, s.dtype) for s in r.scalars]),
    ("buffers", _buffers_differ),
    ("grid extents", _grid_differs),
    ("lanes", lambda r, k, _: (k.lanes, k.shared_bytes, k.strict) != (r.lanes, r.shared_bytes, r.strict)),
)


def _inputs(record: BundledCase, image: bytes) -> dict[str, np.ndarray]:
    """Return the buffers that do not begin as poison alone."""
    contents = {b.name: image[b.offset : b.offset + b.size] for b in record.buffers}
    poisoned = {
        b.name for b in record.buffers if b.access == "write" and not contents[b.name].strip(bytes([POISONS[0]]))
    }
    return {b.name: elements(contents[b.name], DTYPES[b.dtype]) for b in record.buffers if b.name not in poisoned}


def _image(trial: Trial, record: BundledCase, place: Layout, launch: Launch) -> bytes:
    """Return the image that the inputs of a launch make."""
    pieces = [bytes([launch.guard]) * GUARD_BYTES]
    for buffer in record.buffers:
        given = trial.inputs.get(buffer.name)
        pieces += [bytes([launch.poison]) * buffer.size if given is None else little(given), b""]
    return place.image(pieces, launch.guard)


def _expected(loaded: Loaded, record: BundledCase, launch: Launch) -> Acceptances:
    dtypes = {buffer.name: DTYPES[buffer.dtype] for buffer in record.buffers}
    return {e.buffer: restore(dtypes[e.buffer], _spelt(loaded, e)) for e in launch.expected}


def _spelt(loaded: Loaded, expected: Expected) -> Spelt:
    flags = loaded.read(expected.flags) if expected.flags is not None else b""
    return Spelt(expected.rule, tuple(loaded.read(file) for file in expected.values), flags)
