"""The C compiler of this machine as a program: what it makes, and what is said where it is missing or refuses."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from portkit.backends.toolkit import host_compiler
from portkit.backends.toolkit.host_compiler import find_compiler, shared_library
from portkit.errors import CannotRunHere, CompileError
from tests.ports.building import needs_a_c_compiler


@needs_a_c_compiler
def test_c_text_becomes_a_shared_library(tmp_path: Path) -> None:
    made = tmp_path / "made.so"
    made.write_bytes(shared_library(b"int twice(int x) { return 2 * x; }"))
    assert ctypes.CDLL(str(made)).twice(21) == 42


@needs_a_c_compiler
def test_no_product_is_contracted_into_a_sum(tmp_path: Path) -> None:
    made = tmp_path / "made.so"
    made.write_bytes(shared_library(b"void f(double *x) { x[0] = x[1] * x[2] + x[3]; }"))
    values = (ctypes.c_double * 4)(0, 1 + 2.0**-30, 1 - 2.0**-30, -1)
    ctypes.CDLL(str(made)).f(values)
    assert values[0] == 0  # fused it would be -2^-60


@needs_a_c_compiler
def test_a_refusal_has_the_compilers_words_and_no_path() -> None:
    with pytest.raises(CompileError, match=r"exited with status 1: kernel\.c:[^/]*error: [^/]*$"):
        shared_library(b"int twice(int x) { return 2 * y; }")


@pytest.mark.parametrize(
    ("named", "said"), [("no-such-cc -O3", "CC names no-such-cc"), ("", "there is no C compiler here")]
)
def test_a_machine_without_a_compiler_is_told_what_to_install(
    named: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", named)
    monkeypatch.setattr(host_compiler, "find_spec", lambda _: None)
    with pytest.raises(CannotRunHere, match=f"{said}.*; install gcc or clang, or pip install ziglang, or set CC"):
        find_compiler()


def test_a_compiler_that_pip_installed_stands_in_for_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(host_compiler, "find_spec", lambda name: name)
    assert find_compiler()[1:] == ["-m", "ziglang", "cc"]


@needs_a_c_compiler
def test_the_variable_cc_may_carry_options(monkeypatch: pytest.MonkeyPatch) -> None:
    program = find_compiler()[0]
    monkeypatch.setenv("CC", f"{program} -DX=7")
    assert find_compiler() == [program, "-DX=7"]


def test_a_variable_that_is_no_command_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", '"x')
    with pytest.raises(CannotRunHere, match="CC cannot be read as a command"):
        find_compiler()
