"""Kernels on Oclgrind, which interprets them and watches every access: no lane races, none leaves its buffers.

The device process alone runs under it: what `oclgrind COMMAND` puts into the environment of a command is put into its.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from portkit.conformance.case import Case
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.conformance.launching import Launch
from portkit.conformance.verdict import Verdict
from portkit.reference.bounds import NumericModel
from portkit.runtime.client import DeviceClient

OCLGRIND = shutil.which("oclgrind")
if OCLGRIND is None:
    pytest.skip("oclgrind is not installed; apt install oclgrind", allow_module_level=True)
pytest.importorskip("pyopencl", reason="pyopencl is not installed")

# Its interpreter lacks instructions that optimised code has, such as funnel shifts.
WATCHED = ("--data-races", "--uninitialized", "--check-api", "--build-options", "-cl-opt-disable")
SECONDS = 30.0
FOUND = ("data race", "Invalid read", "Invalid write", "Uninitialized value", "Work-group divergence")
VALID = (
    "kernels/fuzz/base/0002",
    "kernels/fuzz/declared/0003",
    "kernels/index/gated_chain/150",
    "kernels/index/matrix/13x7",
    "kernels/index/tails/64_lanes_63",
    "kernels/loops/triangle",
    "kernels/math/gemm/f32_9x7x17",
    "kernels/shared/double_buffer/4x5",
    "kernels/shared/histogram/64",
    "kernels/shared/rotate_loop/5_lanes_7_trips",
    "kernels/shared/scan/f32_31",
    "kernels/shared/stencil/65",
    "kernels/shared/transpose/3",
    "kernels/shared/tree_sum/i32_7",
    "ops/barrier/i32/exchange",
    "ops/load.async/f32/neighbour",
    "ops/load/f32/gate",
    "ops/phi.carry/f32/special",
    "ops/store.atomic.add/u32/contended",
    "ops/store/f32/gate",
)
"""Cases with barriers, shared arrays, tails, gates, copies, atomics."""


@pytest.fixture(scope="module")
def watched() -> Iterator[None]:
    """Let device processes that are started from now on run under Oclgrind."""
    given = subprocess.run([str(OCLGRIND), *WATCHED, "env"], capture_output=True, text=True, check=True).stdout
    with pytest.MonkeyPatch.context() as patch:
        for line in given.splitlines():
            name, _, value = line.partition("=")
            if name.startswith("OCLGRIND_") or name in ("LD_PRELOAD", "LD_LIBRARY_PATH"):
                patch.setenv(name, value)
        patch.setenv("PORTKIT_OPENCL_DEVICE", "oclgrind")
        yield


@pytest.fixture(scope="module")
def client(watched: None) -> Iterator[DeviceClient]:
    del watched
    with DeviceClient("portkit.backends.opencl:BACKEND") as opened:
        yield opened


@pytest.fixture(scope="module")
def cases(client: DeviceClient) -> dict[str, Case]:
    return {case.id: case for case in collect(client.capabilities)}


def complaints(case: Case, client: DeviceClient) -> list[str]:
    """Run a case's kernel on buffers that are no longer than it is told, and return what Oclgrind says of it.

    Of calls it may complain where they ask for facts about the device that its release has not heard of.
    """
    assert case.trial is not None
    launch = Launch(case.trial(), client, NumericModel(), SECONDS)
    operands = [array.tobytes() for array in launch.before(0).values()]
    client.execute(launch.kernel, launch.grid, operands, launch.scalars, timeout=SECONDS)
    client.synchronise()  # what was printed until now is read with its answer
    said = client.printed.splitlines()
    calls = [line for line in said if line.strip().startswith("Function:") and "clGetDeviceInfo" not in line]
    return [line for line in said if any(words in line for words in FOUND)] + calls


def test_the_evidence_is_that_of_an_emulator(client: DeviceClient) -> None:
    assert client.capabilities.evidence == "third-party-emulator"


@pytest.mark.parametrize("name", VALID)
def test_a_valid_kernel_gives_right_results_and_no_complaint(
    name: str, client: DeviceClient, cases: dict[str, Case]
) -> None:
    outcome = judge_case(cases[name], client)
    assert outcome.verdict is Verdict.PASS, outcome.reason
    assert complaints(cases[name], client) == []


@pytest.mark.parametrize(
    ("fault", "witness", "complaint"),
    [
        ("barrier_dropped", "kernels/shared/stencil/65", "data race"),
        ("barrier_inside_loops_dropped", "kernels/shared/rotate_loop/5_lanes_7_trips", "data race"),
        ("gate_dropped", "kernels/index/tails/64_lanes_63", "Invalid write"),
        ("loop_turns_once_more", "kernels/math/gemm/f32_9x7x17", "Invalid read"),
        ("copy_is_short", "ops/load.async/f32/own", "Uninitialized value"),
    ],
)
def test_a_planted_fault_is_complained_of(
    fault: str, witness: str, complaint: str, cases: dict[str, Case], watched: None
) -> None:
    del watched
    with DeviceClient(f"tests.backends.opencl.faulty:{fault}") as faulty:
        assert any(complaint in line for line in complaints(cases[witness], faulty))
