"""What a backend is: the protocols it fills and the capabilities it declares.

A backend never sees an illegal kernel: what it does not declare here, it is not given. What it declares, it is
tested on. These are protocols, not base classes with defaults, so that nothing succeeds by being inherited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol, cast, get_args, runtime_checkable

import msgspec

from portkit.errors import ContractError, SchemaError, UsageError, near_names
from portkit.spec.forms import EXTENSIONS, FORMS, Form
from portkit.spec.kernel import Kernel
from portkit.spec.types import DTYPES, MAX_LANES, DType
from portkit.spec.uses import uses

CONTRACT_VERSION = "1.0-draft"
ENTRY_POINT_GROUP = "portkit.backends"
ALIGNMENT = 64
"""Every buffer starts at a multiple of this many bytes (Spec: header_c7)."""

Evidence = Literal["silicon", "vendor-simulator", "third-party-emulator", "own-model", "stand-in", "compiled"]
Subnormals = Literal["preserve", "flush"]
Positive = Annotated[int, msgspec.Meta(ge=1)]

BASE_DTYPES = tuple(name for name, dtype in DTYPES.items() if dtype.base)
USABLE_EXTENSIONS = tuple(
    name for name in EXTENSIONS if any(f.extension == name and not f.specified_only for f in FORMS.values())
)
"""Those with a form in use in this version (Spec: ext_c2): nothing could be tested of the others."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a kernel or a launch may use at most (Spec: limit_c1 gives the least that is allowed)."""

    lanes: Annotated[int, msgspec.Meta(ge=256)] = 256
    """Lanes of one work-group."""
    shared_bytes: Annotated[int, msgspec.Meta(ge=16 * 1024)] = 16 * 1024
    buffers: Annotated[int, msgspec.Meta(ge=8)] = 8
    buffer_bytes: Positive = 1 << 30
    max_processes: Positive = 1
    """Device processes that may be open at once; caps the suite's workers."""


class NumericLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the device computes with floats (Spec: numeric_c3..c7)."""

    strict: bool = False
    nonfinite: bool = True
    subnormals: dict[str, Subnormals] = {}
    """By dtype; a float dtype that is not named preserves."""


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes that feed the scheduler; none of them changes a result."""

    workers: Positive = 1
    vector_bytes: Positive = 16
    vector_registers: Positive = 16
    cache_bytes: tuple[Positive, ...] = ()


