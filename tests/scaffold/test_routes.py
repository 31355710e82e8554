"""Every route with every driver: the port passes at once, shows its code, and says what it needs."""

from __future__ import annotations

import sys

import pytest

from tests.scaffold.conftest import PortOf
from tests.scaffold.ports import KINDS, NAME, SECONDS, Port

CODE = {"c": "void kernel(", "llvm": "\nkernel:", "isa": "    fmul r"}


@pytest.fixture(params=KINDS, ids="-".join, name="kind")
def _kind(request: pytest.FixtureRequest, port_of: PortOf) -> Port:
    return port_of(*request.param)


@pytest.mark.timeout(SECONDS)
def test_a_port_passes_at_once(kind: Port) -> None:
    ended, verdicts = kind.conform([], "out/smoke")
    assert ended.status == 0, ended.out + ended.error
    assert set(verdicts.values()) == {"pass"}
    assert {case_id.partition("/")[0] for case_id in verdicts} == {"device", "ops", "kernels"}


def test_a_port_shows_the_code_of_a_kernel(kind: Port) -> None:
    ended = kind.run(sys.executable, "-m", f"portkit_{NAME}.codegen", f"portkit-{NAME}/axpy.pk")
    assert CODE[kind.route] in ended.out, ended.error


def test_the_own_tests_of_a_port_pass(kind: Port) -> None:
    quick = ("-q", "-p", "no:cacheprovider", "-k", "not smoke", "--rootdir", str(kind.source))
    ended = kind.run(sys.executable, "-m", "pytest", *quick, str(kind.source / "tests"))
    assert "3 passed, 1 deselected" in ended.out, ended.out


def test_tensors_compute_on_a_port_that_declares_the_base_only(port_of: PortOf) -> None:
    ended = port_of("isa", "python").portkit(
        "conform",
        "--backend",
        NAME,
        "--profile",
        "compute",
        "--tier",
        "smoke",
        "--case",
        "tensors/softmax",
        "--out",
        "out/t",
    )
    assert ended.status == 0, ended.out + ended.error


MANY = """\
portkit 1.0-draft
kernel many
buffer x i32[n] read
buffer out i32[32] write
scalar n i32
begin
one = mov.const i32 1
g = loop.grid one
l = loop.lane 32
{loads}
s{count} = mov.const i32 0
k = loop.serial l
t = phi.carry one
u = add t k
endloop k t=u
{sums}
r = mul s0 t
store out l r
endloop l
endloop g
"""


def more_values_than_registers(count: int) -> str:
    """Return a kernel in which so many values are alive at once, in lanes that leave a loop one after the other."""
    loads = "\n".join(f"c{k} = mov.const i32 {k}\ni{k} = add l c{k}\nv{k} = load x i{k}" for k in range(count))
    sums = "\n".join(f"s{k} = add s{k + 1} v{k}" for k in reversed(range(count)))
    return MANY.format(loads=loads, sums=sums, count=count)


@pytest.mark.parametrize("driver", ["python", "c"])
def test_what_does_not_fit_the_registers_is_spilled(driver: str, port_of: PortOf) -> None:
    port = port_of("isa", driver)
    (port.folder / "many.pk").write_text(more_values_than_registers(100), encoding="utf-8")
    shown = port.run(sys.executable, "-m", f"portkit_{NAME}.codegen", "many.pk")
    assert "    spill r" in shown.out, shown.error
    ended = port.portkit("run", "many.pk", "-b", NAME, "--against", "reference", "--set", "n=200")
    assert ended.status == 0, ended.out + ended.error


def test_a_driver_that_is_not_built_is_missed_by_the_probe(port_of: PortOf) -> None:
    port = port_of("isa", "c")
    library = port.installed / f"portkit_{NAME}/libstandin.so"
    away = library.rename(library.with_suffix(".away"))
    try:
        line = next(line for line in port.portkit("backends", "--json").out.splitlines() if "is not built" in line)
    finally:
        away.rename(library)
    assert "libstandin.so is not built; run make in the port's folder" in line


def test_a_machine_without_a_c_compiler_is_told_so_by_the_probe(port_of: PortOf) -> None:
    port = port_of("c", "python")
    ended = port.run(
        "env", "CC=no-such-cc", sys.executable, "-c", f"from portkit_{NAME} import BACKEND as b; print(b.probe())"
    )
    assert (
        ended.out
        == "CC names no-such-cc, which is no program here; install gcc or clang, or pip install ziglang, or set CC\n"
    )


def test_a_program_of_another_chip_is_refused_in_the_drivers_words(port_of: PortOf) -> None:
    text = (
        f"from portkit_{NAME} import BACKEND\nfrom portkit.contract import Code\nfrom portkit.spec.text import parse\n"
        f"from pathlib import Path\nkernel = parse(Path('portkit-{NAME}/axpy.pk').read_text())\n"
        "BACKEND.open().load_binary(kernel, Code('', b'\\x7fELF'))"
    )
    for route, said in (("isa", "the program is cut off"), ("llvm", "file too short")):
        ended = port_of(route, "c").run(sys.executable, "-c", text)
        assert "CompileError: loading kernel axpy: " in ended.error
        assert said in ended.error
