"""Which device is opened, and what of the declared capabilities is left on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from portkit.backends.opencl import BACKEND, OpenClBackend
from portkit.contract import Capabilities, check_capabilities, load_capabilities
from portkit.errors import CannotRunHere

cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed")
choice = pytest.importorskip("portkit.backends.opencl.choice")

DENORM, FMA, EXACT = (
    cl.device_fp_config.DENORM,
    cl.device_fp_config.FMA,
    cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT,
)


def fake(**changed: Any) -> Any:
    """A GPU that can do everything, but for what is changed."""
    facts: dict[str, Any] = {
        "name": "Chip 9",
        "platform": SimpleNamespace(name="Acme OpenCL"),
        "type": cl.device_type.GPU,
        "available": True,
        "compiler_available": True,
        "profile": "FULL_PROFILE",
        "endian_little": True,
        "max_work_group_size": 512,
        "max_work_item_sizes": [1024, 1024, 64],
        "local_mem_size": 49152,
        "max_parameter_size": 4096,
        "max_mem_alloc_size": 1 << 31,
        "max_compute_units": 20,
        "single_fp_config": DENORM | FMA | EXACT,
        "double_fp_config": DENORM | FMA,
        "extensions": "cl_khr_int64_base_atomics cl_khr_int64_extended_atomics",
    }
    return SimpleNamespace(**{**facts, **changed})


@pytest.fixture
def declared() -> Capabilities:
    from pathlib import Path

    import portkit.backends.opencl as package

    return load_capabilities(Path(package.__path__[0]) / "capabilities.toml")


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The devices that all platforms have together."""
    devices: list[Any] = []
    monkeypatch.setattr(choice, "_devices", lambda: devices)
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    choice.choose.cache_clear()
    yield devices
    choice.choose.cache_clear()


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_a_gpu_goes_before_an_accelerator_and_that_before_a_processor(plugged: list[Any]) -> None:
    kinds = [cl.device_type.CPU, cl.device_type.ACCELERATOR, cl.device_type.GPU]
    for kind in kinds:
        plugged.append(fake(type=kind))
        choice.choose.cache_clear()
        assert choice.choose().type == kind


@pytest.mark.parametrize("asked", ["Chip 7", "acme", "vendor: chip", "7"])
def test_a_part_of_the_names_of_platform_and_device_chooses_it(
    asked: str, plugged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = fake(name="Chip 7", platform=SimpleNamespace(name="ACME vendor"), type=cl.device_type.CPU)
    plugged += [fake(name="Other", platform=SimpleNamespace(name="Else")), wanted]
    monkeypatch.setenv(choice.VARIABLE, asked)
    assert choice.choose() is wanted


def test_an_unknown_name_is_refused_with_those_that_there_are(
    plugged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged.append(fake())
    monkeypatch.setenv(choice.VARIABLE, "Chip 8")
    with pytest.raises(
        CannotRunHere, match=r"called 'Chip 8' \(see PORTKIT_OPENCL_DEVICE\); there is Acme OpenCL: Chip 9"
    ):
        choice.choose()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"available": False}, "is not available"),
        ({"compiler_available": False}, "has no compiler"),
        ({"profile": "EMBEDDED_PROFILE"}, "has the embedded profile only"),
        ({"endian_little": False}, "is big-endian"),
        ({"max_work_group_size": 128}, "work-groups of less than 256 lanes"),
        ({"local_mem_size": 8192}, "less than 16 KiB of local memory"),
    ],
)
def test_a_device_that_lacks_what_every_port_has_is_refused(
    changed: dict[str, Any], words: str, plugged: list[Any]
) -> None:
    plugged.append(fake(**changed))
    with pytest.raises(
        CannotRunHere, match=f"Acme OpenCL: Chip 9 .*{words}.*; choose another with PORTKIT_OPENCL_DEVICE"
    ):
        choice.choose()


def test_without_a_platform_the_reason_has_the_vendors_words_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> None:
        raise cl.LogicError(cl._cl._ErrorRecord(msg="no platform", code=-1001, routine="clGetPlatformIDs"))

    monkeypatch.setattr(cl, "get_platforms", none)
    choice.choose.cache_clear()
    reason = BACKEND.probe()
    choice.choose.cache_clear()
    assert reason is not None
    assert "PLATFORM_NOT_FOUND_KHR" in reason
    assert "apt install pocl-opencl-icd" in reason