class Capabilities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a backend declares; read from the TOML file beside it.

    `lanes` are the vector lane counts above 1 (extension `vec`); `math` and `atomic` map a kind (`exp2`, `add`) to the
    dtypes that have it natively.
    """

    name: str
    version: str
    vendor: str
    evidence: Evidence
    dtypes: tuple[str, ...] = BASE_DTYPES
    extensions: tuple[str, ...] = ()
    lanes: tuple[Annotated[int, msgspec.Meta(ge=2, le=MAX_LANES)], ...] = ()
    math: dict[str, tuple[str, ...]] = {}
    atomic: dict[str, tuple[str, ...]] = {}
    numeric: NumericLimits = NumericLimits()
    limits: Limits = Limits()
    tuning: Tuning = Tuning()

    def has(self, extension: str) -> bool:
        return extension in self.extensions

    def flushes(self, dtype: DType) -> bool:
        """Whether subnormals of a float dtype may be flushed to zero."""
        return self.numeric.subnormals.get(dtype.name, "preserve") == "flush"

    def lane_counts(self) -> tuple[int, ...]:
        """The lane counts that registers may have, 1 first."""
        return (1, *self.lanes) if self.has("vec") else (1,)

    def admits(self, form: Form, dtype: DType) -> bool:
        """Whether the device takes this form on this dtype: that of its operands, else memory, else result."""
        if form.specified_only or dtype.name not in self.dtypes:
            return False
        if form.extension and not self.has(form.extension):
            return False
        declared = {"math": self.math, "atomic": self.atomic}.get(form.extension)
        return declared is None or dtype.name in declared.get(form.kind, ())


def unsupported(kernel: Kernel, capabilities: Capabilities) -> list[str]:
    """Return in words what a verified kernel needs and the device does not declare; an empty list if it fits.

    Spec: ext_c1, limit_c1, numeric_c3.
    """
    needs, limits = uses(kernel), capabilities.limits
    reasons = ["numeric strict is not declared"] if needs.strict and not capabilities.numeric.strict else []
    sizes = (
        ("lanes", needs.lanes, limits.lanes),
        ("bytes of shared memory", needs.shared_bytes, limits.shared_bytes),
        ("buffers", needs.buffers, limits.buffers),
    )
    reasons += [f"{used} {what} are more than the declared {most}" for what, used, most in sizes if used > most]
    reasons += [f"dtype {name} is not declared" for name in sorted(needs.dtypes.difference(capabilities.dtypes))]
    missing = sorted(needs.extensions.difference(capabilities.extensions))
    reasons += [f"extension {name} is not declared" for name in missing]
    reasons += [f"{n} lanes are not declared" for n in sorted(needs.vectors.difference(capabilities.lanes))]
    for use in sorted(needs.forms):
        form = FORMS[use.form]
        known = use.dtype in capabilities.dtypes and form.extension not in missing
        if known and not capabilities.admits(form, DTYPES[use.dtype]):
            reasons.append(f"{use.form} on {use.dtype} is not declared")
    return reasons


def load_capabilities(path: Path) -> Capabilities:
    """Read and check a capabilities file.

    Raises `SchemaError` naming the file, the field and what is allowed there.
    """
    try:
        declared = msgspec.toml.decode(path.read_bytes(), type=dict[str, Any])
        _check_keys(declared, path.name)
        capabilities = msgspec.convert(declared, Capabilities)
    except OSError as error:
        raise SchemaError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{path.name}: not a capabilities file: {error}") from error
    check_capabilities(capabilities, path.name)
    return capabilities


def _check_keys(declared: Mapping[str, Any], file: str) -> None:
    """Raise `SchemaError` for a key or an evidence that is not known, with those that are."""
    _check_names(file, "the file", declared, Capabilities.__struct_fields__)
    for table, kind in (("numeric", NumericLimits), ("limits", Limits), ("tuning", Tuning)):
        if isinstance(keys := declared.get(table), dict):
            _check_names(file, table, cast("dict[str, Any]", keys), kind.__struct_fields__)
    if isinstance(evidence := declared.get("evidence"), str):
        _check_names(file, "evidence", [evidence], get_args(Evidence))


def check_capabilities(capabilities: Capabilities, where: str) -> None:
    """Check what a schema cannot say: names, and declarations that mean nothing without another.

    Raises `SchemaError` naming `where` they stand, the field and what is allowed there.
    """
    c = capabilities
    _check_names(where, "dtypes", c.dtypes, DTYPES)
    _check_names(where, "extensions", c.extensions, USABLE_EXTENSIONS)
    _check_names(where, "numeric.subnormals", c.numeric.subnormals, [n for n in c.dtypes if DTYPES[n].is_float])
    for field, table in (("math", c.math), ("atomic", c.atomic)):
        kinds = [f.kind for f in FORMS.values() if f.extension == field]
        _check_names(where, field, table, kinds)
        for kind, dtypes in table.items():
            _check_names(where, f"{field}.{kind}", dtypes, c.dtypes)
    missing = [d for d in BASE_DTYPES if d not in c.dtypes]
    if missing:
        raise SchemaError(f"{where}: dtypes lacks the base dtype {missing[0]}; every device has {BASE_DTYPES}")
    says = {
        "vec": ("lanes", bool(c.lanes)),
        "math": ("math", any(c.math.values())),
        "atomic": ("atomic", any(c.atomic.values())),
    }
    for extension, (field, declared) in says.items():
        if c.has(extension) and not declared:
            raise SchemaError(f"{where}: the extension {extension} needs {field}, which says of what it is declared")
        if declared and not c.has(extension):
            raise SchemaError(f"{where}: {field} needs the extension {extension}; add it to extensions")


def _check_names(file: str, field: str, names: Iterable[str], known: Iterable[str]) -> None:
    allowed = list(known)
    for name in names:
        if name not in allowed:
            raise SchemaError(
                f"{file}: {field} names {name!r}, known are {' '.join(allowed)}{near_names(name, allowed)}"
            )


class DeviceInfo(msgspec.Struct, frozen=True):
    """What a report says about the device; no host names or paths."""

    device: str
    driver: str = ""
    compiler: str = ""
    extra: dict[str, str] = {}


class Executable(Protocol):
    """A compiled kernel; `source` is the generated code for failure cards."""

    source: str

    def release(self) -> None:
        """Free what the driver holds for it; a second call does nothing."""
        ...


class Device(Protocol):
    """An open device. One thread at a time unless `thread_safe`; every vendor exception becomes a `DeviceError`."""

    info: DeviceInfo
    thread_safe: bool

    def allocate(self, size: int, align: int = ALIGNMENT) -> int:
        """Return a handle to `size` bytes (0 is allowed). Raises `OutOfMemory`."""
        ...

    def free(self, handle: int) -> None:
        """Give memory back. Raises `InvalidHandle`."""
        ...

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> None:
        """Copy host bytes to the buffer. Raises `InvalidHandle` for a bad handle or range."""
        ...

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return bytes of the buffer. Raises `InvalidHandle` for a bad handle or range."""
        ...

    def copy(self, target: int, target_offset: int, source: int, source_offset: int, size: int) -> None:
        """Copy between buffers; the ranges do not overlap. Raises `InvalidHandle`."""
        ...

    def compile(self, kernel: Kernel) -> Executable:
        """Compile a kernel that fits the declared capabilities. Raises `CompileError`."""
        ...

    def launch(
        self, executable: Executable, grid: Sequence[int], buffers: Sequence[int], scalars: Sequence[int | float]
    ) -> None:
        """Start the kernel: the extent of each grid loop, buffer handles and scalars in header order."""
        ...

    def synchronise(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until all that was started is done. Raises `DeviceHang`, `DeviceLost`."""
        ...

    def reset(self) -> None:
        """Forget every buffer and executable; the device is as just opened."""
        ...

    def close(self) -> None:
        """Release the device; a second call does nothing."""
        ...


# --- what a device may offer beyond the contract -----------------------------------------------------------------
#
# Each of these protocols is optional: a device has its functions or it has not. They make programs faster or smaller,
# and change no result.


@runtime_checkable
class SubBuffers(Protocol):
    """A device that can address a part of a buffer, so that one allocation can hold many buffers."""

    def view(self, handle: int, offset: int, size: int) -> int:
        """Return a handle to bytes `offset` to `offset + size` of a buffer, to be freed before or with it.

        `offset` is a multiple of `ALIGNMENT`. Raises `InvalidHandle` for a bad handle or range.
        """
        ...


@runtime_checkable
class HostMemory(Protocol):
    """A device whose buffers are memory of this process."""

    def adopt(self, address: int, size: int) -> int:
        """Return a handle to memory that the caller owns, and keeps until it frees the handle.

        `address` is a multiple of `ALIGNMENT`. Raises `InvalidHandle`.
        """
        ...

    def address(self, handle: int) -> int:
        """Return where the buffer starts. Raises `InvalidHandle`."""
        ...


class Code(msgspec.Struct, frozen=True):
    """A compiled kernel: its text for failure cards, its binary, and the bytes of scratch memory that it needs."""

    source: str
    binary: bytes
    scratch: int = 0


@runtime_checkable
class Caching(Protocol):
    """A device whose compiled kernels are bytes that a later process can load on the same kind of device."""

    def compile_to_binary(self, kernel: Kernel) -> Code:
        """Compile, and load nothing. Raises `CompileError`."""
        ...

    def load_binary(self, kernel: Kernel, code: Code) -> Executable:
        """Return what `compile` returns, from `compile_to_binary` of the same kernel. Raises `DeviceError`."""
        ...


class Parameter(NamedTuple):
    """In a recorded call: a buffer that each replay provides, by its place among those it is given."""

    place: int


class Call(NamedTuple):
    """A launch to be recorded: as `Device.launch`, but that buffers may be parameters."""

    executable: Executable
    grid: Sequence[int]
    buffers: Sequence[int | Parameter]
    scalars: Sequence[int | float] = ()


class Recording(Protocol):
    """A checked list of calls, ready to be replayed while its executables and buffers live."""

    def release(self) -> None:
        """Free what the driver holds for it; a second call does nothing."""
        ...


@runtime_checkable
class Replay(Protocol):
    """A device that can take a whole list of launches at once."""

    def record(self, calls: Sequence[Call]) -> Recording:
        """Check the calls as `launch` does and prepare them; nothing is started."""
        ...

    def replay(self, recording: Recording, buffers: Sequence[int]) -> None:
        """Start all calls in order, as if each were launched. `buffers` are the parameters. Raises `InvalidHandle`."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A port: its capabilities and how to open a device."""

    name: str
    capabilities: Capabilities

    def probe(self) -> str | None:
        """Return None, or in one line why the backend cannot run on this machine. Must not raise."""
        ...

    def open(self) -> Device:
        """Open the device. Raises `CannotRunHere`."""
        ...


def installed_backends() -> dict[str, EntryPoint]:
    """Return the entry point of every installed backend by name, without importing any of them."""
    return {point.name: point for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name)}


