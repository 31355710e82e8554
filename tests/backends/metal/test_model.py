"""The model of the device: its threads, its memory, and what it says where something is wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portkit.backends.drivers.device import CheckedDevice
from portkit.backends.metal import BACKEND, MODEL_VARIABLE, model
from portkit.backends.metal.printer import MSL
from portkit.conformance.cases.collect import collect
from portkit.conformance.judge import judge_case
from portkit.contract import Limits
from portkit.errors import CannotRunHere, CompileError, DeviceError, OutOfMemory
from portkit.runtime.client import DeviceClient
from portkit.spec.builder import Builder
from tests.backends.metal.faults import FAULTS
from tests.backends.metal.kernels import apply, execute, meeting_in_part, neighbours, pointwise, scaled

Device = CheckedDevice[Any]
F16_LEAST, F32_LEAST = 2.0**-24, 2.0**-149
NO_COMPILER = "no-such-compiler"


# --- threads ------------------------------------------------------------------------------------------------------


def test_every_thread_finds_its_place_in_a_grid_of_two_loops(model: Device) -> None:
    x = np.arange(5 * 8, dtype=np.float32)
    out = execute(model, scaled(), {"x": x}, {"rows": 5, "a": 0.5, "shift": -3})["out"]
    assert out.tolist() == (0.5 * x - 3).tolist()


@pytest.mark.parametrize("lanes", [2, 33, 256, 1024])
def test_threads_that_meet_see_what_others_left(model: Device, lanes: int) -> None:
    out = execute(model, neighbours(meet=True, lanes=lanes), {}, {})["out"].reshape(3, lanes)
    assert out.tolist() == [[lanes - 1 - lane + group for lane in range(lanes)] for group in range(3)]


def test_a_missing_barrier_shows(model: Device) -> None:
    out = execute(model, neighbours(meet=False), {}, {})["out"]
    wanted = execute(model, neighbours(meet=True), {}, {})["out"]
    assert out.tolist() != wanted.tolist()


def test_shared_memory_begins_as_garbage_in_every_group(model: Device) -> None:
    b = Builder("unwritten")
    out, cells = b.buffer("out", "u32", 3, "write"), b.shared("cells", "u32", 1)
    group, lane = b.grid(3), b.lane(1)
    b.store(out, group, b.load(cells, lane))
    b.store(cells, lane, b.cast(group, "u32"))
    assert execute(model, b.build(), {}, {})["out"].tolist() == [0xABABABAB] * 3


def test_threads_that_do_not_all_come_to_a_barrier_are_an_error(model: Device) -> None:
    with pytest.raises(DeviceError, match="did not meet at the same barrier"):
        execute(model, meeting_in_part(), {}, {})


def test_many_groups_run_on_every_processor_and_each_once(model: Device) -> None:
    b = Builder("many")
    out = b.buffer("out", "i32", 20_000, "readwrite")
    group, _ = b.grid(20_000), b.lane(1)
    b.store(out, group, b.add(b.load(out, group), b.const("i32", 1)))
    assert (execute(model, b.build(), {}, {})["out"] == 1).all()


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the mode is that of x86 processors")
def test_subnormal_operands_of_f32_are_flushed_as_on_the_chip(model: Device) -> None:
    assert apply(model, "mul", "f32", [F32_LEAST], [2.0**100]).tolist() == [0.0]


def test_subnormal_operands_of_f16_are_not(model: Device) -> None:
    assert apply(model, "mul", "f16", [F16_LEAST], [4.0]).tolist() == [4 * F16_LEAST]


def test_the_sum_after_a_product_of_halves_is_rounded_once(model: Device) -> None:
    a = 1 + 2.0**-6
    assert apply(model, "mul.add", "f16", [a], [a], [-(1 + 2.0**-5)]).tolist() == [2.0**-12]


def test_max_and_min_know_subnormals_apart_although_comparisons_flush(model: Device) -> None:
    assert apply(model, "reduce.max", "f32", [0.0, -F32_LEAST], [F32_LEAST, -0.0]).tolist() == [F32_LEAST, 0.0]
    assert np.isnan(apply(model, "reduce.min", "f32", [np.nan, 1.0], [1.0, np.nan])).all()


def test_the_host_keeps_its_own_mode(model: Device) -> None:
    apply(model, "mul", "f32", [1.0], [1.0])
    assert np.float32(F32_LEAST) * np.float32(2.0**100) > 0


# --- what is wrong ------------------------------------------------------------------------------------------------


def test_text_that_does_not_compile_is_an_error_with_the_compilers_words(model: Device) -> None:
    broken = replace(MSL, opening=("this is no statement",))
    with pytest.raises(CompileError, match=r"error: .*this"):
        _compiler(broken).compile(pointwise("add", "i32", 2, 8))


def _compiler(dialect: Any = MSL, limits: Limits | None = None) -> Any:
    from portkit.backends.metal.model import ModelCompiler

    return ModelCompiler(limits or BACKEND.capabilities.limits, dialect)


@pytest.mark.parametrize(
    ("field", "kernel"),
    [("lanes", neighbours(meet=True, lanes=2048)), ("buffers", pointwise("reduce.max", "i32", 40, 8))],
)
def test_a_kernel_beyond_the_chips_limits_is_refused_as_metal_would(model: Device, field: str, kernel: Any) -> None:
    with pytest.raises(CompileError, match=field):
        _compiler().compile(kernel)


def test_a_buffer_beyond_the_limit_is_out_of_memory(model: Device) -> None:
    with pytest.raises(OutOfMemory, match="more than the"):
        model.allocate(BACKEND.capabilities.limits.buffer_bytes + 1)


def test_without_a_compiler_the_probe_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, "model")
    monkeypatch.setenv("CC", NO_COMPILER)
    model_module().runner.cache_clear()
    reason = BACKEND.probe() or ""
    assert NO_COMPILER in reason
    assert "g++" in reason
    assert "\n" not in reason
    with pytest.raises(CannotRunHere, match=NO_COMPILER):
        BACKEND.open()
    model_module().runner.cache_clear()


def model_module() -> Any:
    return model


def test_closing_removes_every_file() -> None:
    opened = model.open_model(BACKEND.capabilities)
    driver: Any = opened._driver
    folder = Path(driver._folder.name)
    opened.compile(pointwise("add", "i32", 2, 8))
    assert list(folder.iterdir()) == []
    opened.close()
    assert not folder.exists()


def test_a_released_kernel_is_unmapped(model: Device) -> None:
    executable = model.compile(pointwise("add", "i32", 2, 8))
    mapped = _libraries()
    executable.release()
    assert _libraries() == mapped - 1


def _libraries() -> int:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("mapped files are listed in /proc")
    return len({line.split()[-2] for line in maps.read_text().splitlines() if "portkit-metal-" in line})


def test_listing_the_backend_loads_no_library() -> None:
    code = "import sys, portkit.backends.metal; sys.exit('cffi' in sys.modules or 'Metal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_text_is_found_by_its_witness(model: Device, name: str) -> None:
    case = next(c for c in collect(BACKEND.capabilities) if c.id == FAULTS[name].witness)
    with DeviceClient(f"tests.backends.metal.faults:{name}", timeout=20.0) as client:
        assert not judge_case(case, client).verdict.passes