def test_a_platform_whose_device_is_unplugged_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def unplugged() -> None:
        raise cl.RuntimeError(
            cl._cl._ErrorRecord(msg="", code=cl.status_code.DEVICE_NOT_FOUND, routine="clGetDeviceIDs")
        )

    here = fake()
    platforms = [SimpleNamespace(get_devices=unplugged), SimpleNamespace(get_devices=lambda: [here])]
    monkeypatch.setattr(cl, "get_platforms", lambda: platforms)
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    choice.choose.cache_clear()
    chosen = choice.choose()
    choice.choose.cache_clear()
    assert chosen is here


def test_platforms_without_devices_are_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cl, "get_platforms", lambda: [SimpleNamespace(get_devices=list)])
    choice.choose.cache_clear()
    with pytest.raises(CannotRunHere, match="no OpenCL platform has a device; apt install"):
        choice.choose()


# --- what a device has of the declared capabilities -------------------------------------------------------------------


def test_a_device_that_can_do_everything_keeps_what_is_declared(declared: Capabilities) -> None:
    fitted = choice.fitted(declared, fake())
    assert (fitted.dtypes, fitted.extensions, fitted.math) == (declared.dtypes, declared.extensions, declared.math)
    assert fitted.numeric == declared.numeric
    assert fitted.evidence == "silicon"


def test_limits_are_those_of_the_device_where_they_are_lower(declared: Capabilities) -> None:
    limits = choice.fitted(declared, fake()).limits
    assert (limits.lanes, limits.shared_bytes, limits.buffer_bytes) == (512, 49152, 1 << 31)


@pytest.mark.parametrize(("size", "buffers"), [(1024, 32), (512, 16)])
def test_buffers_are_as_many_as_fit_the_parameters_with_room_for_numbers(
    size: int, buffers: int, declared: Capabilities
) -> None:
    assert choice.fitted(declared, fake(max_parameter_size=size)).limits.buffers == buffers


def test_without_doubles_f64_goes_everywhere(declared: Capabilities) -> None:
    fitted = choice.fitted(declared, fake(double_fp_config=0))
    assert "f64" not in fitted.dtypes
    check_capabilities(fitted, "fitted")


def test_without_a_fused_instruction_fma_is_not_declared(declared: Capabilities) -> None:
    assert "fma" not in choice.fitted(declared, fake(single_fp_config=DENORM | EXACT)).extensions


def test_division_and_root_that_round_wrongly_are_not_declared(declared: Capabilities) -> None:
    math = choice.fitted(declared, fake(single_fp_config=DENORM | FMA)).math
    assert "f32" not in (*math["recip"], *math["sqrt"])
    assert "f64" in math["recip"]


def test_a_device_that_flushes_is_not_strict(declared: Capabilities) -> None:
    numeric = choice.fitted(declared, fake(single_fp_config=FMA | EXACT)).numeric
    assert not numeric.strict
    assert numeric.subnormals == {"f32": "flush"}


def test_atomics_of_64_bits_need_their_extensions(declared: Capabilities) -> None:
    atomic = choice.fitted(declared, fake(extensions="cl_khr_int64_base_atomics")).atomic
    assert atomic["add"] == ("i32", "u32", "i64", "u64")
    assert atomic["max"] == atomic["min"] == ("i32", "u32")


def test_an_emulator_is_named_as_one(declared: Capabilities) -> None:
    emulator = fake(platform=SimpleNamespace(name="Oclgrind"))
    assert choice.fitted(declared, emulator).evidence == "third-party-emulator"


@pytest.mark.parametrize("kind", [cl.device_type.CPU, cl.device_type.GPU])
def test_fitted_capabilities_are_valid(kind: Any, declared: Capabilities) -> None:
    check_capabilities(choice.fitted(declared, fake(type=kind)), "fitted")


def test_without_pyopencl_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "portkit.backends.opencl.choice", None)
    with pytest.raises(CannotRunHere, match=r"pyopencl cannot be loaded \(.+\); pip install 'portkit\[opencl\]'"):
        OpenClBackend().open()


def test_what_is_declared_stands_where_there_is_no_device(
    declared: Capabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "portkit.backends.opencl.choice", None)
    assert OpenClBackend().capabilities == declared
