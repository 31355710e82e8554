"""The webgpu backend from outside: what it says where it cannot run, what it declares, and its faults, planted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from portkit.backends.webgpu import BACKEND
from portkit.conformance.case import Case
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.conformance.mutants.device import rewriting
from portkit.conformance.verdict import Verdict
from portkit.contract import Capabilities, load_capabilities
from portkit.errors import CannotRunHere
from portkit.runtime.client import DeviceClient
from portkit.spec.types import F32
from tests.backends.webgpu.faults import FAULTS

PROBE = "from portkit.backends.webgpu import BACKEND; print(BACKEND.probe())"


def output(script: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what a script prints to standard output."""
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **(environment or {})}
    ).stdout


@pytest.fixture
def runs_here() -> None:
    if reason := BACKEND.probe():
        pytest.skip(f"webgpu: {reason}")


def test_the_package_is_imported_without_its_library() -> None:
    assert output("import sys, portkit.backends.webgpu; print('wgpu' in sys.modules)").strip() == "False"


def test_a_missing_library_is_named() -> None:
    reason = output(f"import sys; sys.modules['wgpu'] = None; {PROBE}")
    assert reason.startswith("wgpu cannot be loaded (")
    assert "pip install" in reason


@pytest.mark.usefixtures("runs_here")
@pytest.mark.skipif(sys.platform != "linux", reason="adapters are hidden through the Vulkan loader's environment")
def test_a_missing_adapter_is_said_in_one_line() -> None:
    nothing = {"VK_ICD_FILENAMES": os.devnull, "VK_DRIVER_FILES": os.devnull, "WGPU_BACKEND_TYPE": "Vulkan"}
    reason = output(PROBE, nothing).strip()
    assert reason.startswith("there is no WebGPU adapter (")
    assert "mesa-vulkan-drivers" in reason
    assert "\n" not in reason


@pytest.mark.usefixtures("runs_here")
def test_opening_the_device_prints_nothing() -> None:
    assert output("from portkit.backends.webgpu import BACKEND; BACKEND.open().close()") == ""


LIMITS = {
    "max-compute-invocations-per-workgroup": 256,
    "max-compute-workgroup-size-x": 256,
    "max-compute-workgroup-storage-size": 16_384,
    "max-storage-buffers-per-shader-stage": 9,
    "max-storage-buffer-binding-size": 1 << 27,
    "max-buffer-size": 1 << 28,
}


@dataclass(frozen=True)
class Adapter:
    """As much of a `GPUAdapter` as is looked at."""

    info: Mapping[str, str]
    limits: Mapping[str, int]
    summary: str = "a chip"


def fitted(device: str, kind: str, **limits: int) -> Capabilities:
    pytest.importorskip("wgpu", reason="wgpu is not installed")
    from portkit.backends.webgpu import adapter

    declared = load_capabilities(Path(adapter.__file__).with_name("capabilities.toml"))
    changed = {name.replace("_", "-"): limit for name, limit in limits.items()}
    chip: Any = Adapter({"device": device, "adapter_type": kind}, {**LIMITS, **changed})
    return adapter.fitted(declared, chip)


@pytest.mark.parametrize(
    ("kind", "evidence"),
    [("DiscreteGPU", "silicon"), ("IntegratedGPU", "silicon"), ("CPU", "third-party-emulator")],
)
def test_the_evidence_is_what_the_adapter_is(kind: str, evidence: str) -> None:
    assert fitted("a chip", kind).evidence == evidence


def test_an_adapter_that_was_never_measured_declares_what_wgsl_promises() -> None:
    capabilities = fitted("a chip", "DiscreteGPU")
    assert not capabilities.numeric.strict
    assert capabilities.flushes(F32)
    assert capabilities.math == {"trunc": ("f32",)}


def test_llvmpipe_is_strict() -> None:
    capabilities = fitted("llvmpipe (LLVM 15.0.6, 256 bits)", "CPU")
    assert capabilities.numeric.strict
    assert not capabilities.flushes(F32)


def test_a_buffer_is_no_larger_than_the_adapter_binds() -> None:
    assert fitted("a chip", "CPU", max_storage_buffer_binding_size=1 << 20).limits.buffer_bytes == 1 << 20


@pytest.mark.parametrize("limit", [name for name in LIMITS if name.startswith("max-compute")])
def test_an_adapter_with_less_than_every_port_has_is_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wgpu = pytest.importorskip("wgpu", reason="wgpu is not installed")
    from portkit.backends.webgpu.adapter import choose

    chip = Adapter({}, {**LIMITS, limit: LIMITS[limit] - 1})
    monkeypatch.setattr(wgpu.gpu, "request_adapter_sync", lambda power_preference: chip)
    with pytest.raises(CannotRunHere, match=f"{limit} is {LIMITS[limit] - 1}"):
        choose.__wrapped__()


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {case.id: case for case in collect(BACKEND.capabilities)}


@pytest.fixture(scope="module")
def faulty() -> Iterator[DeviceClient]:
    if reason := BACKEND.probe():
        pytest.skip(f"webgpu: {reason}")
    with DeviceClient("tests.backends.webgpu.faults:BACKEND") as client:
        yield client


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_printer_is_found(cases: dict[str, Case], faulty: DeviceClient, name: str) -> None:
    case = cases[FAULTS[name].witness]
    assert judge_case(case, faulty).verdict is Verdict.PASS
    planted: Any = rewriting(lambda kernel: replace(kernel, name=name))(faulty)
    planted.kill = lambda: None  # the process is as good as before: the next fault needs it too
    assert judge_case(case, planted).verdict is Verdict.FAIL
