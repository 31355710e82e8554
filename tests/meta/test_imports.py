"""What a light start must not load: checked on sys.modules of a fresh interpreter, never with a clock."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

HEAVY = [
    "llvmlite",
    "copier",
    "pytest",
    "xdist",
    "hypothesis",
    "pyopencl",
    "wgpu",
    "cuda",
    "pydantic",
    "jinja2",
    "cryptography",
]

LIGHT_STARTS = {
    "import portkit": "import portkit",
    "the errors": "import portkit.errors",
    "the spec": "import portkit.spec",
    "the contract": "import portkit.contract",
    "the cpu backend's record": "import portkit.backends.cpu",
    "portkit --help": "from portkit.cli.main import main; sys.argv = ['portkit', '--help']; main()",
}

REPORT = """
import contextlib, io, sys
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    {statement}
print(*sorted({{name.partition('.')[0] for name in sys.modules}}))
"""


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after *statement*."""
    code = REPORT.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", LIGHT_STARTS.values(), ids=LIGHT_STARTS.keys())
def test_a_light_start_loads_no_heavy_library(statement: str) -> None:
    assert loaded_by(statement) & set(HEAVY) == set()


def test_import_portkit_loads_no_third_party_library_but_numpy() -> None:
    bare = loaded_by("pass")
    standard = set(sys.stdlib_module_names)
    assert loaded_by("import portkit") - bare - standard - {"portkit", "numpy"} == set()


def test_the_check_sees_a_heavy_library_that_is_loaded() -> None:
    assert "pytest" in loaded_by("import pytest")


def test_an_unknown_part_of_portkit_is_an_attribute_error_that_lists_the_parts() -> None:
    import portkit

    with pytest.raises(AttributeError, match=r"'nonsense'.*spec"):
        _ = portkit.nonsense


def test_a_part_of_portkit_loads_on_first_use() -> None:
    assert importlib.util.find_spec("portkit.errors") is not None
    loaded = loaded_by("import portkit; portkit.errors; assert 'portkit.errors' in sys.modules")
    assert "portkit" in loaded


EACH_FIRST = """
import importlib, pkgutil, sys
import portkit.conformance as top
failed = []
for name in [found.name for found in pkgutil.walk_packages(top.__path__, "portkit.conformance.")]:
    for loaded in [module for module in sys.modules if module.startswith("portkit.conformance")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed.append(f"{name}: {error}")
print(*failed, sep="\\n", end="")
"""


def test_every_module_of_the_judge_can_be_the_first_to_be_imported() -> None:
    done = subprocess.run([sys.executable, "-c", EACH_FIRST], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
