"""The scripts and the CSV that carry the matrix, and the plot: what they hold, and that nothing breaks out of them."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit.conformance.site.columns import Column, Square
from portkit.conformance.site.data import LETTERS, UNDECLARED, data_script, details_script, keys, letters
from portkit.conformance.site.plots import LEFT, RIGHT, WIDTH, plot
from portkit.conformance.site.tables import CSV_FIELDS, comma_separated
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo
from tests.conformance.report.runs import CHIP, passing, report
from tests.conformance.report.test_pages import TRICKS
from tests.conformance.site.test_columns import failing, shown

FUSED = msgspec.structs.replace(CHIP, extensions=("fma",))


def content(script: str) -> Any:
    """Return what the first statement of data.js, or the one of details.js, assigns."""
    [line] = [line for line in script.splitlines() if " = {" in line and not line.endswith("= {};")]
    return json.loads(line.partition(" = ")[2].removesuffix(";"))


def columns() -> list[Column]:
    return [shown(failing()), shown(report(passing(FUSED), capabilities=FUSED, name="fused"))]


def test_a_report_has_a_letter_for_each_form_with_a_dtype_of_any() -> None:
    chip, fused = columns()
    known = keys([chip, fused])
    assert len(letters(chip, known)) == len(letters(fused, known)) == len(known)
    assert letters(chip, known)[known.index(("add", "f32"))] == LETTERS[Verdict.FAIL]
    assert letters(fused, known)[known.index(("add", "f32"))] == LETTERS[Verdict.PASS]
    assert letters(chip, known)[known.index(("mul.add", "f32"))] == UNDECLARED


def test_each_verdict_has_a_letter_of_its_own() -> None:
    assert len(set(LETTERS.values()) | {UNDECLARED}) == len(Verdict) + 1


def test_the_data_name_the_forms_with_extension_and_operation() -> None:
    data = content(data_script(columns()))
    assert ["mul.add", "fma", "mul"] in data["forms"]
    assert ["add", "", "add"] in data["forms"]
    names = [(data["forms"][form][0], data["dtypes"][dtype]) for form, dtype in data["keys"]]
    assert names == keys(columns())
    assert [r["backend"] for r in data["reports"]] == ["chip", "fused"]
    assert data["reports"][0]["levels"]["ops"] == [len(passing()), len(passing()) + 1]


def test_the_details_have_the_numbers_of_each_square_and_the_failures() -> None:
    column, _ = columns()
    details = content(details_script(column))
    square = column.squares["add"]["f32"]
    assert details["squares"]["add"]["f32"] == [square.cases, square.elements, square.error]
    assert details["failures"] == [["ops/other", "fail", "add"]]


def test_an_error_without_a_bound_is_told_apart_in_json_which_knows_no_infinity() -> None:
    column, _ = columns()
    endless = msgspec.structs.replace(column, squares={"add": {"f32": Square(Verdict.FAIL, 1, 1, float("inf"))}})
    assert content(details_script(endless))["squares"]["add"]["f32"] == [1, 1, -1]


def test_the_largest_number_is_not_rounded_up_to_infinity() -> None:
    column, _ = columns()
    most = sys.float_info.max
    endless = msgspec.structs.replace(column, squares={"add": {"f32": Square(Verdict.FAIL, 1, 1, most)}})
    assert content(details_script(endless))["squares"]["add"]["f32"] == [1, 1, most]


@pytest.mark.parametrize("trick", [*TRICKS, "</script>\u2028<!--", '"; alert(1); "', "\\"])
def test_a_trick_stays_a_string_of_the_scripts(trick: str) -> None:
    column = shown(report(info=DeviceInfo(trick), version=trick, vendor=trick))
    script = data_script([column])
    assert script.isascii()
    assert "<" not in script + details_script(column)
    assert content(script)["reports"][0]["device"] == column.subject.device


def test_the_csv_has_a_line_for_each_square() -> None:
    column, fused = columns()
    read = list(csv.DictReader(io.StringIO(comma_separated([column, fused]), newline="")))
    assert tuple(read[0]) == CSV_FIELDS
    assert len(read) == sum(len(row) for c in (column, fused) for row in c.squares.values())
    [add] = [line for line in read if (line["backend"], line["form"], line["dtype"]) == ("chip", "add", "f32")]
    assert (add["verdict"], add["error_share"]) == ("fail", "2.5")


@given(st.text(max_size=40))
def test_no_cell_of_the_csv_is_a_formula_or_breaks_its_line(text: str) -> None:
    column = shown(report())
    subject = msgspec.structs.replace(column.subject, device=text, vendor=text)
    made = comma_separated([msgspec.structs.replace(column, subject=subject)])
    lines = list(csv.reader(io.StringIO(made, newline="")))
    assert {len(line) for line in lines} == {len(CSV_FIELDS)}
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for line in lines for cell in line)


# --- the plot -----------------------------------------------------------------------------------------------------


def square(error: float) -> Square:
    return Square(Verdict.PASS, 1, 1, error)


def test_there_is_no_plot_where_everything_is_exact() -> None:
    assert plot({"add": {"i32": square(0.0)}}) is None


def test_the_forms_with_the_largest_error_stand_first_and_exact_dtypes_have_no_dot() -> None:
    made = plot({"add": {"f32": square(0.1), "i32": square(0)}, "mul": {"f32": square(0.5)}})
    assert made is not None
    assert [(line.form, [dot.dtype for dot in line.dots]) for line in made.lines] == [
        ("mul", ["f32"]),
        ("add", ["f32"]),
    ]


@given(st.lists(st.floats(min_value=0, exclude_min=True, allow_nan=False), min_size=1, max_size=8))
def test_every_dot_lies_in_the_picture_in_the_order_of_the_errors_and_on_its_side_of_the_bound(
    errors: list[float],
) -> None:
    made = plot({f"f{n}": {"f32": square(error)} for n, error in enumerate(errors)})
    assert made is not None
    dots = [line.dots[0] for line in made.lines]
    places = [dot.x for dot in dots]
    assert places == sorted(places, reverse=True)
    assert all(LEFT <= x <= WIDTH - RIGHT for x in places)
    [bound] = [tick.x for tick in made.ticks if tick.bound]
    assert all(dot.over == (error > 1) for dot, error in zip(dots, sorted(errors, reverse=True), strict=True))
    assert all(dot.x >= bound if dot.over else dot.x <= bound for dot in dots)
