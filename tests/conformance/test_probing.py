"""What the probe finds on devices that lie about themselves, and on one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from portkit.conformance.probing import Part, Probed, State, draft_text, floats, probe
from portkit.conformance.probing.features import features
from portkit.contract import Capabilities, load_capabilities
from portkit.errors import CannotRunHere, DeviceError
from portkit.runtime.client import DeviceClient
from portkit.spec.types import DTYPES, F32, DType
from tests.fakes.host import BASE

SECONDS = 20.0


def probed(name: str, *parts: Part, seconds: float = SECONDS) -> Probed:
    with DeviceClient(f"tests.fakes.lying:{name}", timeout=seconds) as client:
        return probe(client, parts=parts, seconds=seconds)


def wrong(found: Probed) -> dict[str, str]:
    """The advice of each wrong row, by what it is about."""
    return {row.what: row.advice for row in found.wrong}


# --- floats -------------------------------------------------------------------------------------------------------


def test_an_honest_device_agrees_with_its_declaration() -> None:
    found = probed("HONEST", Part.FLOATS)
    assert not found.wrong
    assert {row.what for row in found.rows if row.state is State.AGREES} >= {"rounding of add", "subnormals of f32"}
    assert found.drafted.numeric.strict


def test_a_flushing_device_that_declares_preserve_is_told_which_field_to_change() -> None:
    found = probed("FLUSHES", Part.FLOATS)
    assert list(wrong(found)) == ["subnormals of f32"]
    assert 'numeric.subnormals to { f32 = "flush" }' in wrong(found)["subnormals of f32"]
    assert found.drafted.numeric.subnormals["f32"] == "flush"


def test_contraction_is_named_and_takes_strict_away() -> None:
    advice = wrong(probed("CONTRACTS", Part.FLOATS))
    assert set(advice) == {"mul, then add", "strict"}
    assert "numeric_c1" in advice["mul, then add"]
    assert advice["strict"].startswith("set numeric.strict to false")


def test_reassociated_sums_are_named() -> None:
    assert set(wrong(probed("REASSOCIATES", Part.FLOATS))) == {"order of sums"}


def test_max_and_min_that_ignore_nan_are_named() -> None:
    advice = wrong(probed("IGNORES_NAN", Part.FLOATS))
    assert set(advice) == {"NaN in max and min"}
    assert "max of NaN and 1 is 1.0" in advice["NaN in max and min"]


def test_casts_that_wrap_are_named() -> None:
    advice = wrong(probed("WRAPS", Part.FLOATS))
    assert set(advice) == {"casts to integers"}
    assert "-2.75 to u32 is 4294967294" in advice["casts to integers"]


def test_a_device_without_infinities_is_told_which_field_to_change() -> None:
    found = probed("HAS_NO_INFINITY", Part.FLOATS)
    assert wrong(found)["infinities and NaN"].startswith("set numeric.nonfinite to false: f32: inf + 1 is 3.40")
    assert not found.drafted.numeric.nonfinite


def test_a_device_that_does_more_than_it_declares_is_not_wrong() -> None:
    found = probed("MODEST", Part.FLOATS)
    assert not found.wrong
    assert {row.what for row in found.rows if row.state is State.MORE} == {"subnormals of f32", "strict"}


def test_what_a_device_makes_of_a_dtype_that_it_does_not_declare_is_no_fault() -> None:
    found = probed("NONSENSE_F64", Part.FLOATS)
    assert not found.wrong
    assert not any("f64" in row.what for row in found.rows)


class Rounds:
    """A bench whose device rounds sums and products in one direction."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def each(self, body: Any, dtype: DType, result: DType, *columns: Sequence[Fraction]) -> list[Fraction]:
        del result
        form = Recorder()
        body(form, (0, 1))
        exact = [a + b if form.name == "add" else a * b for a, b in zip(*columns, strict=True)]
        return [floats.rounded(dtype, x, self.mode) for x in exact]


class Recorder:
    """Notes which form a body writes."""

    name = ""

    def op(self, name: str, *args: object) -> None:
        del args
        self.name = name


@pytest.mark.parametrize("mode", floats._MODES)
@pytest.mark.parametrize("measure", [floats.add_rounding, floats.mul_rounding])
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "f64"])
def test_every_direction_of_rounding_is_told_from_the_others(mode: str, measure: Any, dtype: str) -> None:
    assert measure(Rounds(mode), DTYPES[dtype]) == mode