def backend_point(reference: str) -> EntryPoint:
    """Return where a backend is, by its installed name or by `package.module:ATTRIBUTE`, without importing it.

    Raises `UsageError` for an unknown name.
    """
    points = installed_backends()
    if reference not in points and ":" not in reference:
        known = ", ".join(points) or "none"
        raise UsageError(f"unknown backend {reference!r}; installed: {known}{near_names(reference, points)}")
    point = points.get(reference) or EntryPoint(reference, reference, ENTRY_POINT_GROUP)
    if point.pattern.fullmatch(point.value) is None or not point.attr:
        raise UsageError(f"{point.value!r} is no backend reference; write a name, or package.module:ATTRIBUTE")
    return point


def find_backend(reference: str) -> Backend:
    """Import a backend by its installed name, or by `package.module:ATTRIBUTE`.

    Raises `UsageError` for an unknown name or module, `ContractError` if it cannot be imported or is not a backend.
    """
    point = backend_point(reference)
    try:
        backend = point.load()
    except ModuleNotFoundError as error:
        if point.name == point.value and f"{point.module}.".startswith(f"{error.name}."):  # it was typed so
            raise UsageError(f"there is no module {error.name!r}, where the backend {reference} should be") from error
        raise ContractError(f"backend {reference!r} cannot be imported: {error}") from error
    except Exception as error:
        raise ContractError(f"backend {reference!r} cannot be imported: {error}") from error
    if not isinstance(backend, Backend):
        raise ContractError(f"{point.value} is not a backend: it lacks name, capabilities, probe or open")
    return backend
