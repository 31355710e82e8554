"""Run one kernel, or one launch, from a file on a backend, alone or against the reference.

Kernels and inputs from outside are hostile: the text is verified, and what runs without the reference's checks gets
index checks first, so that it cannot read or write beyond its buffers.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from portkit.conformance.card import FILE_CASE
from portkit.conformance.case import Case, Level, Tier, Trial
from portkit.conformance.files import write_atomically, writing
from portkit.conformance.journal import Entry
from portkit.conformance.judge import judge_case
from portkit.conformance.report.model import read_file
from portkit.conformance.trialfile import SUFFIX, SavedTrial, decode_trial, is_trial
from portkit.contract import unsupported
from portkit.errors import InvalidKernelError, PortkitError, SpecError, UsageError
from portkit.reference.checks import check
from portkit.reference.generator import stream
from portkit.runtime.checked import add_index_checks, first_violation, report_buffer
from portkit.runtime.client import DeviceClient
from portkit.spec.geometry import grid_counts
from portkit.spec.jsonform import from_json
from portkit.spec.kernel import Buffer, Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.text import parse
from portkit.spec.types import DType
from portkit.spec.verify import verify

Array: TypeAlias = np.ndarray[Any, Any]
Scalars: TypeAlias = Mapping[str, int | float]
MAX_FILE_BYTES = 64 << 20
MAX_BUFFER_BYTES = 1 << 30
DEFAULT_SCALAR = 256


@dataclass(frozen=True, slots=True)
class Ran:
    """A launch without comparison: buffers afterwards by name, times in seconds, and the generated source."""

    outputs: dict[str, Array]
    compile_seconds: float
    launch_seconds: float
    source: str


def load_kernel(path: Path) -> Kernel:
    """Read a kernel from its text or JSON form and verify it.

    Raises `UsageError` for a file that cannot be read, `SchemaError` for one that is too large, `SpecError` for what is
    in it.
    """
    return _kernel_in(read_file(path, MAX_FILE_BYTES), path)


def load(path: Path) -> Kernel | SavedTrial:
    """Read a kernel, or a launch from a trial file. Raises as `load_kernel` and `decode_trial`."""
    content = read_file(path, MAX_FILE_BYTES)
    if path.name.endswith(SUFFIX) or is_trial(content):
        return decode_trial(content, str(path))
    return _kernel_in(content, path)


def _kernel_in(content: bytes, path: Path) -> Kernel:
    try:
        if content.lstrip().startswith(b"{"):
            kernel = from_json(content)
        else:
            kernel = parse(content.decode("utf-8", errors="replace"))
        verify(kernel)
    except SpecError as error:
        error.add_note(str(path))
        raise
    return kernel


def complete_scalars(kernel: Kernel, given: Mapping[str, str]) -> dict[str, int | float]:
    """Return a value for each scalar of the kernel; those not given are 256, or 1.0 for f32.

    Raises `UsageError` for a name that the kernel does not have, or a value that is no number of the scalar's dtype.
    """
    known = {s.name: s.dtype for s in kernel.scalars}
    for name in given:
        if name not in known:
            has = f"its scalars are {', '.join(known)}" if known else "it has none"
            raise UsageError(f"kernel {kernel.name} has no scalar {name!r}; {has}")
    return {
        name: _number(name, given[name], dtype) if name in given else (1.0 if dtype.is_float else DEFAULT_SCALAR)
        for name, dtype in known.items()
    }


def _number(name: str, text: str, dtype: DType) -> int | float:
    try:
        value = float(text) if dtype.is_float else int(text, 0)
    except ValueError as error:
        raise UsageError(f"{name}={text} is not a number of dtype {dtype}") from error
    if dtype.is_int and not dtype.min_int <= value <= dtype.max_int:
        raise UsageError(f"{name}={text} does not fit {dtype}")
    return value


def make_inputs(kernel: Kernel, scalars: Scalars, given: Mapping[str, Array], seed: str) -> dict[str, Array]:
    """Return the contents of every buffer that is read: as given, or random and fixed by the seed.

    Random floats lie in [-1, 1), random integers in 0 to the least extent - 1, so that they can serve as indices.
    Raises `UsageError` for arrays that do not fit.
    """
    extents = {b.name: b.extent.evaluate(scalars) for b in kernel.buffers}
    wrong = next((name for name, extent in extents.items() if extent < 0), None)
    if wrong is not None:
        raise UsageError(f"buffer {wrong} has the extent {extents[wrong]}; give larger scalars with --set")
    size = sum(extents[b.name] * b.dtype.bytes for b in kernel.buffers)
    if size > MAX_BUFFER_BYTES:
        raise UsageError(
            f"the buffers take {size} bytes together, more than {MAX_BUFFER_BYTES}; give smaller scalars with --set"
        )
    for name in given:
        if name not in extents:
            raise UsageError(f"kernel {kernel.name} has no buffer {name!r}; its buffers are {', '.join(extents)}")
    least = max(1, min(extents.values(), default=1))
    return {
        b.name: _fitting(b, given[b.name], extents[b.name])
        if b.name in given
        else _random(b.dtype, extents[b.name], least, f"{seed}:{b.name}")
        for b in kernel.buffers
        if b.access != "write" or b.name in given
    }


def _fitting(buffer: Buffer, array: Array, extent: int) -> Array:
    if array.dtype.kind == "V" and array.dtype.itemsize == buffer.dtype.bytes and not array.dtype.names:
        array = array.view(buffer.dtype.numpy)  # NumPy's files know bf16 and its like as bytes only
    if array.dtype != buffer.dtype.numpy or array.size != extent:
        raise UsageError(
            f"buffer {buffer.name} is {extent} x {buffer.dtype}, the array given is {array.size} x {array.dtype}"
        )
    return np.ascontiguousarray(array).reshape(-1)


def _random(dtype: DType, extent: int, below: int, seed: str) -> Array:
    numbers = stream(seed)
    if dtype.is_float:
        return (2.0 * numbers.floats(extent) - 1.0).astype(dtype.numpy)
    return numbers.integers(0, min(below - 1, dtype.max_int), extent).astype(dtype.numpy)


def load_inputs(path: Path) -> dict[str, Array]:
    """Read arrays by buffer name from a `.npz` file; pickled objects are refused.

    Raises `UsageError` for a file that is not one, or whose arrays would take more than `MAX_BUFFER_BYTES`.
    """
    content = read_file(path, MAX_BUFFER_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MAX_BUFFER_BYTES:
                raise UsageError(f"{path} unpacks to {size} bytes, more than {MAX_BUFFER_BYTES}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: _plain(arrays[name], name) for name in arrays.files}
    except PortkitError:
        raise
    except Exception as error:  # a broken file makes zipfile, zlib and NumPy raise anything
        raise UsageError(f"{path} is not a .npz file of plain arrays: {error}") from error


def _plain(array: Array | bytes, name: str) -> Array:
    if isinstance(array, bytes):  # a member that is no .npy file comes as its bytes
        raise UsageError(f"{name} is not an array in the NumPy format")
    return array


def save_outputs(path: Path, outputs: Mapping[str, Array]) -> None:
    """Write arrays by buffer name to a `.npz` file. Raises `UsageError` where the file cannot be written."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:  # not np.savez: its own parameters would hide buffers of their names
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    with writing(path):
        write_atomically(path, content.getvalue())


