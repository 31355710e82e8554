"""One probe of a device, from end to end: floats first, since what else is judged depends on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import structs

from portkit.conformance.judge import CASE_SECONDS, model_of
from portkit.conformance.probing import floats, limits, speed
from portkit.conformance.probing.bench import Bench, Refused
from portkit.conformance.probing.facts import NO, YES, Probed, Row, Speed, State
from portkit.conformance.probing.features import Findings, features, trouble
from portkit.contract import Capabilities, NumericLimits, Subnormals
from portkit.errors import DeviceError
from portkit.runtime.client import DeviceClient
from portkit.spec.types import DTYPES, F32, DType

Show = Callable[[str, int, int], None]
"""Is told what is measured next, and how many of how many measurements are done."""
_FLOATS = tuple(DTYPES[name] for name in ("f32", "f16", "bf16", "f64"))
_LONGEST = 24


@dataclass(slots=True)
class _Numbers:
    """What each float dtype was found to do: measurement, then dtype, then answer."""

    answers: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def put(self, what: str, dtype: DType, answer: str) -> None:
        self.answers.setdefault(what, {})[dtype.name] = answer

    def all(self, what: str, wanted: str) -> bool:
        return all(answer == wanted for answer in self.answers.get(what, {}).values())

    def text(self, what: str) -> str:
        """Return the answer, or where dtypes differ each with its dtypes."""
        found: dict[str, list[str]] = {}
        for dtype, answer in self.answers[what].items():
            found.setdefault(answer if len(answer) <= _LONGEST else "something else", []).append(dtype)
        if len(found) == 1:
            return next(iter(found))
        return ", ".join(f"{' '.join(dtypes)}: {answer}" for answer, dtypes in found.items())


_SUBNORMALS, _NONFINITE, _ZEROS = "subnormals", "infinities and NaN", "zeros in max and min"
_REFUSED = "refused: "
_ALWAYS = (*floats.RIGHT, *floats.RIGHT_NONFINITE)
_MEASURES: tuple[tuple[str, floats.Measure], ...] = (
    (_SUBNORMALS, floats.subnormals),
    (_NONFINITE, floats.nonfinite),
    *((what, measure) for what, measure, _, _ in _ALWAYS),
    (_ZEROS, floats.zero_order),
)


class Part(StrEnum):
    """What can be measured alone."""

    FLOATS = "floats"
    LISTS = "lists"
    LIMITS = "limits"
    SPEED = "speed"


class _Probe:
    def __init__(self, client: DeviceClient, seconds: float, show: Show, parts: Collection[Part]) -> None:
        self.bench = Bench(client, seconds)
        self.declared = client.capabilities
        self.show = show
        self.parts = parts
        self.features = features(self.declared) if Part.LISTS in parts else []
        counts = {Part.FLOATS: len(_FLOATS) * len(_MEASURES), Part.LIMITS: len(limits.LIMITS), Part.SPEED: 1}
        self.total = len(self.features) + sum(count for part, count in counts.items() if part in parts)
        self.done = 0
        self.drafted = self.declared
        self.rows: list[Row] = []
        self.flushed: dict[str, Subnormals] = {}
        self.speed: Speed | None = None

    def next(self, what: str) -> None:
        self.show(what, self.done, self.total)
        self.done += 1

    def run(self) -> Probed:
        actions = {
            Part.FLOATS: self._numbers,
            Part.LISTS: self._lists,
            Part.LIMITS: self._limits,
            Part.SPEED: self._measure_speed,
        }
        for part, action in actions.items():
            if part in self.parts:
                action()
        return Probed(self.bench.client.info, self.declared, _consistent(self.drafted), self.rows, self.speed)

    # --- numbers --------------------------------------------------------------------------------------------------

    def _floats(self) -> _Numbers:
        """Measure what the declared dtypes owe; of the others only what the cases need to know that try them."""
        numbers = _Numbers()
        for dtype in _FLOATS:
            owed, after = dtype.name in self.declared.dtypes, self.done + len(_MEASURES)
            for what, measure in _MEASURES if owed else _MEASURES[:1]:
                self.next(f"{what}, {dtype}")
                answer = self._answer(measure, dtype)
                if what == _SUBNORMALS and answer == floats.FLUSH:
                    self.flushed[dtype.name] = "flush"
                if what == _SUBNORMALS and dtype != F32 and answer.startswith(_REFUSED):
                    break  # the dtype itself is missing, which its own row says
                if owed:
                    numbers.put(what, dtype, answer)
            self.done = after
        return numbers

    def _answer(self, measure: floats.Measure, dtype: DType) -> str:
        try:
            return measure(self.bench, dtype)
        except Refused as refused:
            return f"{_REFUSED}{refused}"

    def _numbers(self) -> None:
        numbers = self._floats()
        self.rows += _right(numbers, self.declared)
        self._numeric(numbers)

    def _numeric(self, numbers: _Numbers) -> None:
        subnormals = numbers.answers[_SUBNORMALS]
        nonfinite = numbers.all(_NONFINITE, YES)
        lacks = [what for what, _, right, _ in _ALWAYS if not numbers.all(what, right)]
        lacks += [] if numbers.all(_SUBNORMALS, floats.PRESERVE) else [_SUBNORMALS]
        lacks += [] if nonfinite else [_NONFINITE]
        lacks += [] if numbers.all(_ZEROS, floats.ORDERED) else [_ZEROS]
        self.drafted = structs.replace(self.drafted, numeric=NumericLimits(not lacks, nonfinite, self.flushed))
        self.rows += [*_subnormal_rows(subnormals, self.declared), _nonfinite_row(numbers, self.declared)]
        self.rows.append(_strict_row(lacks, self.declared))

    # --- lists ----------------------------------------------------------------------------------------------------

    def _lists(self) -> None:
        model, findings = model_of(self.drafted), Findings()
        for feature in self.features:
            self.next(f"{feature.field}: {feature.value}")
            if findings.worth_trying(feature, self.declared):
                findings.add(feature, trouble(feature, self.bench, model))
        self.rows += findings.rows(self.declared)
        self.drafted = drafted_lists(self.drafted, findings)

    # --- sizes and times ------------------------------------------------------------------------------------------

    def _limits(self) -> None:
        for limit in limits.LIMITS:
            self.next(limit.field)
            row, found = limits.measure(limit, self.bench, self.declared)
            self.rows.append(row)
            self._draft_limit(limit.field, found)

    def _measure_speed(self) -> None:
        self.next("speed")
        with suppress(Refused):  # what a device cannot copy or launch, other parts tell
            self.speed = speed.measure(self.bench, self.declared)

    def _draft_limit(self, name: str, found: int) -> None:
        least = getattr(type(self.declared.limits)(), name) if name != "buffer_bytes" else 1
        changed = structs.replace(self.drafted.limits, **{name: max(least, found)})
        self.drafted = structs.replace(self.drafted, limits=changed)


def probe(
    client: DeviceClient,
    *,
    parts: Collection[Part] = tuple(Part),
    seconds: float = CASE_SECONDS,
    show: Show = lambda what, done, total: None,
) -> Probed:
    """Measure the device behind a client, each kernel within `seconds`; `show` is told how far it is.

    Raises `CannotRunHere`, and `DeviceError` if not even a kernel that stores one number runs.
    """
    client.require()
    try:
        limits.buffers(Bench(client, seconds), 1)
    except Refused as refused:
        raise DeviceError(f"nothing can be measured, as a kernel that stores one number fails: {refused}") from refused
    return _Probe(client, seconds, show, parts).run()


# --- rows ---------------------------------------------------------------------------------------------------------


def _right(numbers: _Numbers, declared: Capabilities) -> Iterator[Row]:
    """Yield a row for what no declaration changes."""
    for what, _, right, clause in _ALWAYS:
        owed = declared.numeric.nonfinite or (what, clause) not in [(r[0], r[3]) for r in floats.RIGHT_NONFINITE]
        wrong = {dtype: answer for dtype, answer in numbers.answers[what].items() if answer != right}
        state = State.WRONG if wrong and owed else State.UNMEASURED if wrong else State.AGREES
        advice = "\n".join(f"{what}, {d}: {a}; every device owes {right} (Spec: {clause})" for d, a in wrong.items())
        yield Row(what, "", right if owed else "nothing", numbers.text(what), state, advice if owed else "")


def _subnormal_rows(found: dict[str, str], declared: Capabilities) -> Iterator[Row]:
    for name, measured in found.items():
        wanted = "flush" if declared.flushes(DTYPES[name]) else "preserve"
        if name not in declared.dtypes:
            continue
        less = wanted == floats.FLUSH and measured == floats.PRESERVE
        state = State.AGREES if measured == wanted else State.MORE if less else State.WRONG
        advice = _subnormal_advice(name, measured) if state is State.WRONG else ""
        cell = measured if measured in (floats.PRESERVE, floats.FLUSH) else "something else"
        yield Row(f"subnormals of {name}", "numeric.subnormals", wanted, cell, state, advice)


def _subnormal_advice(name: str, measured: str) -> str:
    if measured == floats.FLUSH:
        return (
            f'set numeric.subnormals to {{ {name} = "flush" }}, or switch flushing off: subnormals of {name} become 0'
        )
    return f"subnormals of {name}: {measured}; no declaration allows it (Spec: numeric_c7)"


def _nonfinite_row(numbers: _Numbers, declared: Capabilities) -> Row:
    found, wanted = numbers.all(_NONFINITE, YES), declared.numeric.nonfinite
    state = State.AGREES if found == wanted else State.MORE if found else State.WRONG
    wrong = [f"{name}: {answer}" for name, answer in numbers.answers[_NONFINITE].items() if answer != YES]
    advice = f"set numeric.nonfinite to false: {'; '.join(wrong)}" if state is State.WRONG else ""
    return Row(_NONFINITE, "numeric.nonfinite", YES if wanted else NO, YES if found else NO, state, advice)


def _strict_row(lacks: Sequence[str], declared: Capabilities) -> Row:
    wanted = declared.numeric.strict
    state = State.AGREES if wanted == (not lacks) else State.WRONG if wanted else State.MORE
    advice = f"set numeric.strict to false, as long as this is not right: {', '.join(lacks)}"
    measured = NO if lacks else "nothing against it"
    return Row("strict", "numeric.strict", YES if wanted else NO, measured, state, advice if wanted and lacks else "")


def _consistent(drafted: Capabilities) -> Capabilities:
    """Return capabilities that say nothing of dtypes that they do not have."""
    kept = {name: how for name, how in drafted.numeric.subnormals.items() if name in drafted.dtypes}
    return structs.replace(drafted, numeric=structs.replace(drafted.numeric, subnormals=kept))


def drafted_lists(drafted: Capabilities, findings: Findings) -> Capabilities:
    """Return capabilities with the dtypes, extensions, lane counts and native forms that were found to work."""
    works = findings.works
    tables = {
        table: {
            kind: tuple(values) for name, values in works.items() for t, _, kind in [name.partition(".")] if t == table
        }
        for table in ("math", "atomic")
    }
    filled = {table: {kind: values for kind, values in kinds.items() if values} for table, kinds in tables.items()}
    lanes = tuple(int(value) for value in works.get("lanes", []))
    extensions = [
        *(["vec"] if lanes else []),
        *works.get("extensions", []),
        *(t for t, kinds in filled.items() if kinds),
    ]
    base = tuple(name for name, dtype in DTYPES.items() if dtype.base)
    return structs.replace(
        drafted,
        dtypes=(*base, *works.get("dtypes", [])),
        extensions=tuple(extensions),
        lanes=lanes,
        math=filled["math"],
        atomic=filled["atomic"],
    )
