"""Which dtypes and forms beyond the base compile and work, each tried on a case or two of the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from portkit.conformance.case import Case
from portkit.conformance.cases.collect import collect
from portkit.conformance.launching import Launch
from portkit.conformance.probing.bench import Bench
from portkit.conformance.probing.facts import Row, State
from portkit.conformance.verdict import Verdict
from portkit.contract import USABLE_EXTENSIONS, Capabilities
from portkit.errors import PortkitError
from portkit.reference.bounds import NumericModel
from portkit.spec.forms import FORMS
from portkit.spec.types import DTYPES

LANES = (2, 4, 8, 16)
"""The lane counts that are tried, beside those that are declared."""
_SMALLEST = 16
_LONGEST = 160


@dataclass(frozen=True, slots=True)
class Feature:
    """One entry of a field that is a list, and the cases that use it."""

    field: str
    value: str
    cases: tuple[Case, ...]


def features(declared: Capabilities) -> list[Feature]:
    """Return every feature that a device could have, dtypes first."""
    known = {case.id: case for case in collect(_everything(declared))}
    found = [*_dtypes(), *_extensions(declared), *_lanes(declared), *_tables()]
    features = [Feature(field, value, tuple(known[i] for i in ids if i in known)) for field, value, ids in found]
    return [feature for feature in features if feature.cases]


def _everything(declared: Capabilities) -> Capabilities:
    """Return capabilities with whatever there is in the language, so that the suite has cases for it."""
    numbers = tuple(name for name in DTYPES if name != "bool")
    kinds = [(f.extension, f.kind) for f in FORMS.values() if f.extension in ("math", "atomic")]
    return structs.replace(
        declared,
        dtypes=tuple(DTYPES),
        extensions=USABLE_EXTENSIONS,
        lanes=tuple(sorted({*LANES, *declared.lanes})),
        math={kind: numbers for extension, kind in kinds if extension == "math"},
        atomic={kind: numbers for extension, kind in kinds if extension == "atomic"},
    )


_Entry = tuple[str, str, Sequence[str]]


def _dtypes() -> Iterator[_Entry]:
    for name, dtype in DTYPES.items():
        if not dtype.base:
            yield (
                "dtypes",
                name,
                [f"ops/{op}/special" for op in (f"load/{name}", f"add/{name}", f"mov.cast/f32-to-{name}")],
            )


def _extensions(declared: Capabilities) -> Iterator[_Entry]:
    floats = [name for name in declared.dtypes if DTYPES[name].is_float]
    yield "extensions", "fma", [f"ops/mul.add/{name}/special" for name in floats]
    yield "extensions", "group", ["ops/reduce.group.add/i32/special", "ops/reduce.group.max/f32/special"]


def _lanes(declared: Capabilities) -> Iterator[_Entry]:
    for lanes in sorted({*LANES, *declared.lanes}):
        yield "lanes", str(lanes), [f"ops/{op}/f32x{lanes}/special" for op in ("add", "load.vec", "store.vec")]


def _tables() -> Iterator[_Entry]:
    for form in FORMS.values():
        if form.extension in ("math", "atomic"):
            ending = "special" if form.extension == "math" else "contended"
            for name in DTYPES:
                yield f"{form.extension}.{form.kind}", name, [f"ops/{form.name}/{name}/{ending}"]


def trouble(feature: Feature, bench: Bench, model: NumericModel) -> str:
    """Return in a line what is wrong with a feature on the device, empty if it works."""
    for case in feature.cases:
        assert case.trial is not None
        try:
            found = Launch(case.trial(), bench.client, model, bench.seconds).run()
        except PortkitError as error:
            return _line(f"{case.id}: {error}")
        if found.verdict is not Verdict.PASS:
            return _line(f"{case.id}: {found.reason}")
    return ""


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


class Findings:
    """What was found of all features; those of a dtype that does not work are not tried."""

    def __init__(self) -> None:
        self.works: dict[str, list[str]] = {}
        self.troubles: dict[tuple[str, str], str] = {}

    def add(self, feature: Feature, reason: str) -> None:
        """Note a feature that was tried; no reason stands for a working one."""
        self.works.setdefault(feature.field, [])
        if reason:
            self.troubles[feature.field, feature.value] = reason
        else:
            self.works[feature.field].append(feature.value)

    def worth_trying(self, feature: Feature, declared: Capabilities) -> bool:
        """Whether the dtype of a native form works, or is declared all the same."""
        if "." not in feature.field:
            return True
        return DTYPES[feature.value].base or feature.value in {*self.works["dtypes"], *declared.dtypes}

    def rows(self, declared: Capabilities) -> Iterator[Row]:
        """Yield a row for each field."""
        for field, works in self.works.items():
            wanted = declared_values(declared, field)
            if wanted or works:
                yield self._row(field, wanted, works)

    def _row(self, field: str, wanted: Sequence[str], works: Sequence[str]) -> Row:
        lacking = [value for value in wanted if value not in works]
        further = [value for value in works if value not in wanted]
        state = State.WRONG if lacking else State.MORE if further else State.AGREES
        measured = "; ".join(
            text for text in (_but(wanted, lacking), f"also {' '.join(further)}" if further else "") if text
        )
        reasons = [f"take {value} out of {field}: {self.troubles[field, value]}" for value in lacking]
        return Row(field, field, " ".join(wanted) or "none", measured, state, "\n".join(reasons))


def _but(wanted: Sequence[str], lacking: Sequence[str]) -> str:
    if not wanted:
        return ""
    return "all" if not lacking else "none" if len(lacking) == len(wanted) else f"not {' '.join(lacking)}"


def declared_values(declared: Capabilities, field: str) -> list[str]:
    """Return the entries of a field that is a list, as far as they can be measured."""
    table, _, kind = field.partition(".")
    if kind:
        return list(getattr(declared, table).get(kind, ()))
    if field == "dtypes":
        return [name for name in declared.dtypes if not DTYPES[name].base]
    if field == "extensions":
        return [name for name in declared.extensions if name in ("fma", "group")]
    return [str(lanes) for lanes in declared.lanes]
