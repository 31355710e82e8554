"""Whether a bundle holds what this portkit's own suite would put there: kernels, inputs and acceptance sets.

A bundle comes from outside. Its digests say that the archive fits its index, not that the index is the suite's: whoever
made it could have widened an acceptance set. So where the suite is the same it is made again and compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from portkit.conformance.bundle.load import Loaded
from portkit.conformance.bundle.make import Wanted, bundled, selected
from portkit.conformance.bundle.model import INDEX, BundledCase, File, digest
from portkit.conformance.digest import suite_digest
from portkit.errors import SchemaError

_NAMES = frozenset({"path", "after", "source"})
"""What differs between bundles that mean the same."""


def same_suite(loaded: Loaded) -> bool:
    """Return whether the bundle says that it was made by the suite of this portkit."""
    return loaded.bundle.suite_digest == suite_digest()


def check_genuine(loaded: Loaded, on_case: Callable[[str, int, int], None] = lambda case_id, done, total: None) -> None:
    """Raise `SchemaError`, naming the case, where a bundle differs from what the suite gives."""
    bundle = loaded.bundle
    wanted = Wanted(bundle.capabilities, bundle.profile, bundle.tier, bundle.patterns)
    chosen = {case.id: case for case in selected(wanted)}
    given = {case.id: case for case in bundle.cases}
    for number, (case_id, case) in enumerate(chosen.items()):
        on_case(case_id, number, len(chosen))
        made = bundled(case, number, bundle.capabilities, _record) if case.trial is not None else None
        found = given.pop(case_id, None)
        if made is None and case.trial is None and case_id not in bundle.left_out:
            raise SchemaError(f"{loaded.where}: {INDEX} does not list {case_id}, which it left out")
        if (made is None) != (found is None):
            what = "lacks the case" if found is None else "holds the case"
            raise SchemaError(f"{loaded.where}: {what} {case_id}, unlike its profile, tier and patterns")
        if made is not None and found is not None:
            _compare(loaded.where, found, made)
    if given:
        raise SchemaError(f"{loaded.where}: holds the case {min(given)}, which is none of its profile and tier")


def _record(path: str, content: bytes) -> File:
    return File(path, len(content), digest(content))


def _compare(where: str, given: BundledCase, made: BundledCase) -> None:
    theirs, mine = _contents(given), _contents(made)
    different = [name for name in mine if theirs.get(name) != mine[name]]
    if different:
        what = _WORDS.get(different[0], different[0].replace("_", " "))
        raise SchemaError(f"{where}: case {given.id}: the {what} are not what the suite gives; this bundle was changed")


_WORDS = {"launches": "inputs or acceptance sets", "kernel": "instructions of the kernel"}


def _contents(case: BundledCase) -> dict[str, Any]:
    """Return what a case says, without the names of its files."""
    return cast("dict[str, Any]", _without_names(msgspec.to_builtins(case)))


def _without_names(value: object) -> object:
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {key: _without_names(part) for key, part in fields.items() if key not in _NAMES}
    return [_without_names(part) for part in cast("list[object]", value)] if isinstance(value, list | tuple) else value
