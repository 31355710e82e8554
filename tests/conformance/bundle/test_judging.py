"""Outputs are judged as launches on a device are: the same cases pass and fail, for the same reasons."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from portkit.conformance.bundle.browser import browser_capabilities
from portkit.conformance.bundle.judging import Judgement, judge_outputs
from portkit.conformance.bundle.load import LoadedCase, load_bundle, load_case
from portkit.conformance.bundle.make import Made, Wanted, make_bundle
from portkit.conformance.bundle.model import INDEX, MANIFEST
from portkit.conformance.bundle.outputs import make_outputs, read_outputs
from portkit.conformance.case import Case
from portkit.conformance.cases.collect import collect
from portkit.conformance.journal import Entry
from portkit.conformance.judge import model_of
from portkit.conformance.launching import Launch
from portkit.conformance.verdict import ExitCode, Verdict
from portkit.conformance.worker import open_client
from portkit.errors import SchemaError
from tests.conformance.bundle.bundles import (
    SIGNED_CASE,
    UNSIGNED,
    Files,
    capabilities,
    case,
    index,
    made,
    outputs,
    write,
)

Images = Mapping[str, bytes]


def judged(folder: Path, files: Images, bundle: Files | None = None) -> Judgement:
    path = write(folder / "b.zip", bundle or made().files)
    with load_bundle(path) as loaded, read_outputs(write(folder / "o.zip", files), loaded) as given:
        return judge_outputs(loaded, given, genuine=True)


def failing(found: Judgement) -> dict[str, str]:
    return {entry.id: entry.reason for entry in found.entries if entry.verdict is not Verdict.PASS}


def entry_of(found: Judgement, case_id: str = SIGNED_CASE) -> Entry:
    return next(entry for entry in found.entries if entry.id == case_id)


# --- the same verdicts as on a device -----------------------------------------------------------------------------


def test_the_outputs_of_a_right_device_all_pass(tmp_path: Path) -> None:
    found = judged(tmp_path, outputs())
    assert failing(found) == {}
    assert found.not_run == ()
    assert len(found.entries) == len(made().bundle.cases) > 5
    assert found.exit_code is ExitCode.PASSED


def launched(mutant: str, cases: list[Case]) -> dict[str, str]:
    """Return the cases that do not pass on a device with a fault, and why."""
    with closing(open_client("cpu", 10.0, mutant)) as client:
        model = model_of(client.capabilities)
        found = {each.id: Launch(each.trial(), client, model, 10.0).run() for each in cases if each.trial}
    return {case_id: each.reason for case_id, each in found.items() if each.verdict is not Verdict.PASS}


MUTANTS = (UNSIGNED, "writes-past-the-end", "clobbers-input")


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_outputs_of_a_faulty_device_fail_in_the_cases_that_fail_on_the_device(tmp_path: Path, mutant: str) -> None:
    bundled = {each.id for each in made().bundle.cases}
    on_device = launched(mutant, [each for each in collect(capabilities(), "core") if each.id in bundled])
    assert failing(judged(tmp_path, outputs(mutant))) == on_device
    assert on_device


def test_a_wrong_output_has_the_card_of_a_wrong_launch(tmp_path: Path) -> None:
    card = entry_of(judged(tmp_path, outputs(UNSIGNED))).card
    assert card is not None
    assert card.mismatch is not None
    assert card.cause == UNSIGNED or "unsigned" in card.hint
    assert "kernel" in card.kernel


# --- one byte at a time -------------------------------------------------------------------------------------------


def touched(at: int, case_id: str = SIGNED_CASE) -> Images:
    """Return right outputs in which one byte of one image is another."""
    name = case(index(), case_id)["launches"][0]["after"]
    image = bytearray(outputs()[name])
    image[at] ^= 0x10
    return {**outputs(), name: bytes(image)}


def buffer(place: int) -> dict[str, int]:
    return case(index())["buffers"][place]


TOUCHES: dict[str, tuple[Callable[[], int], str]] = {
    "an element": (lambda: buffer(-1)["offset"], "is wrong, and with it 1 of"),
    "an input": (lambda: buffer(0)["offset"] + 4, "changed the input .* at element 1"),
    "behind a buffer": (lambda: buffer(-1)["offset"] + buffer(-1)["size"], "wrote past the end of .*: byte 0"),
    "before every buffer": (lambda: 0, "wrote outside every buffer"),
    "behind every buffer": (lambda: case(index())["image_bytes"] - 1, "wrote outside every buffer"),
}


@pytest.mark.parametrize(("place", "words"), TOUCHES.values(), ids=TOUCHES)
def test_one_byte_that_is_not_as_it_should_be_fails_its_case_alone(
    tmp_path: Path, place: Callable[[], int], words: str
) -> None:
    found = failing(judged(tmp_path, touched(place())))
    assert list(found) == [SIGNED_CASE]
    assert re.search(words, found[SIGNED_CASE])


def test_an_output_that_is_the_image_before_the_launch_was_not_written(tmp_path: Path) -> None:
    launch = case(index())["launches"][0]
    found = judged(tmp_path, {**outputs(), launch["after"]: made().files[launch["before"]["path"]]})
    assert "was not written" in failing(found)[SIGNED_CASE]


# --- what is missing ----------------------------------------------------------------------------------------------


def test_a_case_without_output_is_not_run_and_nothing_passes_by_it(tmp_path: Path) -> None:
    name = case(index())["launches"][0]["after"]
    found = judged(tmp_path, {key: content for key, content in outputs().items() if key != name})
    assert found.not_run == (SIGNED_CASE,)
    assert SIGNED_CASE not in {entry.id for entry in found.entries}
    assert found.exit_code is ExitCode.NOT_PASSED


def test_no_outputs_at_all_are_no_pass(tmp_path: Path) -> None:
    found = judged(tmp_path, {})
    assert found.entries == ()
    assert found.exit_code is ExitCode.NOT_PASSED


@pytest.mark.parametrize("verdict", ["crash", "timeout", "fail"])
def test_what_came_of_a_launch_without_output_is_taken_from_whoever_ran_it(tmp_path: Path, verdict: str) -> None:
    name = case(index())["launches"][0]["after"]
    stated = {**json.loads(outputs()[MANIFEST]), "unmade": {SIGNED_CASE: {"verdict": verdict, "reason": "it smoked"}}}
    files = {key: content for key, content in outputs().items() if key != name}
    found = judged(tmp_path, {**files, MANIFEST: json.dumps(stated).encode()})
    assert entry_of(found).verdict is Verdict(verdict)
    assert entry_of(found).reason == "as stated with the outputs: it smoked"
    assert found.exit_code is ExitCode.NOT_PASSED


# --- two launches -------------------------------------------------------------------------------------------------

TWICE = "ops/phi.lt/f32/special"
"""Where subnormals may be flushed some of its elements may be any of many numbers, the poison among them."""


@pytest.fixture(scope="module")
def twice() -> Made:
    return make_bundle(Wanted(browser_capabilities(), patterns=(TWICE,)))


@pytest.fixture(scope="module")
def right(twice: Made, tmp_path_factory: pytest.TempPathFactory) -> Files:
    path = write(tmp_path_factory.mktemp("twice") / "b.zip", twice.files)
    with closing(open_client("cpu", 10.0, "")) as client, load_bundle(path) as loaded:
        return make_outputs(loaded, client)


def unwritten(twice: Made, right: Files, launches: int) -> Files:
    """Return outputs in which elements that may be the first poison hold the poison after so many launches."""
    record = twice.bundle.cases[0]
    out = record.buffers[-1]
    befores = [twice.files[launch.before.path] for launch in record.launches]
    with load_case_of(twice) as loaded:
        poison = np.frombuffer(befores[0], np.float32, out.extent, out.offset)
        open_ = loaded.expected[0][out.name].accepts(poison)
    changed = dict(right)
    for launch, before in list(zip(record.launches, befores, strict=True))[:launches]:
        image = bytearray(right[launch.after])
        elements = np.frombuffer(image, np.float32, out.extent, out.offset)
        elements[open_] = np.frombuffer(before, np.float32, out.extent, out.offset)[open_]
        changed[launch.after] = bytes(image)
    assert open_.any()
    return changed


@contextmanager
def load_case_of(twice: Made) -> Generator[LoadedCase]:
    with tempfile.TemporaryDirectory() as folder, load_bundle(write(Path(folder) / "b.zip", twice.files)) as loaded:
        yield load_case(loaded, loaded.bundle.cases[0])


def test_a_case_whose_results_may_be_the_poison_is_launched_with_another_too(twice: Made, right: Files) -> None:
    assert len(twice.bundle.cases[0].launches) == 2
    assert len(right) == 1 + 2


@pytest.mark.parametrize(("launches", "fails"), [(0, False), (1, False), (2, True)])
def test_an_element_that_holds_both_poisons_was_not_written(
    tmp_path: Path, twice: Made, right: Files, launches: int, fails: bool
) -> None:
    found = failing(judged(tmp_path, unwritten(twice, right, launches), twice.files))
    assert ("was not written" in found.get(TWICE, "")) is fails
    assert bool(found) is fails


def test_a_bundle_that_lacks_the_second_launch_is_refused(tmp_path: Path, twice: Made, right: Files) -> None:
    record = json.loads(twice.files[INDEX])
    cut = record["cases"][0]["launches"].pop()
    named = {cut["before"]["path"], *(file["path"] for each in cut["expected"] for file in each["values"])}
    kept = json.dumps(record)
    files = {name: content for name, content in twice.files.items() if name in kept or name not in named}
    images = {name: content for name, content in right.items() if name not in (cut["after"], MANIFEST)}
    with pytest.raises(SchemaError, match="needs a second launch"):
        judged(tmp_path, images, {**files, INDEX: kept.encode()})


# --- the report ---------------------------------------------------------------------------------------------------


def test_the_report_says_where_outputs_and_acceptance_sets_come_from(tmp_path: Path) -> None:
    header = judged(tmp_path, outputs()).header
    assert "outputs made elsewhere" in header.info.device
    assert any("made again by this suite" in pattern for pattern in header.patterns)
