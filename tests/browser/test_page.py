"""The page that runs a bundle in a browser, on a WebGPU adapter in software; portkit judges what it saves alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from portkit.conformance.bundle.browser import browser_capabilities, write_browser_page
from portkit.conformance.bundle.genuine import check_genuine
from portkit.conformance.bundle.judging import judge_outputs
from portkit.conformance.bundle.load import load_bundle
from portkit.conformance.bundle.make import Made, Wanted, make_bundle
from portkit.conformance.bundle.model import INDEX, digest
from portkit.conformance.bundle.outputs import read_outputs
from portkit.errors import NotReachable
from portkit.runtime.client import DeviceClient
from tests.browser.conftest import Open, Serve, Start
from tests.conformance.bundle.bundles import forged

if TYPE_CHECKING:
    from playwright.sync_api import Page

FEW = ("ops/mul.hi", "ops/phi.lt/f32", "ops/loop.grid/i32/count_0", "kernels/shared/scan", "kernels/refuse/valid_c3")
RIGHT, WRONG, UNREADABLE = "ops/mul.hi/i32/special", "ops/mul.hi/u32/special", "kernels/shared/scan/i32_31"


@pytest.fixture(scope="session")
def printer() -> Any:
    client = DeviceClient("webgpu")
    try:
        client.require()
    except NotReachable as error:
        client.close()
        pytest.skip(f"the WGSL of the page is printed by the backend webgpu: {error}")
    with client:
        yield client


@pytest.fixture(scope="session")
def few(printer: DeviceClient) -> Made:
    return make_bundle(Wanted(browser_capabilities(), patterns=FEW), printer)


@pytest.fixture
def page(few: Made, tmp_path: Path, open_page: Open) -> Page:
    """The page with few cases, from the file system."""
    return open_page(write_browser_page(tmp_path / "page", few).as_uri())


def run(page: Page) -> str:
    """Run the cases and return what the page says at the end."""
    page.get_by_text("ready", exact=True).wait_for()
    page.get_by_role("button", name="Run the cases").click()
    page.locator("#run:enabled").wait_for()
    return page.locator("#status").inner_text()


@dataclass(frozen=True)
class Saved:
    """What the page lets its visitor save."""

    report: dict[str, Any]
    outputs: Path
    bundle: Path

    @property
    def verdicts(self) -> dict[str, str]:
        return {case["id"]: case["verdict"] for case in self.report["cases"]}

    @property
    def reasons(self) -> dict[str, str]:
        return {case["id"]: case["reason"] for case in self.report["cases"]}


def save(page: Page, folder: Path) -> Saved:
    for button, name in (("report", "r.json"), ("outputs", "o.zip"), ("bundle", "b.zip")):
        with page.expect_download() as download:
            page.locator(f"#save-{button}").click()
        download.value.save_as(folder / name)
    return Saved(json.loads((folder / "r.json").read_bytes()), folder / "o.zip", folder / "b.zip")


def judged(saved: Saved) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Return verdicts, reasons and what was not run, as portkit finds them in the saved files."""
    with load_bundle(saved.bundle) as loaded, read_outputs(saved.outputs, loaded) as given:
        check_genuine(loaded)
        found = judge_outputs(loaded, given, genuine=True)
    entries = found.entries
    return {e.id: e.verdict.value for e in entries}, {e.id: e.reason for e in entries}, found.not_run


# --- running ------------------------------------------------------------------------------------------------------


def test_every_smoke_case_runs_and_portkit_gives_the_verdicts_of_the_page(
    printer: DeviceClient, tmp_path: Path, open_page: Open, serve: Serve
) -> None:
    made = make_bundle(Wanted(browser_capabilities()), printer)
    write_browser_page(tmp_path / "site", made)
    page = open_page(serve(tmp_path / "site") + "/index.html")
    said = run(page)
    saved = save(page, tmp_path)
    assert f"of {len(made.bundle.cases)} launches pass" in said
    assert (saved.verdicts, saved.reasons, ()) == judged(saved)
    assert set(saved.verdicts.values()) == {"pass"}
    assert len(saved.verdicts) == len(made.bundle.cases) > 100


