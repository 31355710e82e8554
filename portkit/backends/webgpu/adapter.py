"""Which WebGPU adapter is opened, and what of the declared capabilities it has."""

from __future__ import annotations

from functools import cache

import wgpu
from msgspec import structs

from portkit.contract import Capabilities, Evidence, Limits, NumericLimits
from portkit.errors import CannotRunHere

_INSTALL = "apt install mesa-vulkan-drivers, or the Vulkan driver of your GPU"
_EVIDENCE: dict[str, Evidence] = {"DiscreteGPU": "silicon", "IntegratedGPU": "silicon"}
"""By type of adapter; any other is a GPU in software by others, such as Mesa's llvmpipe."""
_EXACT = ("llvmpipe",)
"""Adapters found to keep subnormals and to round quotients and square roots once, of which WGSL promises neither."""
_STATUS_BUFFERS = 1
"""Storage buffers that a kernel has besides its own."""
_LEAST = {
    "max-compute-invocations-per-workgroup": Limits().lanes,
    "max-compute-workgroup-size-x": Limits().lanes,
    "max-compute-workgroup-storage-size": Limits().shared_bytes,
    "max-storage-buffers-per-shader-stage": Limits().buffers + _STATUS_BUFFERS,
}
"""What an adapter must have for the least that every port offers."""


@cache
def choose() -> wgpu.GPUAdapter:
    """Return the fastest adapter, or that named by the environment variable `WGPUPY_WGPU_ADAPTER_NAME`.

    Raises `CannotRunHere`: there is none, or it lacks what every port must have.
    """
    try:
        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
    except (RuntimeError, ValueError) as error:  # wgpu has no narrower ones for this
        raise CannotRunHere(f"there is no WebGPU adapter ({_one_line(error)}); {_INSTALL}") from error
    for limit, least in _LEAST.items():
        if adapter.limits[limit] < least:
            raise CannotRunHere(f"{adapter.summary}: {limit} is {adapter.limits[limit]}, {least} is the least")
    return adapter


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def fitted(declared: Capabilities, adapter: wgpu.GPUAdapter) -> Capabilities:
    """Return what an adapter has of the declared capabilities."""
    most = min(adapter.limits["max-storage-buffer-binding-size"], adapter.limits["max-buffer-size"])
    limits = structs.replace(declared.limits, buffer_bytes=min(declared.limits.buffer_bytes, most))
    evidence = _EVIDENCE.get(adapter.info["adapter_type"], "third-party-emulator")
    exact = adapter.info["device"].startswith(_EXACT)
    return structs.replace(
        declared,
        evidence=evidence,
        limits=limits,
        math=declared.math if exact else {"trunc": declared.math["trunc"]},
        numeric=declared.numeric if exact else NumericLimits(strict=False, subnormals={"f32": "flush"}),
    )
