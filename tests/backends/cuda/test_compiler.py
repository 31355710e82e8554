"""The PTX that kernels become: what stands in it, what must not, and that NVIDIA's assembler takes it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from portkit.backends import cuda
from portkit.backends.cuda import BACKEND
from portkit.backends.cuda.compiler import HOPPER, VOLTA, PtxCompiler, processor
from portkit.compiler.legalise import legalise
from portkit.conformance.case import Tier
from portkit.conformance.cases.collect import collect
from portkit.contract import load_capabilities
from portkit.errors import CompileError
from portkit.spec.builder import Builder
from portkit.spec.kernel import Kernel

DECLARED = load_capabilities(Path(cuda.__file__).with_name("capabilities.toml"))
_PACKAGED = Path(sysconfig.get_path("platlib"), "nvidia/cuda_nvcc/bin")
PTXAS = shutil.which("ptxas") or shutil.which("ptxas", path=_PACKAGED)
Text = Callable[[Kernel], str]


@pytest.fixture(scope="module")
def text() -> Text:
    compiler = PtxCompiler()
    return lambda kernel: compiler.compile(kernel).source


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    """Every kernel of the smoke tier, as the device gets it."""
    trials = [case.trial() for case in collect(DECLARED) if case.tier is Tier.SMOKE and case.trial is not None]
    return [legalise(trial.kernel, DECLARED).kernel for trial in trials]


@pytest.fixture(scope="module", params=[VOLTA, HOPPER])
def smoke(request: pytest.FixtureRequest, kernels: list[Kernel]) -> list[str]:
    """Their PTX, for the oldest and the newest GPU that is compiled for."""
    compiler = PtxCompiler(request.param)
    return [compiler.compile(kernel).source for kernel in kernels]


def combined(dtype: str, form: str = "then_add") -> Kernel:
    """a * b + c, rounded twice or once."""
    b = Builder("combined")
    buffers = [b.buffer(name, dtype, 32, "read") for name in "xyz"]
    out = b.buffer("out", dtype, 32, "write")
    b.grid(1)
    lane = b.lane(32)
    x, y, z = (b.load(buffer, lane) for buffer in buffers)
    b.store(out, lane, b.op("mul.add", x, y, z) if form == "mul.add" else b.add(b.mul(x, y), z))
    return b.build()


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_product_and_a_sum_are_rounded_apart_by_name(text: Text, dtype: str) -> None:
    ptx = text(combined(dtype))
    assert f"mul.rn.{dtype}" in ptx
    assert f"add.rn.{dtype}" in ptx
    assert "fma" not in ptx


def test_a_fused_product_is_one_instruction(text: Text) -> None:
    assert "fma.rn.f32" in text(combined("f32", "mul.add"))


def test_a_narrow_product_and_sum_are_not_fused_either(text: Text) -> None:
    assert "fma" not in text(combined("f16"))


def test_no_float_instruction_lacks_its_rounding_or_flushes(smoke: list[str]) -> None:
    bare = re.compile(r"\b(?:add|sub|mul|div|fma|mad|sqrt|rcp)\.(?!rn\.)(?:\w+\.)*f(?:16|32|64)\b|\.ftz\b")
    assert [line for ptx in smoke for line in ptx.splitlines() if bare.search(line)] == []


def test_nothing_is_left_to_a_library_or_the_stack(smoke: list[str]) -> None:
    forbidden = re.compile(r"^\s*(?:call|\.extern|\.local|\.func)\b")
    assert [line for ptx in smoke for line in ptx.splitlines() if forbidden.match(line)] == []


def test_the_only_approximate_instruction_is_the_declared_power_of_two(smoke: list[str]) -> None:
    assert {name for ptx in smoke for name in re.findall(r"\b\w+\.approx\.\w+", ptx)} <= {"ex2.approx.f32"}


def test_the_work_group_is_as_large_as_its_lanes(text: Text) -> None:
    assert ".reqntid 32\n" in text(combined("f32"))


@pytest.mark.parametrize(
    ("capability", "name"), [(90, "sm_90"), (87, "sm_86"), (120, "sm_90"), (75, "sm_75"), (61, "sm_70")]
)
def test_code_is_for_the_newest_processor_that_the_device_can_run(capability: int, name: str) -> None:
    assert processor(capability) == name


def test_a_device_of_today_gets_code_of_its_own() -> None:
    assert ".target sm_90" in PtxCompiler(90).compile(combined("f32")).source


def test_text_that_is_no_llvm_is_a_compile_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portkit.backends.cuda.compiler.print_lanes", lambda kernel, target: "define nonsense")
    with pytest.raises(CompileError, match="LLVM could not parse"):
        PtxCompiler().compile(combined("f32"))


def joined(texts: list[str]) -> str:
    """Put many modules into one, each kernel, label and shared array under a name of its own."""
    parts: list[str] = []
    for number, ptx in enumerate(dict.fromkeys(texts)):
        head, _, body = ptx.partition(".visible .entry kernel(")
        body = re.sub(r"\bkernel_param", f"kernel{number}_param", body)
        body = re.sub(r"(?<![\w%$.])shared(?=\d)", f"shared{number}x", body)
        parts += [] if parts else [head]
        parts.append(f".visible .entry kernel{number}(" + body.replace("$L__BB0_", f"$L__BB{number}_"))
    return "\n".join(parts)


@pytest.mark.skipif(PTXAS is None, reason="ptxas is not installed (pip install nvidia-cuda-nvcc-cu12)")
def test_nvidias_assembler_takes_every_kernel_of_the_smoke_tier(smoke: list[str], tmp_path: Path) -> None:
    source = tmp_path / "all.ptx"
    source.write_text(joined(smoke))
    processor = "sm_90" if ".target sm_90" in smoke[0] else "sm_75"  # newer releases of ptxas have no Volta
    command = [str(PTXAS), "-arch", processor, str(source), "-o", str(tmp_path / "all.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_declared_capabilities_are_those_of_the_file_but_for_the_evidence() -> None:
    assert BACKEND.capabilities.dtypes == DECLARED.dtypes
    assert BACKEND.capabilities.evidence in ("silicon", "own-model")