def test_a_report_says_what_ran_where(page: Page, few: Made, tmp_path: Path) -> None:
    run(page)
    report = save(page, tmp_path).report
    assert report["passed"] is True
    assert report["evidence"] == "third-party-emulator"
    assert "swiftshader" in report["device"].lower()
    assert report["bundle"] == digest(few.files[INDEX])
    assert report["suite_digest"] == few.bundle.suite_digest
    assert report["left_out"] == list(few.bundle.left_out)
    assert all(len(sha) == 64 for case in report["cases"] for sha in case["output_digests"])


def test_outputs_say_what_they_come_from(page: Page, tmp_path: Path) -> None:
    run(page)
    saved = save(page, tmp_path)
    with load_bundle(saved.bundle) as loaded, read_outputs(saved.outputs, loaded) as given:
        assert given.record.evidence == "third-party-emulator"
        assert "Chrome" in given.record.driver


def test_the_bundle_that_is_saved_is_the_one_that_was_written(page: Page, few: Made, tmp_path: Path) -> None:
    run(page)
    assert save(page, tmp_path).bundle.read_bytes() == few.pack()


# --- what does not pass -------------------------------------------------------------------------------------------


def faulty(few: Made) -> Made:
    """Return the bundle with the source of one case wrong, and of another no WGSL."""
    sources = {case.id: case.source.path for case in few.bundle.cases if case.source is not None}
    right = few.files[sources[WRONG]]
    wrong = right.replace(b"m_out_m[t6_6] = ", b"m_out_m[t6_6] = 1u ^ ")
    assert wrong != right
    files = forged(sources[WRONG], wrong, few.files)
    return Made(few.bundle, forged(sources[UNREADABLE], b"// @compute\nfn nothing() { return 1; }", files))


def test_wrong_and_unreadable_sources_fail_alike_in_the_page_and_on_the_command_line(
    few: Made, tmp_path: Path, open_page: Open
) -> None:
    page = open_page(write_browser_page(tmp_path / "page", faulty(few)).as_uri())
    said = run(page)
    saved = save(page, tmp_path)
    assert (saved.verdicts, saved.reasons, ()) == judged(saved)
    assert {case_id for case_id, verdict in saved.verdicts.items() if verdict != "pass"} == {WRONG, UNREADABLE}
    assert "is wrong, and with it" in saved.reasons[WRONG]
    assert "does not compile" in saved.reasons[UNREADABLE]
    assert saved.report["passed"] is False
    assert f"{len(few.bundle.cases) - 2} of {len(few.bundle.cases)} launches pass" in said
    assert page.locator("tbody td.id").all_inner_texts()[:2] == [WRONG, UNREADABLE]


def test_a_failure_shows_the_bits_of_the_first_wrong_element(few: Made, tmp_path: Path, open_page: Open) -> None:
    page = open_page(write_browser_page(tmp_path / "page", faulty(few)).as_uri())
    run(page)
    saved = save(page, tmp_path)
    with load_bundle(saved.bundle) as loaded, read_outputs(saved.outputs, loaded) as given:
        entries = judge_outputs(loaded, given, genuine=True).entries
    card = next(entry.card for entry in entries if entry.id == WRONG)
    shown = next(case["mismatch"] for case in saved.report["cases"] if case["id"] == WRONG)
    assert card is not None
    assert card.mismatch is not None
    assert (shown["buffer"], shown["element"]) == (card.mismatch.buffer, card.mismatch.element)
    assert shown["accepted"] in card.mismatch.accepted
    assert shown["actual"] in card.mismatch.actual.hex
    assert f"is {shown['actual']}, accepted {shown['accepted']}" in page.locator("tr.fail").first.inner_text()


