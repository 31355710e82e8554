"""`portkit judge`: outputs made anywhere get the verdicts of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from portkit.conformance.bundle.archive import pack
from portkit.conformance.journal import read
from portkit.conformance.report.model import load_report
from portkit.conformance.run import RunOptions, run_suite
from portkit.conformance.verdict import Verdict
from tests.cli.calls import Portkit, one_line
from tests.conformance.bundle.bundles import (
    SIGNED_CASE,
    UNSIGNED,
    bundle_file,
    case,
    forged,
    index,
    made,
    outputs,
    outputs_file,
    reindexed,
    write,
)


@pytest.fixture(autouse=True)
def _bundle() -> None:
    bundle_file(Path())
    outputs_file(Path())


def unpacked(folder: str) -> Path:
    """Write right outputs into a folder, as a simulator would: without a manifest."""
    place = Path(folder)
    place.mkdir()
    for name, content in outputs().items():
        if name != "outputs.json":
            (place / name).write_bytes(content)
    return place


def widened() -> None:
    """Let every value of a case be admitted, with digests that fit."""
    flags = case(index(), "ops/mov.sqrt/f32/special")["launches"][0]["expected"][0]["flags"]["path"]
    write(Path("bundle.zip"), forged(flags, b"\2" * len(made().files[flags])))


# --- verdicts -----------------------------------------------------------------------------------------------------


def test_right_outputs_pass(portkit: Portkit) -> None:
    called = portkit("judge", "bundle.zip", "outputs.zip")
    assert called.status == 0
    assert "launches pass" in called.out
    assert "acceptance sets made again by this suite" in called.out
    assert "evidence  silicon, as stated with the outputs" in called.out


def test_outputs_that_say_nothing_of_their_origin_count_as_those_of_a_stand_in(portkit: Portkit) -> None:
    Path("nothing").mkdir()
    called = portkit("judge", "bundle.zip", "nothing")
    assert called.status == 1
    assert "evidence  stand-in, as the outputs have no outputs.json that says" in called.out


def test_a_selection_of_cases_is_never_called_conformant(portkit: Portkit) -> None:
    told = portkit("judge", "bundle.zip", "outputs.zip", "--json").told
    assert "claims nothing" in told["statement"]
    assert told["exit_code"] == 0


def test_a_folder_of_images_without_a_manifest_is_judged_as_a_stand_ins(portkit: Portkit) -> None:
    told = portkit("judge", "bundle.zip", unpacked("o"), "--json").told
    assert (told["exit_code"], told["evidence"]) == (0, "stand-in")


def test_wrong_outputs_fail_with_a_hint(portkit: Portkit) -> None:
    outputs_file(Path(), UNSIGNED)
    called = portkit("judge", "bundle.zip", "outputs.zip")
    assert called.status == 1
    assert f"fail     {SIGNED_CASE}: out[" in called.error
    assert "hint: " in called.error


def test_missing_outputs_are_not_run_and_no_pass(portkit: Portkit) -> None:
    folder = unpacked("o")
    (folder / case(index())["launches"][0]["after"]).unlink()
    called = portkit("judge", "bundle.zip", folder)
    assert called.status == 1
    assert f"not run  {SIGNED_CASE}: no output" in called.error
    assert "not run   1 have no output" in called.out


def test_no_outputs_at_all_fail(portkit: Portkit) -> None:
    Path("o").mkdir()
    told = portkit("judge", "bundle.zip", "o", "--json").told
    assert told["exit_code"] == 1
    assert set(told["cases"].values()) == {"not run"}


# --- the report ---------------------------------------------------------------------------------------------------


def test_a_report_is_written_like_that_of_a_run(portkit: Portkit) -> None:
    outputs_file(Path(), UNSIGNED)
    portkit("judge", "bundle.zip", "outputs.zip", "--out", "r")
    report = load_report(Path("r"))
    assert "outputs made elsewhere" in report.subject.device
    assert report.counts[Verdict.FAIL] == 1
    assert {"report.html", "junit.xml", "journal.jsonl", "badge.svg"} <= {path.name for path in Path("r").iterdir()}
    assert portkit("report", "r").status == 1


def test_a_report_of_outputs_that_are_not_all_there_says_so(portkit: Portkit) -> None:
    folder = unpacked("o")
    (folder / case(index())["launches"][0]["after"]).unlink()
    portkit("judge", "bundle.zip", folder, "--out", "r")
    assert load_report(Path("r")).planned == len(made().bundle.cases)
    assert portkit("report", "r").status == 1


# --- one trip, and the verdicts of conform ------------------------------------------------------------------------

TRIP = ("ops/mul.hi", "kernels/shared/scan")


@pytest.mark.parametrize("mutant", ["", UNSIGNED])
def test_a_bundle_that_a_backend_ran_fails_in_the_cases_that_fail_in_its_run(portkit: Portkit, mutant: str) -> None:
    portkit("bundle", "--backend", "cpu", "--case", TRIP[0], "--case", TRIP[1], "--out", "trip.zip")
    told = portkit("judge", "trip.zip", "made.zip", "--make-on", "cpu", "--mutant", mutant, "--json").told
    ran = run_suite(RunOptions("cpu", Path("run"), patterns=TRIP, workers=1, mutant=mutant))
    assert ran.journal is not None
    entries = read(ran.journal).entries
    assert told["cases"] == {case_id: entry.verdict.value for case_id, entry in entries.items()}
    assert told["exit_code"] == ran.exit_code == int(bool(mutant))
    assert Path("made.zip").is_file()


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_bundle_whose_acceptance_sets_were_widened_is_refused(portkit: Portkit) -> None:
    widened()
    called = portkit("judge", "bundle.zip", unpacked("o"))
    assert called.status == 2
    assert "ops/mov.sqrt/f32/special: the inputs or acceptance sets are not what the suite gives" in one_line(called)


def test_a_bundle_can_be_judged_as_it_is_and_the_report_says_so(portkit: Portkit) -> None:
    write(Path("bundle.zip"), reindexed(lambda record: case(record).update(cells=[])))
    assert portkit("judge", "bundle.zip", unpacked("o")).status == 2
    told = portkit("judge", "bundle.zip", "o", "--as-given", "--json").told
    assert (told["exit_code"], told["acceptance_sets"]) == (0, "as given in the bundle")


def test_a_bundle_of_another_suite_is_judged_as_it_is(portkit: Portkit) -> None:
    write(Path("bundle.zip"), reindexed(lambda record: record.update(suite_digest="0" * 64)))
    told = portkit("judge", "bundle.zip", unpacked("o"), "--json").told
    assert (told["exit_code"], told["acceptance_sets"]) == (0, "as given in the bundle")


@pytest.mark.parametrize("arguments", [("--as-given",), ()])
def test_no_kernel_of_a_bundle_that_is_not_the_suites_is_run(portkit: Portkit, arguments: tuple[str, ...]) -> None:
    write(Path("bundle.zip"), reindexed(lambda record: record.update(suite_digest="0" * 64)))
    called = portkit("judge", "bundle.zip", "new.zip", "--make-on", "cpu", *arguments)
    assert called.status == 2
    assert "bundles of this suite alone" in one_line(called)
    assert not Path("new.zip").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.zip", "outputs.zip"), "none.zip is not there"),
        (("bundle.zip", "none"), "none is not there"),
        ((".", "outputs.zip"), "is a folder"),
        (("outputs.zip", "outputs.zip"), "holds no bundle.json"),
        (("bundle.zip", "bundle.zip"), "is no output of this bundle"),
        (("bundle.zip", "outputs.zip", "--make-on", "cpu"), "is there already"),
        (("bundle.zip", "outputs.zip", "--mutant", UNSIGNED), "belongs to --make-on"),
        (("bundle.zip", "new.zip", "--make-on", "cup"), "cpu"),
    ],
)
def test_a_call_that_judges_nothing_is_refused(portkit: Portkit, arguments: tuple[str, ...], words: str) -> None:
    called = portkit("judge", *arguments)
    assert called.status == 2
    assert words in one_line(called)


def test_outputs_that_lead_out_of_their_archive_are_refused_and_nothing_is_written(portkit: Portkit) -> None:
    Path("outputs.zip").write_bytes(pack({"../out.bin": b""}))
    before = sorted(Path().rglob("*"))
    called = portkit("judge", "bundle.zip", "outputs.zip", "--out", "r")
    assert called.status == 2
    assert "leads out of the archive" in one_line(called)
    assert sorted(Path().rglob("*")) == before
