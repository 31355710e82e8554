"""The project stands alone: no path outside it, no package host, no leftover marker in any file of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE_BY_RUNNING = {"out", "site", "registry", "dist", "build", "__pycache__"}
HIDDEN_BUT_OURS = {".ci", ".github", ".gitignore"}

# Each pattern is written so that it does not match its own source.
FORBIDDEN = {
    "a sibling folder of the checkout": r"\.\./shar[e]d",
    "an absolute path of one machine": r"(?<![\w.])/(?:wor[k]|hom[e]/(?!bob/)\w+|roo[t])/",
    "a package host": r"pypi\.or[g]|pythonhosted\.or[g]|npmjs\.or[g]|deb\.debian\.or[g]",
    "a numbered ticket": r"(?i)\bissu[e] #?\d",
    "a leftover marker": r"\b(?:TOD[O]|FIXM[E]|XX[X]|HAC[K])\b",
    "an author that is a tool": r"(?i)\bco-authored-b[y]\b|\bgenerated (?:by|with) (?:an? )?(?:ai|llm)\b",
}


def files_of_the_project(root: Path = ROOT) -> list[Path]:
    tops = [
        top
        for top in root.iterdir()
        if top.name not in MADE_BY_RUNNING
        and not top.name.startswith("portkit-")
        and (not top.name.startswith(".") or top.name in HIDDEN_BUT_OURS)
    ]
    inside = (path for top in tops if top.is_dir() for path in top.rglob("*"))
    files = [path for path in [*tops, *inside] if path.is_file() and "__pycache__" not in path.parts]
    return sorted(files)


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def matches(pattern: str, files: list[Path], root: Path = ROOT) -> list[str]:
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("pattern", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_the_tree_is_free_of(pattern: str) -> None:
    files = files_of_the_project()
    assert ROOT / "pyproject.toml" in files
    assert matches(pattern, files) == []


SAMPLES = {
    "a sibling folder of the checkout": "see ../shar" + "ed/notes.md",
    "an absolute path of one machine": "open('/hom" + "e/someone/data')",
    "a package host": "https://pypi.or" + "g/simple",
    "a numbered ticket": "as asked in issu" + "e 12",
    "a leftover marker": "# TOD" + "O: later",
    "an author that is a tool": "Co-authored-b" + "y: someone",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_forbidden_text_is_found(tmp_path: Path, what: str) -> None:
    (tmp_path / "file.txt").write_text(f"fine\n{SAMPLES[what]}\n", encoding="utf-8")
    assert len(matches(FORBIDDEN[what], files_of_the_project(tmp_path), tmp_path)) == 1


def test_ordinary_uses_of_the_same_words_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("between issue and wait; a shared buffer; ./work/x; work/\n", encoding="utf-8")
    files = files_of_the_project(tmp_path)
    assert [what for what, pattern in FORBIDDEN.items() if matches(pattern, files, tmp_path)] == []
