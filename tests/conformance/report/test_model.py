"""The report's record: its schema, reading it back, and refusing what is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from portkit.conformance.report import model
from portkit.conformance.report.model import decode_report, encode_report, json_schema, load_report, read_file
from portkit.errors import SchemaError, UsageError
from tests.conformance.report.runs import entry, passing, report


def as_json() -> dict[str, Any]:
    return json.loads(encode_report(report([*passing(), entry("ops/x")])))


def test_a_report_survives_writing_and_reading() -> None:
    made = report([*passing(), entry("ops/x")])
    assert decode_report(encode_report(made), "x") == made


def test_the_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_a_report_validates_against_the_published_schema() -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(as_json())


WRONG: list[tuple[str, Any]] = [
    ("subject", []),
    ("passed", "yes"),
    ("counts", {"splendid": 1}),
    ("counts", {"pass": -1}),
    ("levels", {"attic": {"pass": 1}}),
    ("tier", "huge"),
    ("profile", "a b"),
    ("profile", "core\n"),
    ("started", "yesterday"),
    ("started", "٢٠٢٦-03-04T05:06:07+00:00"),
    ("seconds", -1),
    ("seconds", "1"),
    ("cases", {"id": "x"}),
    ("cases", [{"id": "x"}]),
    ("cases", [{"id": "<x y>", "verdict": "pass", "level": "ops"}]),
    ("statement", "x" * 401),
    ("statement", None),
    ("capabilities", {"name": "x"}),
    ("extra", 1),
    ("report", "0.9"),
    ("planned", -1),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda v: str(v)[:20])
def test_a_wrong_field_is_refused(field: str, value: Any) -> None:
    with pytest.raises(SchemaError, match="a report"):
        decode_report(json.dumps({**as_json(), field: value}).encode(), "x")


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda v: str(v)[:20])
def test_the_schema_refuses_the_same(field: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema()).validate({**as_json(), field: value})


@pytest.mark.parametrize("name", ["../../x", "..", ".hidden", "a/b", "a\\b", "a b", "x\n", "", "-rf", "é", "a\x00"])
def test_a_backend_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    content = as_json()
    content["subject"]["backend"] = name
    with pytest.raises(SchemaError, match=r"subject\.backend"):
        decode_report(json.dumps(content).encode(), "x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe{}",
        b'{"report": "\xff"}',
        b"[" * 100_000,
        b'{"subject":' * 5_000,
        b'{"cases": [1e999]}',
        b'{"report": "1.0-draft"}',
    ],
    ids=range(10),
)
def test_what_is_not_a_report_is_refused(content: bytes) -> None:
    with pytest.raises(SchemaError, match=r"file\.json: not a report"):
        decode_report(content, "file.json")


def test_deep_nesting_inside_a_field_is_refused() -> None:
    deep = json.dumps(as_json()).replace(
        '"capabilities": {', '"capabilities": {"x": ' + "[" * 50_000 + "]" * 50_000 + ","
    )
    with pytest.raises(SchemaError, match="not a report"):
        decode_report(deep.encode(), "x")


def test_a_report_of_another_version_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"version '0\.9', this portkit reads"):
        decode_report(json.dumps({**as_json(), "report": "0.9"}).encode(), "x")


def test_a_file_that_is_too_large_is_refused_before_it_is_read_in_full(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 100)
    with pytest.raises(SchemaError, match="larger than 99 bytes"):
        read_file(tmp_path / "x", 99)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero here")
def test_a_device_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").symlink_to("/dev/zero")
    with pytest.raises(SchemaError, match="larger than"):
        read_file(tmp_path / "report.json", 1000)


@pytest.mark.parametrize("name", ["missing.json", "missing/report.json"])
def test_a_missing_file_is_a_usage_error_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"cannot read .*{name}: No such file"):
        load_report(tmp_path / name)


def test_a_report_is_found_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(encode_report(report()))
    assert load_report(tmp_path) == load_report(tmp_path / "report.json") == report()


def test_every_text_of_the_schema_has_a_limit() -> None:
    """Only the capabilities, which the contract's own schema describes, are bounded by the size of the file."""
    schema = json_schema()
    own = {name: d for name, d in schema["$defs"].items() if issubclass(getattr(model, name, int), model.Record)}
    fields = [(n, f, s) for n, d in own.items() for f, s in d["properties"].items() if s.get("type") == "string"]
    assert len(fields) > 20
    assert [(n, f) for n, f, s in fields if not {"maxLength", "pattern", "const"} & s.keys()] == []