def test_rounding_in_a_direction_finds_the_neighbour() -> None:
    half = 1 + Fraction(1, 1 << 24)
    assert floats.rounded(F32, half, "up") == 1 + Fraction(1, 1 << 23)
    assert floats.rounded(F32, -half, "up") == -1


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Probed:
    return probed("SMALL", Part.LIMITS)


@pytest.mark.parametrize(("limit", "most"), [("lanes", 300), ("shared_bytes", 20 << 10), ("buffers", 10)])
def test_a_limit_that_is_declared_too_high_is_found_by_halving(small: Probed, limit: str, most: int) -> None:
    advice = wrong(small)[f"limits.{limit}"]
    assert advice.startswith(f"set limits.{limit} to ")
    assert "vendor: " in advice
    found = getattr(small.drafted.limits, limit)
    assert 0.97 * most <= found <= most


def test_a_limit_that_holds_agrees(small: Probed) -> None:
    assert "limits.buffer_bytes" not in wrong(small)


# --- lists --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def without_i64() -> Probed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("portkit.conformance.probing.run.features", _few)
        return probed("WITHOUT_I64", Part.LISTS, seconds=2.0)


def _few(declared: Capabilities) -> list[Any]:
    wanted = {("dtypes", "i64"), ("dtypes", "i8"), ("extensions", "fma"), ("lanes", "4")}
    wanted |= {("atomic.add", "i32"), ("atomic.min", "i32"), ("atomic.add", "f64"), ("math.sqrt", "f32")}
    return [feature for feature in features(declared) if (feature.field, feature.value) in wanted]


def test_a_dtype_that_does_not_compile_is_to_be_taken_out(without_i64: Probed) -> None:
    assert wrong(without_i64)["dtypes"].startswith("take i64 out of dtypes: ops/load/i64/special: CompileError: vendor")


def test_a_form_that_never_ends_is_to_be_taken_out_and_the_probe_goes_on(without_i64: Probed) -> None:
    assert wrong(without_i64)["atomic.min"].startswith("take i32 out of atomic.min: ")
    assert without_i64.drafted.math == {"sqrt": ("f32",)}


def test_what_works_and_is_not_declared_is_drafted(without_i64: Probed) -> None:
    rows = {row.what: row for row in without_i64.rows}
    assert rows["lanes"].state is State.MORE
    assert rows["lanes"].measured == "also 4"
    assert without_i64.drafted.lanes == (4,)
    assert set(without_i64.drafted.extensions) == {"vec", "fma", "math", "atomic"}


def test_native_forms_of_a_dtype_that_the_device_has_not_are_not_tried(without_i64: Probed) -> None:
    assert without_i64.drafted.atomic == {"add": ("i32",)}


def test_there_is_a_case_for_every_form_that_can_be_declared() -> None:
    found = {(feature.field, feature.value) for feature in features(BASE)}
    assert found >= {("math.exp2", "f16"), ("atomic.max", "u32"), ("lanes", "16"), ("extensions", "group")}
    assert found >= {("dtypes", name) for name, dtype in DTYPES.items() if not dtype.base}


# --- speed, drafts, and what cannot be measured -------------------------------------------------------------------


def test_copies_and_launches_are_timed() -> None:
    speed = probed("HONEST", Part.SPEED).speed
    assert speed is not None
    assert speed.copy_bytes == 1 << 20
    assert speed.gigabytes_per_second == pytest.approx(2e-9 * (1 << 20) / speed.copy_seconds)
    assert 0 < speed.launch_seconds < SECONDS


def test_a_draft_reads_back_as_the_same_capabilities(tmp_path: Path, without_i64: Probed) -> None:
    path = tmp_path / "capabilities.toml"
    path.write_text(draft_text(without_i64.drafted), encoding="utf-8")
    assert load_capabilities(path) == without_i64.drafted


def test_a_backend_that_cannot_run_here_is_not_measured() -> None:
    with DeviceClient("tests.fakes.devices:CANNOT_RUN") as client, pytest.raises(CannotRunHere):
        probe(client)


def test_a_device_on_which_nothing_runs_is_an_error_with_its_words() -> None:
    with DeviceClient("tests.fakes.devices:FULL") as client, pytest.raises(DeviceError, match="no room for 4 bytes"):
        probe(client)


def test_a_device_that_computes_nothing_is_not_measured() -> None:
    with (
        DeviceClient("tests.fakes.devices:NOTHING") as client,
        pytest.raises(DeviceError, match="element 0 is 0, not 1"),
    ):
        probe(client)
