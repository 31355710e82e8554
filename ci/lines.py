"""Count the lines of every backend, and of what they share: `python ci/lines.py`, or `make lines`.

`lines` are those of every hand-written file, as `wc -l` counts them; `code` those that are more than a comment, a
docstring or nothing. Beside each backend stands how much of what backends share its imports reach.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ROOT / "portkit" / "backends"
TOOLKIT = BACKENDS / "toolkit"
DRIVERS = BACKENDS / "drivers"
EMULATORS = ROOT / "portkit" / "emulators"
SHARED = (TOOLKIT, DRIVERS, EMULATORS)

BACKEND_LINES = 1000
"""A backend has fewer lines than this."""
TOOLKIT_CODE = 2500
"""The toolkit has fewer lines of code than this."""

_HEADS = ("lines", "code", "of toolkit", "of drivers", "of emulators")
_WIDTHS = (8, 8, 13, 13, 15)
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_COMMENTS = {".toml": ("#",), ".ll": (";",), ".c": ("//",), ".h": ("//",), ".hpp": ("//",)}


@dataclass(frozen=True, slots=True)
class Count:
    """Lines, and those with code on them."""

    lines: int = 0
    code: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.lines + other.lines, self.code + other.code)


def files_of(folder: Path) -> list[Path]:
    """Return every hand-written file below a folder."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def count(paths: Iterable[Path]) -> Count:
    """Return the lines of files."""
    return sum((count_text(path.read_text(encoding="utf-8"), path.suffix) for path in paths), Count())


def count_text(text: str, suffix: str) -> Count:
    """Return the lines of a text in the language that a suffix stands for."""
    lines = text.splitlines()
    if suffix == ".py":
        return Count(len(lines), len(_python_code(text)))
    marks = _COMMENTS.get(suffix, ())
    return Count(len(lines), sum(bool(line.strip()) and not line.strip().startswith(marks) for line in lines))


def _python_code(text: str) -> set[int]:
    """Return the numbers of the lines of Python code."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return code


def reached(folder: Path, package: Path) -> set[Path]:
    """Return the modules of a package that the Python files of a folder import, directly or through one another."""
    prefix = ".".join(package.relative_to(ROOT).parts) + "."
    pending = [path for path in files_of(folder) if path.suffix == ".py"]
    found: set[Path] = set()
    while pending:
        new = {package / f"{name}.py" for name in _imports(pending.pop(), prefix)} - found
        found |= {path for path in new if path.exists()}
        pending += [path for path in new if path.exists()]
    return found


def _imports(path: Path, prefix: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names |= {m.removeprefix(prefix).partition(".")[0] for m in modules if m.startswith(prefix)}
    return names


def backends() -> list[Path]:
    """Return the folder of each backend."""
    return [p for p in sorted(BACKENDS.iterdir()) if (p / "__init__.py").exists() and p not in SHARED]


def row(name: str, *numbers: int) -> str:
    """Return one line of the table."""
    return f"{name:12}" + "".join(f"{n:>{width},}" for n, width in zip(numbers, _WIDTHS, strict=False))


def too_long() -> list[str]:
    """Return what is longer than its limit, in words."""
    long = [f"{f.name}: {n:,} lines" for f in backends() if (n := count(files_of(f)).lines) >= BACKEND_LINES]
    code = count(files_of(TOOLKIT)).code
    return [*long, f"toolkit: {code:,} lines of code"] if code >= TOOLKIT_CODE else long


def main() -> int:
    """Print the table; 1 where something is too long."""
    print(" " * 12 + "".join(f"{head:>{width}}" for head, width in zip(_HEADS, _WIDTHS, strict=True)))
    for folder in backends():
        own = count(files_of(folder))
        print(row(folder.name, own.lines, own.code, *(count(reached(folder, part)).lines for part in SHARED)))
    for folder in SHARED:
        whole = count(files_of(folder))
        print(row(folder.name, whole.lines, whole.code))
    print(f"\nA backend has fewer than {BACKEND_LINES:,} lines, the toolkit fewer than {TOOLKIT_CODE:,} of code.")
    for what in too_long():
        print(f"too long: {what}")
    return int(bool(too_long()))


if __name__ == "__main__":
    sys.exit(main())
