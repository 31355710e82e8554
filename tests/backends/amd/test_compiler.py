"""Code for AMD's chips: nothing is fused or flushed, every chip is compiled for, and flaws are refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from portkit.backends.amd import compiler as amd
from portkit.backends.amd import link
from portkit.backends.amd.compiler import CHIPS, AmdCompiler, pack_binary, unpack_binary
from portkit.backends.amd.link import link_code_object, linker
from portkit.errors import CannotRunHere, CompileError
from tests.backends.amd.kernels import doubled, product_and_sum, reversed_lanes

_FUSED = re.compile(r"v_(?:pk_|dual_)?(?:fma|mad|fmac|mac|dot)\w*_f?(?:16|32|64)")


def text_for(chip: str, kernel: amd.Kernel) -> str:
    return AmdCompiler(chip).compile(kernel).source


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16"])
def test_a_product_and_a_sum_are_never_fused(chip: str, dtype: str) -> None:
    assert not _FUSED.search(text_for(chip, product_and_sum(dtype)))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_fused_multiply_add_is_one_instruction(chip: str, dtype: str) -> None:
    assert len(_FUSED.findall(text_for(chip, product_and_sum(dtype, "mul.add")))) == 1


@pytest.mark.parametrize("chip", CHIPS)
def test_subnormals_are_kept_in_every_format(chip: str) -> None:
    assert re.findall(r"float_denorm_mode_\w+ (\d)", text_for(chip, product_and_sum("f32"))) == ["3", "3"]


@pytest.mark.parametrize("chip", CHIPS)
def test_arguments_are_read_from_the_words_that_the_toolkit_packs(chip: str) -> None:
    assert ".amdhsa_kernarg_size 32" in text_for(chip, doubled())  # two buffers, a grid extent, the first group


@pytest.mark.parametrize(("lanes", "expected"), [(64, False), (128, True)])
def test_waves_meet_at_a_barrier_where_a_group_has_several(lanes: int, expected: bool) -> None:
    assert ("s_barrier" in text_for("gfx942", reversed_lanes(lanes))) is expected


def test_every_kernel_is_compiled_for_every_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    checked = AmdCompiler._checked
    monkeypatch.setattr(
        AmdCompiler, "_checked", lambda self, chip, *rest: (asked.append(chip), checked(self, chip, *rest))[1]
    )
    AmdCompiler("gfx908").compile(doubled())
    assert asked == ["gfx908", *CHIPS]


@pytest.mark.parametrize("flaw", list(amd._FLAWS))
def test_a_text_with_a_flaw_is_refused(flaw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amd, "_FLAWS", {flaw: re.compile("s_endpgm")})
    with pytest.raises(CompileError, match=f"kernel doubled for gfx942 {flaw}: s_endpgm"):
        AmdCompiler().compile(doubled())


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        ("s_swappc_b64 s[30:31], s[4:5]", "calls a function"),
        ("s_add_u32 s4, s4, sin@rel32@lo+4", "calls a function"),
        (".amdhsa_float_denorm_mode_32 0", "has another denormal mode than to preserve"),
        (".amdhsa_uses_dynamic_stack 1", "has a stack of unknown size"),
    ],
)
def test_the_flaws_are_found_in_the_lines_that_show_them(line: str, flaw: str) -> None:
    assert [name for name, pattern in amd._FLAWS.items() if pattern.search(line)] == [flaw]


def test_what_llvm_cannot_compile_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amd, "TARGET", replace(amd.TARGET, lane_number="call i32 @llvm.amdgcn.nonsense()"))
    with pytest.raises(CompileError, match=r"LLVM could not .*: (.|\n)*"):
        AmdCompiler().compile(doubled())


def test_a_binary_holds_the_size_of_the_group_and_the_code() -> None:
    assert unpack_binary(pack_binary(96, b"code")) == (96, b"code")
    assert unpack_binary(AmdCompiler().compile(reversed_lanes(128)).binary)[0] == 128


# --- linking ------------------------------------------------------------------------------------------------------


def has_linker() -> bool:
    try:
        linker()
    except CannotRunHere:
        return False
    return True


needs_linker = pytest.mark.skipif(not has_linker(), reason="neither ld.lld nor ziglang is installed")


@needs_linker
@pytest.mark.parametrize("chip", CHIPS)
def test_a_linked_kernel_is_a_shared_object_with_a_kernel_descriptor(chip: str) -> None:
    lanes, image = unpack_binary(AmdCompiler(chip, link_code_object).compile(doubled()).binary)
    assert lanes == 64
    assert image[:7] == b"\x7fELF\x02\x01\x01"
    assert image[7] == 64  # the system: AMD's HSA
    assert int.from_bytes(image[16:18], "little") == 3  # a shared object
    assert int.from_bytes(image[18:20], "little") == 224  # the machine: AMDGPU
    assert b"kernel.kd\0" in image


@needs_linker
def test_what_the_linker_refuses_is_told_in_its_own_words() -> None:
    with pytest.raises(CompileError, match=r"the linker failed: .*lld"):
        link_code_object(b"no object file")


def test_a_missing_linker_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CannotRunHere, match="pip install ziglang"):
        linker.__wrapped__()


def test_a_linker_on_the_path_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link.shutil, "which", lambda name, **_: f"/somewhere/{name}")
    assert linker.__wrapped__() == ("/somewhere/ld.lld",)


def test_a_linker_that_cannot_be_started_is_a_compile_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(link, "linker", lambda: (str(tmp_path / "gone"),))
    with pytest.raises(CompileError, match="did not finish"):
        link_code_object(b"")
