"""Every cell of the coverage table: op x form x dtype x lane count, as the capabilities declare them.

The profile `compute` adds those of level `tensors`: function x dtype (`portkit.conformance.cases.tensor_cells`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from portkit.conformance.case import Cell
from portkit.contract import Capabilities
from portkit.spec.forms import FORMS, Form
from portkit.spec.types import DTYPES, DType, Type

CONTROL_DTYPE = "i32"
"""Control forms have one cell; their index is i32."""


def cells(capabilities: Capabilities, profile: str = "core") -> list[Cell]:
    """Return every declared cell of a profile, in the order of the spec's tables."""
    forms = [form for form in FORMS.values() if available(form, capabilities)]
    core = [cell for form in forms for cell in form_cells(form, capabilities)]
    if profile != "compute":
        return core
    from portkit.conformance.cases import tensor_cells

    return core + tensor_cells.cells(capabilities)


def available(form: Form, capabilities: Capabilities) -> bool:
    """Whether the device has the form for any dtype at all."""
    return not form.specified_only and (not form.extension or capabilities.has(form.extension))


def form_cells(form: Form, capabilities: Capabilities) -> Iterator[Cell]:
    """Yield the declared cells of one form."""
    maker = _MAKERS.get(form.name, _by_dtype)
    yield from maker(form, capabilities)


def declared(form: Form, variable: str, capabilities: Capabilities) -> list[DType]:
    """Return the dtypes of a type variable that the device admits for the form, in the order of the spec."""
    allowed = form.dtypes(variable)
    return [d for d in DTYPES.values() if d in allowed and capabilities.admits(form, d)]


def lane_counts(form: Form, capabilities: Capabilities) -> tuple[int, ...]:
    """Return the lane counts of a form: scalar memory forms have 1, vector forms only more."""
    if form.vector:
        return capabilities.lane_counts()[1:]
    scalar = form.has_memory or not form.lanes
    return (1,) if scalar else capabilities.lane_counts()


def _by_dtype(form: Form, capabilities: Capabilities) -> Iterator[Cell]:
    variable = next((v for v in ("T", "M", "R", "V") if form.dtypes(v)), "")
    if not variable:
        yield Cell(form.name, CONTROL_DTYPE)
        return
    for dtype in declared(form, variable, capabilities):
        for lanes in lane_counts(form, capabilities):
            yield Cell(form.name, dtype.name, lanes)


def _pack(form: Form, capabilities: Capabilities) -> Iterator[Cell]:
    for dtype in declared(form, "T", capabilities):
        for lanes in capabilities.lane_counts()[1:]:
            yield Cell(form.name, dtype.name, lanes)


def _splat(form: Form, capabilities: Capabilities) -> Iterator[Cell]:
    for dtype in declared(form, "R", capabilities):
        for lanes in capabilities.lane_counts()[1:]:
            yield Cell(form.name, dtype.name, lanes)


def _cast(form: Form, capabilities: Capabilities) -> Iterator[Cell]:
    for target in declared(form, "R", capabilities):
        for source in declared(form, "S", capabilities):
            for lanes in capabilities.lane_counts():
                yield Cell(form.name, target.name, lanes, source.name)


def _bits(form: Form, capabilities: Capabilities) -> Iterator[Cell]:
    for target in _types(form, "R", capabilities):
        for source in _types(form, "S", capabilities):
            if source.bits == target.bits:
                yield Cell(form.name, target.dtype.name, target.lanes, str(source))


def _types(form: Form, variable: str, capabilities: Capabilities) -> list[Type]:
    return [Type(d, n) for d in declared(form, variable, capabilities) for n in capabilities.lane_counts()]


def _carry(form: Form, capabilities: Capabilities) -> Iterator[Cell]:
    for dtype in declared(form, "T", capabilities):
        for lanes in capabilities.lane_counts():
            yield Cell(form.name, dtype.name, lanes)
    yield Cell(form.name, "token")


_MAKERS: dict[str, Callable[[Form, Capabilities], Iterator[Cell]]] = {
    "mov.pack": _pack,
    "mov.splat": _splat,
    "mov.cast": _cast,
    "mov.bits": _bits,
    "phi.carry": _carry,
}
