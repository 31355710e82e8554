"""The checks of level `device`: all pass on a right device, and each kind of fault is caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from portkit.conformance.case import Case, CheckFailed
from portkit.conformance.cases import device, device_launch
from portkit.errors import DeviceLost, PortkitError
from tests.conformance.cases.host_device import MAXIMAL, HostDevice, swallow, variant

CASES = {c.id: c for c in (*device.cases(MAXIMAL), *device_launch.cases(MAXIMAL))}


def run(case: Case, target: HostDevice) -> None:
    assert case.check is not None
    case.check(target)  # type: ignore[arg-type]


@pytest.mark.parametrize("case_id", CASES)
def test_a_device_that_does_what_the_contract_says_passes(case_id: str) -> None:
    run(CASES[case_id], HostDevice())


def _write_elsewhere(write: Callable[..., Any], handle: int, offset: int, data: bytes) -> None:
    write(handle, max(0, offset - 1), data)


def _drop_last_byte(write: Callable[..., Any], handle: int, offset: int, data: bytes) -> None:
    write(handle, offset, bytes(data)[: len(data) // 8 * 8])


def _copy_back_to_front(
    copy: Callable[..., Any], target: int, target_offset: int, source: int, source_offset: int, size: int
) -> None:
    copy(source, source_offset, target, target_offset, size)


def _ignore_copy_offset(
    copy: Callable[..., Any], target: int, target_offset: int, source: int, source_offset: int, size: int
) -> None:
    copy(target, target_offset, source, 0, size)


def _always_the_same(allocate: Callable[..., Any], size: int, align: int = 64) -> int:
    device = allocate.__self__  # type: ignore[attr-defined]
    device.memory[1] = bytearray(size)
    return 1


def _reversed_buffers(launch: Callable[..., Any], executable: Any, grid: Any, handles: Sequence[int], s: Any) -> None:
    reads = [h for b, h in zip(executable.kernel.buffers, handles, strict=True) if b.access == "read"]
    order = iter(reversed(reads))
    swapped = [
        next(order) if b.access == "read" else h for b, h in zip(executable.kernel.buffers, handles, strict=True)
    ]
    launch(executable, grid, swapped, s)


def _floats_first(launch: Callable[..., Any], executable: Any, grid: Any, handles: Any, s: Sequence[Any]) -> None:
    order = sorted(range(len(s)), key=lambda k: isinstance(s[k], int))
    launch(executable, grid, handles, [s[k] for k in order])


def _nothing(*args: Any) -> None:
    del args


def _forget_memory_only(reset: Callable[..., Any]) -> None:
    reset.__self__.memory.clear()  # type: ignore[attr-defined]


def _at_most_once(launch: Callable[..., Any], executable: Any, *rest: Any) -> None:
    if not hasattr(executable, "launched"):
        executable.launched = True
        launch(executable, *rest)


def _at_least_one_group(launch: Callable[..., Any], executable: Any, grid: Any, handles: Any, s: Any) -> None:
    launch(executable, grid, handles, [max(1, v) for v in s])


def _die(*args: Any) -> None:
    raise DeviceLost("gone")


def _accept(compile_: Callable[..., Any], kernel: Any) -> Any:
    try:
        return compile_(kernel)
    except PortkitError:
        return object()


FAULTS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "writes at the wrong offset": ("device/transfer/offsets", {"write": _write_elsewhere}),
    "drops the end of a write": ("device/transfer/size_7", {"write": _drop_last_byte}),
    "copies from target to source": ("device/copy/whole", {"copy": _copy_back_to_front}),
    "ignores the source offset of a copy": ("device/copy/offsets", {"copy": _ignore_copy_offset}),
    "gives one handle to all buffers": ("device/allocate/distinct_handles", {"allocate": _always_the_same}),
    "lets buffers overlap": ("device/allocate/live_buffers_do_not_overlap", {"allocate": _always_the_same}),
    "frees twice in silence": ("device/errors/double_free", {"free": swallow}),
    "writes anywhere": ("device/errors/out_of_range", {"write": swallow}),
    "reads anywhere": ("device/errors/out_of_range", {"read": swallow}),
    "copies anywhere": ("device/errors/out_of_range", {"copy": swallow}),
    "takes foreign handles": ("device/errors/foreign_handle", {"read": swallow}),
    "uses freed buffers": ("device/errors/use_after_free", {"write": swallow}),
    "never runs out of memory": ("device/errors/out_of_memory", {"allocate": swallow}),
    "takes negative sizes": ("device/errors/negative_size", {"allocate": swallow}),
    "does not reset": ("device/reset/forgets_buffers", {"reset": _nothing}),
    "keeps executables over a reset": ("device/reset/forgets_executables", {"reset": _forget_memory_only}),
    "dies when it is closed": ("device/close/opens_again", {"leave": _die}),
    "launches nothing": ("device/launch/index", {"launch": _nothing}),
    "launches once only": ("device/launch/many_times", {"launch": _at_most_once}),
    "turns an empty grid into one group": ("device/launch/grid_0", {"launch": _at_least_one_group}),
    "turns buffers around": ("device/launch/argument_order", {"launch": _reversed_buffers}),
    "passes float scalars first": ("device/launch/argument_order", {"launch": _floats_first}),
    "dies on a broken kernel": ("device/errors/compile", {"compile": _die}),
    "compiles a broken kernel": ("device/errors/compile", {"compile": _accept}),
    "launches with freed buffers": ("device/errors/launch_with_freed_buffer", {"launch": swallow}),
}


@pytest.mark.parametrize(("case_id", "methods"), FAULTS.values(), ids=FAULTS.keys())
def test_a_device_with_one_fault_fails_its_check(case_id: str, methods: dict[str, Callable[..., Any]]) -> None:
    with pytest.raises((CheckFailed, PortkitError)):
        run(CASES[case_id], variant(**methods))
