"""Who may import whom: the layer table, checked against every import statement in portkit/.

Imports inside functions and under TYPE_CHECKING count too, and so does `importlib.import_module("portkit...")`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "portkit"

# layer -> the layers it may import besides itself. `backends.*` stands for each backend.
LAYERS: dict[str, frozenset[str]] = {
    "": frozenset({"tensor"}),  # portkit/__init__.py itself: lazily, and for type checkers the class Tensor
    "__main__": frozenset({"cli"}),  # python -m portkit
    "errors": frozenset(),
    "spec": frozenset({"errors"}),
    "contract": frozenset({"errors", "spec"}),
    "reference": frozenset({"errors", "spec"}),
    "compiler": frozenset({"errors", "spec", "contract"}),
    "runtime": frozenset({"errors", "spec", "contract", "compiler"}),
    "tensor": frozenset({"errors", "spec", "compiler", "runtime"}),
    "emulators": frozenset({"errors"}),
    "backends": frozenset({"errors"}),
    "backends.toolkit": frozenset({"errors", "spec", "contract"}),
    "backends.drivers": frozenset({"errors", "spec", "contract"}),
    "backends.*": frozenset({"errors", "spec", "contract", "backends.toolkit", "backends.drivers", "emulators"}),
    # The judge never names a backend: it meets them through the entry-point group `portkit.backends`.
    "conformance": frozenset({"errors", "spec", "contract", "reference", "compiler", "runtime", "tensor", "emulators"}),
    "cli": frozenset({"errors", "spec", "contract", "reference", "compiler", "runtime", "tensor", "conformance"}),
}

# library -> the only layers that may import it. Libraries that are not named here are not restricted.
LIBRARIES: dict[str, frozenset[str]] = {
    "llvmlite": frozenset({"backends.toolkit", "backends.*"}),
    "pyopencl": frozenset({"backends.*"}),
    "wgpu": frozenset({"backends.*"}),
    "copier": frozenset({"cli"}),
    "cryptography": frozenset({"conformance"}),
    "typer": frozenset({"cli"}),
    "rich": frozenset({"cli", "conformance"}),
    "pytest": frozenset({"conformance"}),
    "xdist": frozenset({"conformance"}),
    "hypothesis": frozenset(),
    "mpmath": frozenset(),
    "jsonschema": frozenset(),
}


def layer_of(module: str) -> str:
    """`portkit.backends.cpu.jit` -> `backends.cpu`, `portkit.spec.text` -> `spec`, `portkit` -> ``."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2] if parts[:1] == ["backends"] else parts[:1])


def row_of(layer: str) -> str | None:
    """The key of *layer* in a table, None where the table does not know it."""
    if layer in LAYERS:
        return layer
    return "backends.*" if layer.startswith("backends.") else None


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every (line, absolute module) that *tree* imports, wherever the statement stands."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names) if module in {"portkit", "portkit.backends"}:
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.ImportFrom(level=level, module=module):
                yield node.lineno, "." * level + (module or "")
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module
            case _:
                pass


def fault(importer: str, module: str) -> str | None:
    """What is wrong with layer *importer* importing *module*, or None."""
    library, _, _ = module.partition(".")
    row = row_of(importer)
    if row is None:
        return f"portkit/{importer} is in no layer: add it to the table"
    if not library:
        return "relative import: write the absolute one"
    if library in LIBRARIES and row not in LIBRARIES[library]:
        return f"{library} belongs to {sorted(LIBRARIES[library]) or 'tests'} only"
    if library != "portkit" or module.startswith("portkit.__"):
        return None
    target = layer_of(module)
    if row_of(target) is None:
        return f"imports {module}, which is in no layer"
    return (
        None
        if target in {"", importer} or target in LAYERS[row]
        else f"{importer or 'portkit'} may not import {target}"
    )


def breaches(package: Path) -> list[str]:
    """Every import under *package* that the tables forbid, as `file:line: what`."""
    found: list[str] = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        name = ".".join(["portkit", *relative.with_suffix("").parts]).removesuffix(".__init__")
        importer = layer_of(name)
        if row_of(importer) is None:
            found.append(f"{relative}: {importer} is in no layer: add it to the table")
        for line, module in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
            if what := fault(importer, module):
                found.append(f"{relative}:{line}: {what}")
    return found


def test_every_import_in_portkit_respects_the_layers() -> None:
    assert breaches(PACKAGE) == []


def test_the_layer_table_has_no_cycle() -> None:
    settled: set[str] = set()
    while ready := {layer for layer, below in LAYERS.items() if layer not in settled and below <= settled}:
        settled |= ready
    assert settled == set(LAYERS)


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


FORBIDDEN = {
    "spec importing the reference": ("spec/types.py", "import portkit.reference\n"),
    "a backend importing another": ("backends/cpu/jit.py", "from portkit.backends.cuda import ptx\n"),
    "a backend importing another by package": ("backends/cpu/jit.py", "from portkit.backends import cuda\n"),
    "a backend importing the judge": ("backends/cpu/jit.py", "from portkit.conformance.judge import judge\n"),
    "a backend importing the reference": ("backends/cpu/jit.py", "from portkit import reference\n"),
    "the judge naming a backend": ("conformance/judge.py", "from portkit.backends.cpu import BACKEND\n"),
    "anyone importing the command line": ("conformance/judge.py", "import portkit.cli\n"),
    "an import hidden in a function": ("spec/types.py", "def f():\n    import portkit.runtime\n"),
    "an import hidden under TYPE_CHECKING": ("spec/types.py", "if TYPE_CHECKING:\n    from portkit import runtime\n"),
    "an import by name": ("spec/types.py", "importlib.import_module('portkit.runtime.jit')\n"),
    "a relative import": ("spec/types.py", "from ..runtime import jit\n"),
    "a package outside the table": ("extras/__init__.py", ""),
    "an import of a package outside the table": ("runtime/jit.py", "import portkit.extras\n"),
    "llvmlite outside a backend": ("runtime/jit.py", "import llvmlite.binding as llvm\n"),
    "a test library in the product": ("spec/types.py", "from hypothesis import given\n"),
}


@pytest.mark.parametrize(("name", "text"), FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_forbidden_import_is_found(tmp_path: Path, name: str, text: str) -> None:
    assert len(breaches(tree(tmp_path, {name: text}))) == 1


ALLOWED = {
    "a layer importing itself": ("spec/text.py", "from portkit.spec import types\n"),
    "a backend using the toolkit": (
        "backends/cpu/jit.py",
        "from portkit.backends.toolkit import llvm\nimport llvmlite\n",
    ),
    "the judge using the reference": ("conformance/judge.py", "from portkit.reference import run\nimport pytest\n"),
    "anyone raising our errors": ("spec/types.py", "from portkit.errors import ParseError\n"),
    "the package itself": ("cli/new.py", "import portkit\n"),
    "the version": ("conformance/report.py", "from portkit import __version__\n"),
    "numpy": ("reference/values.py", "import numpy as np\n"),
}


@pytest.mark.parametrize(("name", "text"), ALLOWED.values(), ids=ALLOWED.keys())
def test_an_allowed_import_is_left_alone(tmp_path: Path, name: str, text: str) -> None:
    assert breaches(tree(tmp_path, {name: text})) == []
