"""The JSON form: exact round trips, a published schema, and nothing but our errors."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from portkit.errors import ParseError
from portkit.spec.examples import example
from portkit.spec.forms import CLAUSES, FORMS, Form
from portkit.spec.jsonform import SCHEMA, from_json, to_json
from portkit.spec.text import parse
from tests.spec.kernels import COPIES, DOT, VECTORS, edited

KERNELS = {"dot": DOT, "copies": COPIES, "vectors": VECTORS}


@pytest.mark.parametrize("text", KERNELS.values(), ids=KERNELS.keys())
def test_a_kernel_round_trips(text: str) -> None:
    kernel = parse(edited(text, ("begin", "numeric strict\nbegin")))
    assert from_json(to_json(kernel)) == kernel


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_round_trips_and_fits_the_schema(form: Form) -> None:
    kernel = example(form)
    data = to_json(kernel)
    assert from_json(data) == kernel
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(data))


def test_the_schema_is_a_schema_and_refuses_another_document() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"format": "portkit-kernel", "name": "k"}, SCHEMA)


def test_a_64_bit_constant_keeps_all_its_bits() -> None:
    kernel = parse(edited(DOT, ("begin", "begin\nq = mov.const u64 18446744073709551615")))
    assert from_json(to_json(kernel)).body[0].imms == (2**64 - 1,)


def altered(change: dict[str, Any], at: int | None = None) -> bytes:
    """Return the JSON of DOT with fields of one instruction, or of the whole, replaced."""
    data = json.loads(to_json(parse(DOT)))
    (data if at is None else data["body"][at]).update(change)
    return json.dumps(data).encode()


BUFFER = {"name": "b", "dtype": "f32", "extent": [1], "access": "read"}
MUL = next(i for i, instr in enumerate(parse(DOT).body) if instr.result == "t")

FAULTS: dict[str, tuple[str, bytes]] = {
    "another version": ("header_c1", altered({"version": "2.0"})),
    "another format": ("text_c1", altered({"format": "onnx"})),
    "an unknown field": ("text_c1", altered({"extra": 1})),
    "an unknown field of an instruction": ("text_c1", altered({"extra": 1}, MUL)),
    "a name that is none": ("text_c1", altered({"result": "a b"}, MUL)),
    "a name of 65 characters": ("text_c1", altered({"result": "n" * 65}, MUL)),
    "a name with a line end": ("header_c2", altered({"result": "t\n"}, MUL)),
    "an unknown mode": ("text_c1", altered({"numeric": "loose"})),
    "an unknown form": ("form_c1", altered({"form": "mull"}, MUL)),
    "an operand too many": ("form_c1", altered({"args": ["xv", "yv", "xv"]}, MUL)),
    "an unknown register": ("name_c1", altered({"args": ["xv", "zz"]}, MUL)),
    "an unknown type": ("type_c1", altered({"type": "f31"}, MUL)),
    "too many lanes": ("type_c2", altered({"type": "f32x65"}, MUL)),
    "a type that does not follow": ("type_c3", altered({"type": "f64"}, MUL)),
    "operands that do not fit": ("type_c3", altered({"args": ["xv", "l"]}, MUL)),
    "a name twice": ("header_c2", altered({"result": "xv"}, MUL)),
    "a literal beyond 64 bits": ("const_c1", altered({"imms": [2**70]}, 0)),
    "a fractional literal": ("text_c1", altered({"imms": [1.5]}, 0)),
    "a buffer of bool": ("header_c5", altered({"buffers": [{**BUFFER, "dtype": "bool"}]})),
    "a scalar of f64": ("header_c4", altered({"scalars": [{"name": "b", "dtype": "f64"}]})),
    "an extent of zero": ("text_c1", altered({"shared": [{"name": "b", "dtype": "f32", "extent": 0}]})),
    "no extent": ("text_c1", altered({"buffers": [{**BUFFER, "extent": []}]})),
    "too many declarations": ("text_c1", altered({"scalars": [{"name": "s", "dtype": "i32"}] * 1025})),
    "too many instructions": ("text_c1", altered({"body": [{"form": "barrier"}] * 100_001})),
    "nothing": ("text_c1", b""),
    "not JSON": ("text_c1", b"portkit 1.0"),
    "deep nesting": ("text_c1", b"[" * 1_000_000),
    "deep nesting inside": ("text_c1", altered({"body": 0}).replace(b'"body": 0', b'"body": ' + b"[" * 1_000_000)),
    "a lone surrogate": ("text_c1", to_json(parse(DOT)).replace(b'"xv"', b'"\\ud800"')),
    "bytes that are no UTF-8": ("text_c1", to_json(parse(DOT)).replace(b'"xv"', b'"\xed\xa0\x80"')),
    "a huge number": ("text_c1", to_json(parse(DOT)).replace(b'"imms":[256]', b'"imms":[' + b"9" * 100_000 + b"]")),
    "too many bytes": ("limit_c2", b" " * ((32 << 20) + 1)),
}  # fmt: skip


@pytest.mark.parametrize(("clause", "data"), FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.timeout(10)
def test_faulty_json_is_refused_by_the_right_clause(clause: str, data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        from_json(data)
    assert caught.value.clause == clause
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_an_error_names_the_instruction_by_its_place() -> None:
    with pytest.raises(ParseError, match=rf"body\[{MUL}\]: no register 'zz' is defined before"):
        from_json(altered({"args": ["xv", "zz"]}, MUL))


def test_every_clause_that_readers_cite_exists() -> None:
    assert {clause for clause, _ in FAULTS.values()} <= CLAUSES.keys()