BREAK = """() => {
  const create = GPUDevice.prototype.createCommandEncoder;
  let broken = false;
  GPUDevice.prototype.createCommandEncoder = function (...all) {
    if (!broken) { broken = true; FAULT; }
    return create.apply(this, all);
  };
}"""
"""Lets something happen at the first launch of the page."""
BROKEN = {
    "a device that is lost": ("this.destroy()", "crash", "the device was lost"),
    "a launch without end": ("throw new gpu.Unmade('timeout', 'no answer in 10 s')", "timeout", "no answer in 10 s"),
    "a browser that throws": ("throw new TypeError('not a buffer')", "fail", "not a buffer"),
}


@pytest.mark.parametrize(("fault", "verdict", "words"), BROKEN.values(), ids=BROKEN)
def test_what_a_launch_ends_with_is_told_and_the_next_case_gets_a_device_that_works(
    page: Page, few: Made, tmp_path: Path, fault: str, verdict: str, words: str
) -> None:
    page.get_by_text("ready", exact=True).wait_for()
    page.evaluate(BREAK.replace("FAULT", fault))
    run(page)
    saved = save(page, tmp_path)
    first, *others = (case.id for case in few.bundle.cases)
    assert saved.verdicts[first] == verdict
    assert words in saved.reasons[first]
    assert {saved.verdicts[case_id] for case_id in others} == {"pass"}
    assert (saved.verdicts, saved.reasons, ()) == judged(saved)


def test_a_run_that_was_stopped_does_not_pass(page: Page, few: Made, tmp_path: Path) -> None:
    page.get_by_text("ready", exact=True).wait_for()
    page.evaluate(
        "() => { const run = gpu.run; gpu.run = (...a) => { page.state.stopped = true; return run(...a); }; }"
    )
    said = run(page)
    saved = save(page, tmp_path)
    assert f"{len(few.bundle.cases) - 1} not run" in said
    assert saved.report["passed"] is False
    assert len(saved.report["not_run"]) == len(few.bundle.cases) - 1
    verdicts, _, not_run = judged(saved)
    assert (verdicts, list(not_run)) == (saved.verdicts, saved.report["not_run"])


def test_a_browser_without_an_adapter_is_told_so(few: Made, tmp_path: Path, start: Start) -> None:
    with start("--disable-gpu") as browser:
        page = browser.new_page()
        page.goto(write_browser_page(tmp_path / "page", few).as_uri())
        assert run(page).startswith("cannot run here: ")
        assert page.locator("#saving").is_hidden()


# --- the page itself ----------------------------------------------------------------------------------------------


def test_the_page_works_by_keyboard_alone(page: Page) -> None:
    page.get_by_text("ready", exact=True).wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "run"
    page.keyboard.press("Enter")
    page.locator("#saving").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id").startswith("save-")


def test_progress_is_told_to_whoever_does_not_see_it(page: Page, few: Made) -> None:
    run(page)
    bar = page.get_by_role("progressbar", name="Progress")
    assert bar.get_attribute("aria-valuenow") == bar.get_attribute("aria-valuemax") == str(len(few.bundle.cases))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(few: Made, tmp_path: Path, open_page: Open, scheme: str) -> None:
    url = write_browser_page(tmp_path / "page", few).as_uri()
    page = open_page(url, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    run(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_no_text_of_a_bundle_becomes_part_of_the_page(few: Made, tmp_path: Path, open_page: Open) -> None:
    bad = '<img src=x onerror=\\"document.title=1\\">'
    index = few.files[INDEX].replace(RIGHT.encode(), bad.encode()).replace(b'"core"', f'"{bad}"'.encode())
    page = open_page(write_browser_page(tmp_path / "page", Made(few.bundle, {**few.files, INDEX: index})).as_uri())
    run(page)
    assert page.locator("img").count() == 0
    assert page.title() != "1"
    assert "<img src=x" in page.locator("#cases").inner_text()


def test_a_script_that_is_not_the_pages_own_is_not_run(page: Page) -> None:
    page.get_by_text("ready", exact=True).wait_for()
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
