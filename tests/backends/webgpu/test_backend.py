"""The webgpu backend from outside: what it says where it cannot run, what it declares, and its faults, planted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from portkit.backends.webgpu import BACKEND
from portkit.conformance.case import Case
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.conformance.verdict import Verdict
from portkit.runtime.client import DeviceClient
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


@pytest.mark.usefixtures("runs_here")
def test_a_processor_that_plays_a_gpu_is_no_silicon() -> None:
    from portkit.backends.webgpu.adapter import choose

    is_software = choose().info["adapter_type"] == "CPU"
    assert (BACKEND.capabilities.evidence == "third-party-emulator") is is_software


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {case.id: case for case in collect(BACKEND.capabilities)}


@pytest.mark.usefixtures("runs_here")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_printer_is_found(cases: dict[str, Case], name: str) -> None:
    with DeviceClient(f"tests.backends.webgpu.faults:{name}") as client:
        outcome = judge_case(cases[FAULTS[name].witness], client)
    assert outcome.verdict is Verdict.FAIL
