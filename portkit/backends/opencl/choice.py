"""Which OpenCL device is opened, and what of the declared capabilities it has."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache

from msgspec import structs

from portkit.backends.opencl import pocl
from portkit.backends.toolkit.host import host_tuning
from portkit.contract import Capabilities, Evidence, Limits, NumericLimits, Tuning
from portkit.errors import CannotRunHere

os.environ.setdefault("PYOPENCL_NO_CACHE", "1")  # drivers have caches of their own; read when pyopencl is imported
pocl.settle()

import pyopencl as cl  # noqa: E402 - both settings come before it

VARIABLE = "PORTKIT_OPENCL_DEVICE"
"""The environment variable that names a device: a part of the names of its platform and itself."""
_KINDS = (cl.device_type.GPU, cl.device_type.ACCELERATOR, cl.device_type.CPU)
"""The kinds of devices, the preferred first."""
_EMULATORS = ("Oclgrind",)
_INSTALL = "apt install pocl-opencl-icd, or the OpenCL driver of your device"
_BYTES_OF_BUFFER = 16
"""Bytes of parameters for each buffer of a kernel: its address, and where the part that is given begins."""
_BYTES_OF_OTHERS = 256
"""Bytes of parameters that are kept for what is no buffer."""

_LACKING: Mapping[str, Callable[[cl.Device], bool]] = {
    "is not available": lambda device: not device.available,
    "has no compiler": lambda device: not device.compiler_available,
    "has the embedded profile only": lambda device: "FULL" not in device.profile,
    "is big-endian": lambda device: not device.endian_little,
    "has work-groups of less than 256 lanes": lambda device: device.max_work_group_size < Limits().lanes,
    "has less than 16 KiB of local memory": lambda device: device.local_mem_size < Limits().shared_bytes,
}
"""Why a device cannot be used."""


@cache
def choose() -> cl.Device:
    """Return the device that `PORTKIT_OPENCL_DEVICE` names, else the first GPU, accelerator or processor.

    Raises `CannotRunHere`: there is no such device, or it lacks what every port must have.
    """
    asked = os.environ.get(VARIABLE, "")
    found = [device for device in _devices() if asked.lower() in _full_name(device).lower()]
    if not found:
        raise CannotRunHere(f"no OpenCL device is called {asked!r} (see {VARIABLE}); {_present()}")
    device = min(found, key=_rank)
    lacking = next((words for words, lacks in _LACKING.items() if lacks(device)), "")
    if lacking:
        raise CannotRunHere(f"{_full_name(device)} {lacking}; choose another with {VARIABLE}")
    return device


def _devices() -> list[cl.Device]:
    try:
        found = [device for platform in cl.get_platforms() for device in _devices_of(platform)]
    except cl.Error as error:
        raise CannotRunHere(f"there is no OpenCL platform ({error}); {_INSTALL}") from error
    if not found:
        raise CannotRunHere(f"no OpenCL platform has a device; {_INSTALL}")
    return found


def _devices_of(platform: cl.Platform) -> list[cl.Device]:
    try:
        return platform.get_devices()
    except cl.Error:  # a driver whose device is not plugged in says so by an error
        return []


def _present() -> str:
    return "there is " + ", ".join(_full_name(device) for device in _devices())


def _full_name(device: cl.Device) -> str:
    return f"{device.platform.name}: {device.name}"


def _rank(device: cl.Device) -> int:
    return next((place for place, kind in enumerate(_KINDS) if device.type & kind), len(_KINDS))


def fitted(declared: Capabilities, device: cl.Device) -> Capabilities:
    """Return what a device has of the declared capabilities."""
    single = device.single_fp_config
    dtypes = tuple(d for d in declared.dtypes if d != "f64" or device.double_fp_config)
    exact = single & cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT
    inexact = () if exact else (("recip", "f32"), ("sqrt", "f32"))
    extensions = tuple(e for e in declared.extensions if e != "fma" or single & cl.device_fp_config.FMA)
    return structs.replace(
        declared,
        evidence=_evidence(device),
        dtypes=dtypes,
        extensions=extensions,
        math={k: tuple(d for d in has if d in dtypes and (k, d) not in inexact) for k, has in declared.math.items()},
        atomic={k: tuple(d for d in has if _has_atomic(device, k, d)) for k, has in declared.atomic.items()},
        numeric=_numeric(declared.numeric, bool(single & cl.device_fp_config.DENORM)),
        limits=_limits(declared.limits, device),
        tuning=_tuning(declared.tuning, device),
    )


def _evidence(device: cl.Device) -> Evidence:
    """Return what runs the kernels: the device's own circuits, a processor's under PoCL too, unless by an emulator."""
    return "third-party-emulator" if device.platform.name.startswith(_EMULATORS) else "silicon"


def _has_atomic(device: cl.Device, kind: str, dtype: str) -> bool:
    """Return whether a device folds integers into memory; those of 32 bits are in the core of the language."""
    group = "base" if kind == "add" else "extended"
    return dtype in ("i32", "u32") or f"cl_khr_int64_{group}_atomics" in device.extensions


def _numeric(declared: NumericLimits, preserves: bool) -> NumericLimits:
    return declared if preserves else structs.replace(declared, strict=False, subnormals={"f32": "flush"})


def _limits(declared: Limits, device: cl.Device) -> Limits:
    return structs.replace(
        declared,
        lanes=min(declared.lanes, device.max_work_group_size, device.max_work_item_sizes[0]),
        shared_bytes=min(declared.shared_bytes, device.local_mem_size),
        buffers=min(declared.buffers, (device.max_parameter_size - _BYTES_OF_OTHERS) // _BYTES_OF_BUFFER),
        buffer_bytes=min(declared.buffer_bytes, device.max_mem_alloc_size),
    )


def _tuning(declared: Tuning, device: cl.Device) -> Tuning:
    known = host_tuning(declared) if device.type & cl.device_type.CPU else declared
    return structs.replace(known, workers=device.max_compute_units)