def run_against_reference(kernel: Kernel, scalars: Scalars, inputs: Mapping[str, Array], client: DeviceClient) -> Entry:
    """Run a kernel and judge it as the suite would. Returns and raises as `judge_trial`."""
    return judge_trial(Trial(kernel, scalars, inputs), client)


def judge_trial(trial: Trial, client: DeviceClient) -> Entry:
    """Run a launch and judge it as the suite would; returns the outcome with its failure card.

    Raises `InvalidKernelError` where the kernel is not valid on these inputs: then no device owes it anything.
    """
    require_valid(trial, client)
    case = Case(f"{FILE_CASE}{trial.kernel.name}", Level.KERNELS, Tier.FULL, trial=lambda: trial)
    return judge_case(case, client)


def run_alone(kernel: Kernel, scalars: Scalars, inputs: Mapping[str, Array], client: DeviceClient) -> Ran:
    """Run a kernel with index checks and return its buffers.

    Raises `InvalidKernelError` where it accesses memory outside of its buffers and the device could report it.
    """
    _require_support(kernel, client)
    checked = add_index_checks(kernel, client.capabilities, scalars)
    before = _with_outputs(kernel, scalars, inputs)
    operands = [array.tobytes() for array in before.values()]
    report = report_buffer(kernel, checked)
    if report is not None:
        operands.append(bytes(report.dtype.bytes))
    values = [scalars[s.name] for s in kernel.scalars]
    ran = client.execute(checked, grid_counts(kernel, scalars), operands, values, want_source=True)
    if report is not None:
        _raise_violation(kernel, int.from_bytes(ran.outputs.pop(), "little"))
    outputs = {n: np.frombuffer(o, a.dtype) for (n, a), o in zip(before.items(), ran.outputs, strict=True)}
    return Ran(outputs, ran.compile_seconds, ran.launch_seconds, ran.source)


def require_valid(trial: Trial, client: DeviceClient) -> None:
    """Raise `UsageError` for a launch that the device need not support, `InvalidKernelError` for one that is wrong."""
    _require_support(trial.kernel, client)
    check(trial.kernel, trial.scalars, _with_outputs(trial.kernel, trial.scalars, trial.inputs))


def _require_support(kernel: Kernel, client: DeviceClient) -> None:
    reasons = unsupported(kernel, client.capabilities)
    if reasons:
        raise UsageError(f"backend {client.reference} does not declare what kernel {kernel.name} needs: {reasons[0]}")


def _with_outputs(kernel: Kernel, scalars: Scalars, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return every buffer before the launch; those that are only written start as zeros."""
    zeros = {b.name: np.zeros(b.extent.evaluate(scalars), b.dtype.numpy) for b in kernel.buffers}
    return {name: inputs.get(name, array) for name, array in zeros.items()}


def _raise_violation(kernel: Kernel, report: int) -> None:
    instr = first_violation(kernel, report)
    if instr is None:
        return
    position = kernel.body.index(instr)
    text = format_kernel(replace(kernel, body=(instr,))).splitlines()[-1].strip()
    raise InvalidKernelError(
        f"instruction {position} `{text}` accesses memory outside its buffer; the access was not made",
        clause="valid_c3",
        instruction=position,
    )
