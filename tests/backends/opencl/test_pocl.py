"""What PoCL is helped with: short declarations, files that go with the process, carries of loops that diverge."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from portkit.backends.opencl.dialect import OPENCL
from portkit.conformance.judge import model_of
from portkit.conformance.launching import Launch
from portkit.conformance.trialfile import load_trial
from portkit.conformance.verdict import Verdict
from portkit.runtime.client import DeviceClient
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

if TYPE_CHECKING:
    from portkit.backends.drivers.device import CheckedDevice

cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed")
pocl = pytest.importorskip("portkit.backends.opencl.pocl")
choice = pytest.importorskip("portkit.backends.opencl.choice")

LANES, GROUPS = 16, 3


@pytest.fixture
def on_pocl(device: CheckedDevice[Any]) -> CheckedDevice[Any]:
    if choice.choose().platform.name != pocl.PLATFORM:
        pytest.skip("the OpenCL device is not PoCL's")
    return device


# --- the mistakes -----------------------------------------------------------------------------------------------------


def diverging(dtype: str, *, meets: bool = True) -> Kernel:
    """out = 2 where the number of the lane has bit 1 set, for a loop that does nothing else turns there; else 1.

    Then the lanes meet as often as the number of the group says.
    """
    b = Builder("diverging")
    out = b.buffer("out", dtype, LANES * GROUPS, "write")
    first, other = (b.const("i32", 1), b.const("i32", 2))
    stage, three, less = b.shared("stage", "i32", LANES), b.const("i32", 3), b.const("i32", -1)
    group, lane = b.grid(GROUPS), b.lane(LANES)
    with b.serial(b.add(b.op("reduce.and", lane, three), less), kept=b.cast(first, dtype)) as loop:
        loop.next(kept=b.cast(other, dtype))
    if meets:
        with b.serial(group):
            b.store(stage, lane, lane)
            b.barrier()
    b.store(out, b.add(b.mul(group, b.const("i32", LANES)), lane), loop["kept"])
    return b.build()


def run(device: CheckedDevice[Any], kernel: Kernel) -> list[list[float]]:
    dtype = kernel.buffers[0].dtype
    out = device.allocate(LANES * GROUPS * dtype.bytes)
    executable = device.compile(kernel)
    device.launch(executable, [GROUPS], [out], [])
    data = device.read(out, 0, LANES * GROUPS * dtype.bytes)
    executable.release()
    device.free(out)
    return np.frombuffer(data, dtype.numpy).reshape(GROUPS, LANES).astype(float).tolist()


@pytest.mark.parametrize("dtype", ["i32", "f32", "i8", "i16", "u64", "f64"])
def test_a_carry_of_a_loop_that_diverges_differs_between_lanes_after_they_met(
    dtype: str, device: CheckedDevice[Any]
) -> None:
    expected = [1.0 if lane % 4 < 2 else 2.0 for lane in range(LANES)]
    assert run(device, diverging(dtype)) == [expected] * GROUPS


def test_only_carries_that_may_differ_are_marked_and_only_where_lanes_meet() -> None:
    assert pocl.dialect(diverging("f32")).varying == {"kept"}
    assert pocl.dialect(diverging("f32", meets=False)) is OPENCL


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_closed_gate_stores_nothing_in_a_large_kernel_in_which_lanes_meet(on_pocl: CheckedDevice[Any]) -> None:
    """The kernel was drawn at random: without gates that are read anew, lanes of its last group store past the end."""
    del on_pocl
    trial = load_trial(Path(__file__).with_name("gates.trial.json")).trial
    with DeviceClient("opencl") as client:
        found = Launch(trial, client, model_of(client.capabilities), 60.0).run()
    assert found.verdict is Verdict.PASS


def test_gates_are_read_anew_only_where_lanes_meet() -> None:
    assert [pocl.dialect(diverging("f32", meets=meets)).rereads_gates for meets in (True, False)] == [True, False]


def test_this_release_takes_the_short_declarations(on_pocl: CheckedDevice[Any]) -> None:
    driver: Any = on_pocl._driver
    assert pocl.LIGHT_OPTION in driver._options


def test_a_release_that_does_not_is_given_none(on_pocl: CheckedDevice[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from portkit.backends.opencl.device import OpenClDriver

    monkeypatch.setattr(pocl, "EXAMPLE", "kernel void run() { gone(); }")
    driver = OpenClDriver(choice.choose())
    assert pocl.LIGHT_OPTION not in driver._options
    assert driver.load(b"kernel void run(global uint *x) { x[get_global_id(0)] = clz(1u); }").buffers == (True,)


# --- space ------------------------------------------------------------------------------------------------------------


def settled(place: Path, **extra: str) -> list[str]:
    """Settle in a process of its own with a folder for temporary files; what PoCL is told, and what is there then."""
    script = (
        "import os, pathlib; from portkit.backends.opencl import pocl; pocl.settle(); "
        "print(os.environ.get('POCL_CACHE_DIR'), os.environ.get('POCL_KERNEL_CACHE')); "
        f"print(*sorted(p.name for p in pathlib.Path({str(place)!r}).iterdir()))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POCL_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "TMPDIR": str(place), **extra},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n")


def test_the_private_folder_ends_with_the_process(tmp_path: Path) -> None:
    told, there, *_ = settled(tmp_path)
    assert told.startswith(str(tmp_path / "portkit-pocl-"))
    assert told.endswith(" 0")
    assert there.startswith("portkit-pocl-")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_the_user_names_is_left_alone(tmp_path: Path) -> None:
    told, there, *_ = settled(tmp_path, POCL_CACHE_DIR="/nowhere")
    assert told == "/nowhere None"
    assert there == ""


def test_lanes_are_looped_over_unless_the_user_says_otherwise() -> None:
    script = "import os; from portkit.backends.opencl import pocl; pocl.settle(); print(os.environ[pocl.METHOD])"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POCL_")}
    for extra, method in (({}, "loopvec"), ({"POCL_WORK_GROUP_METHOD": "cbs"}, "cbs")):
        done = subprocess.run(
            [sys.executable, "-c", script], env={**environment, **extra}, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{method}\n"


def test_folders_of_processes_that_were_killed_are_removed_and_no_others(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    kept = [f"portkit-pocl-{os.getpid()}-abc", "portkit-pocl-x-abc", "other"]
    for name in [*kept, f"portkit-pocl-{int(gone.stdout)}-abc"]:
        (tmp_path / name / "inside").mkdir(parents=True)
    settled(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_released_kernel_leaves_no_files_behind(on_pocl: CheckedDevice[Any]) -> None:
    place = Path(os.environ["POCL_CACHE_DIR"])
    if os.environ.get("POCL_KERNEL_CACHE") != "0":
        pytest.skip("the user keeps what PoCL built")

    def files_after_a_kernel() -> int:
        run(on_pocl, diverging("u32", meets=False))
        gc.collect()
        return sum(path.is_file() for path in place.rglob("*"))

    files_after_a_kernel()
    assert files_after_a_kernel() == files_after_a_kernel()


def test_long_kernels_are_built_without_the_optimiser() -> None:
    assert pocl.options("x" * (pocl.LONG - 1)) == ()
    assert pocl.options("x" * pocl.LONG) == (pocl.UNOPTIMISED,)
