"""The capabilities file: what fits its schema is read, what does not is refused with the field and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from portkit.contract import Capabilities, load_capabilities
from portkit.errors import SchemaError
from portkit.spec.forms import FORMS
from portkit.spec.types import DTYPES

LEAST = 'name = "chip"\nversion = "1"\nvendor = "we"\nevidence = "stand-in"\n'


def load(folder: Path, text: str) -> Capabilities:
    path = folder / "capabilities.toml"
    path.write_text(LEAST + text, encoding="utf-8")
    return load_capabilities(path)


def test_the_least_file_declares_the_base(tmp_path: Path) -> None:
    capabilities = load(tmp_path, "")
    assert capabilities.dtypes == ("bool", "i32", "u32", "f32")
    assert capabilities.extensions == ()
    assert capabilities.lane_counts() == (1,)
    assert not capabilities.numeric.strict


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('dtypes = ["bool", "i32", "u32", "f32", "float16"]', "dtypes names 'float16', known are .*f16"),
        ('dtypes = ["bool", "i32", "f32"]', "dtypes lacks the base dtype u32"),
        ('extensions = ["vecs"]', "extensions names 'vecs'.*did you mean vec"),
        ('[math]\nexp3 = ["f32"]', "math names 'exp3'.*did you mean exp2"),
        ('[math]\nexp2 = ["f64"]', "math.exp2 names 'f64'"),
        ('[numeric]\nsubnormals = { f33 = "flush" }', "numeric.subnormals names 'f33'"),
        ('[numeric]\nsubnormals = { f32 = "maybe" }', "Invalid enum value 'maybe'"),
        ('[numeric]\nsubnormals = { i32 = "flush" }', "numeric.subnormals names 'i32', known are f32"),
        ('[numeric]\nsubnormals = { f16 = "flush" }', "numeric.subnormals names 'f16', known are f32"),
        ('extensions = ["vec"]', "the extension vec needs lanes"),
        ('extensions = ["math"]', "the extension math needs math"),
        ('extensions = ["atomic"]\n[atomic]\nadd = []', "the extension atomic needs atomic"),
        ("lanes = [4]", "lanes needs the extension vec"),
        ('[math]\nexp2 = ["f32"]', "math needs the extension math"),
        ("[limits]\nlanes = 128", "lanes"),
        ("[limits]\nshared_bytes = 1024", "shared_bytes"),
        ("colour = 1", "the file names 'colour', known are name version vendor"),
        ("[limits]\nlane = 512", "limits names 'lane', known are .*did you mean lanes"),
        ("[numeric]\nstrickt = true", "numeric names 'strickt', known are .*did you mean strict"),
        ("limits = 3", "limits"),
        ("lanes = [1]", "lanes"),
        ("name = ", "TOML|toml|Invalid|invalid|Cannot"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_field(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=words) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith("capabilities.toml: ")


def test_an_evidence_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "capabilities.toml"
    path.write_text(LEAST.replace("stand-in", "real"), encoding="utf-8")
    with pytest.raises(SchemaError, match="evidence names 'real', known are silicon vendor-simulator"):
        load_capabilities(path)


@pytest.mark.parametrize("extension", ["mma", "gridsync", "signal"])
def test_an_extension_that_is_specified_only_cannot_be_declared(extension: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=f"extensions names '{extension}'"):
        load(tmp_path, f'extensions = ["{extension}"]')


def test_a_file_that_is_missing_is_a_schema_error(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="No such file"):
        load_capabilities(tmp_path / "none.toml")


def test_a_math_form_is_admitted_on_the_declared_dtypes_only(tmp_path: Path) -> None:
    dtypes = 'dtypes = ["bool", "i32", "u32", "f32", "f16"]'
    capabilities = load(tmp_path, f'{dtypes}\nextensions = ["math"]\n[math]\nexp2 = ["f32"]')
    admitted = [d for d in ("f32", "f16") if capabilities.admits(FORMS["mov.exp2"], DTYPES[d])]
    assert admitted == ["f32"]
    assert not capabilities.admits(FORMS["mov.sin"], DTYPES["f32"])


def test_a_base_form_is_admitted_on_declared_dtypes_only(tmp_path: Path) -> None:
    capabilities = load(tmp_path, "")
    assert capabilities.admits(FORMS["add"], DTYPES["i32"])
    assert not capabilities.admits(FORMS["add"], DTYPES["f16"])
