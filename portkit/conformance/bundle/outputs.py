"""Outputs: the memory images after the launches of a bundle, made here on a backend, or read from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from portkit.conformance.bundle.archive import Source, open_source, pack
from portkit.conformance.bundle.load import Loaded, LoadedCase, load_case
from portkit.conformance.bundle.model import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    BundledCase,
    Outputs,
    Unmade,
    decode,
    encode,
)
from portkit.conformance.files import write_atomically, writing
from portkit.conformance.finding import failed_call
from portkit.conformance.judge import CASE_SECONDS, model_of
from portkit.conformance.launching import Launch
from portkit.errors import ContractError, DeviceError, SchemaError, UsageError, near_names
from portkit.runtime.client import DeviceClient

_MAX_REASON = 400
OnCase = Callable[[str, int, int], None]


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """Outputs whose names and sizes fit their bundle."""

    record: Outputs
    source: Source

    def __enter__(self) -> Given:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.close()

    @property
    def stated(self) -> bool:
        """Whether they say what made them: else they count as made by a stand-in."""
        return MANIFEST in self.source.sizes()

    def complete(self, case: BundledCase) -> bool:
        """Return whether every launch of a case has its image, or the reason why it has none."""
        names = self.source.sizes()
        return case.id in self.record.unmade or all(launch.after in names for launch in case.launches)

    def image(self, case: BundledCase, launch: int) -> bytes:
        """Return the memory image after a launch."""
        return self.source.read(case.launches[launch].after, case.image_bytes)


def read_outputs(path: Path, loaded: Loaded) -> Given:
    """Open the outputs that belong to a bundle: a folder, or a zip archive; to be closed, or used in a `with`.

    Raises `UsageError` where there are none, `SchemaError` for what is broken or hostile, has a name that the bundle
    does not have, or another size than the image before the launch.
    """
    source = open_source(path)
    try:
        given = Given(_manifest(source, loaded), source)
        _check_names(given, loaded)
    except BaseException:
        source.close()
        raise
    return given


def _manifest(source: Source, loaded: Loaded) -> Outputs:
    if MANIFEST not in source.sizes():
        return Outputs(format="portkit-outputs", version=1, bundle=loaded.digest)
    record = decode(source.read(MANIFEST, MAX_MANIFEST_BYTES), Outputs, f"{source.where}: {MANIFEST}")
    if record.bundle != loaded.digest:
        raise SchemaError(
            f"{source.where}: these outputs are of the bundle {record.bundle[:12]}, not of {loaded.digest[:12]}"
        )
    return record


def _check_names(given: Given, loaded: Loaded) -> None:
    where, sizes = given.source.where, given.source.sizes()
    cases = {case.id: case for case in loaded.bundle.cases}
    owners = {launch.after: case for case in cases.values() for launch in case.launches}
    for case_id in given.record.unmade:
        if case_id not in cases:
            raise SchemaError(f"{where}: {MANIFEST} names the case {case_id}, which the bundle does not hold")
        if any(launch.after in sizes for launch in cases[case_id].launches):
            raise SchemaError(f"{where}: {MANIFEST} says that {case_id} was not made, and yet its output is there")
    for name, size in sizes.items():
        if name == MANIFEST:
            continue
        if name not in owners:
            raise SchemaError(f"{where}: holds {name}, which is no output of this bundle{near_names(name, owners)}")
        wanted = owners[name].image_bytes
        if size != wanted:
            raise SchemaError(f"{where}: {name} has {size} bytes, the image of {owners[name].id} has {wanted}")


# --- making -------------------------------------------------------------------------------------------------------


def make_outputs(
    loaded: Loaded,
    client: DeviceClient,
    *,
    seconds: float = CASE_SECONDS,
    on_case: OnCase = lambda case_id, done, total: None,
) -> dict[str, bytes]:
    """Run every launch of a bundle on a device and return the outputs by name, `outputs.json` among them.

    `seconds` is the time limit of one launch. Run only what `check_genuine` has admitted: a kernel from elsewhere may
    access memory that is not its own.
    """
    files: dict[str, bytes] = {}
    unmade: dict[str, Unmade] = {}
    for number, record in enumerate(loaded.bundle.cases):
        on_case(record.id, number, len(loaded.bundle.cases))
        found = _launched(load_case(loaded, record), client, seconds)
        if isinstance(found, Unmade):
            unmade[record.id] = found
        else:
            files.update(found)
    info = client.info
    manifest = Outputs(
        format="portkit-outputs",
        version=1,
        bundle=loaded.digest,
        device=info.device[:_MAX_REASON],
        driver=info.driver[:_MAX_REASON],
        compiler=info.compiler[:_MAX_REASON],
        evidence=client.capabilities.evidence,
        unmade=unmade,
    )
    return {MANIFEST: encode(manifest), **files}


def _launched(case: LoadedCase, client: DeviceClient, seconds: float) -> dict[str, bytes] | Unmade:
    launch = Launch(case.trial, client, model_of(client.capabilities), seconds)
    images: dict[str, bytes] = {}
    for poison, record in enumerate(case.record.launches):
        try:
            ran = launch._execute(poison, launch.kernel)
        except (DeviceError, ContractError) as error:
            found = failed_call(error, client)
            return Unmade(found.verdict.value, found.reason[:_MAX_REASON])  # pyright: ignore[reportArgumentType]
        images[record.after] = case.layout.image(ran.outputs, record.guard)
    return images


def write_outputs(files: dict[str, bytes], path: Path) -> Path:
    """Write outputs as a zip archive if the path ends in .zip, else into a folder that is new or empty.

    Raises `UsageError` where something else is there.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            return write_atomically(path, pack(files))
        path.mkdir(exist_ok=True)
        if any(path.iterdir()):
            raise UsageError(f"{path} is not empty; outputs of two runs must not mix: choose another folder")
        for name, content in files.items():
            write_atomically(path / name, content)
    return path
