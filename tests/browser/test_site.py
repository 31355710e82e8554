"""The matrix site in a browser: what its filters, views and keys do, from the file system and without a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from portkit.conformance.attest.keys import base64_line, generate, load_signing_key
from portkit.conformance.registry import publish
from portkit.conformance.site.build import build
from portkit.contract import DeviceInfo
from tests.browser.conftest import Open
from tests.conformance.report.runs import CARD, CHIP, entry, passing, run_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TRICK = "</script><img src=x onerror=alert(1)>'\"{{ 7*7 }}\u2028"
ERROR = 2.5
"""The error of the one failure, as a share of its bound."""


def published(registry: Path, runs: Path, *, key: Path | None = None, **run: Any) -> None:
    """File a run of a chip; a key signs it."""
    source = run_folder(runs / str(len(list(runs.glob("*")))), run.pop("entries", None), **run)
    publish(source, registry, draft=run.get("evidence") == "stand-in", keys=[load_signing_key(key)] if key else ())


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A site of three backends, one with two versions, the newer of which fails at add of f32."""
    place = tmp_path_factory.mktemp("site")
    registry, runs = place / "registry", place / "runs"
    runs.mkdir()
    public = generate(place / "key.pem")
    failing = [e for e in passing() if e.id != "ops/add/f32"] + [entry(error_share=ERROR)]
    published(registry, runs, version="1.0")
    published(registry, runs, started="2026-05-01T00:00:00+00:00", entries=failing, key=place / "key.pem")
    fused = msgspec.structs.replace(CHIP, extensions=("fma",))
    published(registry, runs, capabilities=fused, name="fused", evidence="own-model", entries=passing(fused))
    hostile: dict[str, Any] = {"name": "hostile", "version": TRICK, "vendor": TRICK, "evidence": "stand-in"}
    card = msgspec.structs.replace(CARD, kernel=TRICK, detail=TRICK)
    published(
        registry, runs, info=DeviceInfo(TRICK, TRICK, TRICK), entries=[*passing(), entry("ops/x", card=card)], **hostile
    )
    (registry / "keys.toml").write_text(f'[[key]]\nname = "Lab"\npublic = "{base64_line(public)}"\n')
    return build(registry, place / "site").as_uri()


@pytest.fixture
def page(site: str, open_page: Open) -> Page:
    return open_page(site, viewport={"width": 1200, "height": 900})


def rows(page: Page) -> list[str]:
    """The forms that the matrix shows, without its rows of levels."""
    heads = page.locator("#matrix tbody tr:not(.summary) th").all_inner_texts()
    return [" ".join(head.split()) for head in heads]


def columns(page: Page) -> list[str]:
    return page.locator("#matrix thead a").all_inner_texts()


def focused(page: Page) -> str:
    """What has the focus, as a screen reader would say it."""
    return page.evaluate(
        "(({ activeElement: e }) => e.getAttribute('aria-label') || e.name || e.textContent.trim())(document)"
    )


def at(page: Page, address: str) -> Page:
    page.goto("about:blank")
    page.goto(address)
    return page


# --- the matrix ---------------------------------------------------------------------------------------------------


def test_the_matrix_shows_the_newest_report_of_each_backend(page: Page) -> None:
    assert columns(page) == ["chip", "fused", "hostile"]
    assert page.locator("#cards .card:visible h3").count() == 3
    assert "add" in rows(page)
    assert page.get_by_role("status").inner_text().endswith("forms on 3 backends")


def test_the_search_narrows_the_forms_and_escape_clears_it(page: Page) -> None:
    every = rows(page)
    page.get_by_role("searchbox", name="Operation").fill("mul.a")
    assert rows(page) == ["mul.add fma"]
    page.get_by_role("searchbox", name="Operation").press("Escape")
    assert rows(page) == every


def test_the_device_search_narrows_the_columns_and_the_cards(page: Page) -> None:
    page.get_by_role("searchbox", name="Backend or device").fill("FUSED")
    assert columns(page) == ["fused"]
    assert page.locator("#cards .card:visible h3 a").all_inner_texts() == ["fused"]


def test_only_one_kind_of_evidence_can_be_shown(page: Page) -> None:
    page.get_by_role("combobox", name="Evidence").select_option("own-model")
    assert columns(page) == ["fused"]


def test_only_failures_leaves_the_forms_that_fail_somewhere(page: Page) -> None:
    page.get_by_role("combobox", name="Only").select_option("failures")
    assert rows(page) == ["add"]
    page.get_by_role("combobox", name="Rows").select_option("squares")
    assert rows(page) == ["add f32"]


@pytest.mark.parametrize(
    ("rows_of", "first"), [("operations", "add"), ("dtypes", "bool"), ("extensions", "base"), ("squares", "add i32")]
)
def test_the_rows_can_be_other_than_forms(page: Page, rows_of: str, first: str) -> None:
    page.get_by_role("combobox", name="Rows").select_option(rows_of)
    assert rows(page)[0] == first
    bad = page.locator("#matrix td.fail a").first.get_attribute("aria-label") or ""
    assert bad.endswith("fail" if rows_of == "squares" else "squares")


def test_only_differences_leaves_the_forms_that_not_all_have_alike(page: Page) -> None:
    page.get_by_role("combobox", name="Only").select_option("differences")
    assert rows(page) == ["add", "mul.add fma"]


def test_the_filters_stand_in_the_address_and_are_read_from_it(page: Page, site: str) -> None:
    page.get_by_role("searchbox", name="Operation").fill("add")
    page.get_by_role("combobox", name="Dtype").select_option("f32")
    address = page.url
    assert at(page, address).get_by_role("searchbox", name="Operation").input_value() == "add"
    assert page.get_by_role("combobox", name="Dtype").input_value() == "f32"
    page.get_by_role("button", name="Clear").click()
    assert page.url == site


def test_an_address_that_names_what_is_not_there_shows_everything(page: Page, site: str) -> None:
    at(page, f"{site}#view=%00&evidence=gold&dtype=f1&a=99&b=-1&rows=x")
    assert columns(page) == ["chip", "fused", "hostile"]
    assert page.get_by_role("combobox", name="Dtype").input_value() == ""


def test_filters_that_leave_nothing_say_so(page: Page) -> None:
    page.get_by_role("searchbox", name="Operation").fill("no such form")
    assert page.get_by_role("status").inner_text() == "No row matches these filters."
    page.get_by_role("searchbox", name="Backend or device").fill("no such device")
    assert page.get_by_role("status").inner_text() == "No report matches these filters."


# --- drilling down ------------------------------------------------------------------------------------------------


def test_a_square_leads_to_its_numbers_and_on_to_the_failure_card(page: Page) -> None:
    page.get_by_label("add on chip: fail").click()
    dialog = page.get_by_role("dialog")
    f32 = dialog.get_by_role("row", name="f32")
    assert [" ".join(text.split()) for text in f32.get_by_role("cell").all_inner_texts()] == [
        "✗ fail",
        "1",
        "0",
        "2.50",
    ]
    dialog.get_by_role("link", name="ops/add/f32").click()
    page.wait_for_url("**#failure-1")
    assert page.locator("#failure-1").is_visible()
    assert "add/f32" in page.locator("#failure-1").inner_text()


def test_a_report_has_a_dot_for_the_error_of_each_form_with_a_dtype(page: Page) -> None:
    page.locator("#cards").get_by_role("link", name="chip").first.click()
    page.wait_for_url("**/reports/**")
    over = page.locator("svg.plot .dot.over")
    assert over.count() == 1
    assert over.locator("title").text_content() == f"add f32: {ERROR:.3f} of the bound"
    bound = float(page.locator("svg.plot .bound").get_attribute("x1") or 0)
    assert float(over.get_attribute("cx") or 0) > bound
    inside = page.locator("svg.plot .dot:not(.over)").evaluate_all("dots => dots.map(d => +d.getAttribute('cx'))")
    assert inside
    assert max(inside) < bound


def test_a_signature_is_said_to_be_of_a_listed_key_only(page: Page) -> None:
    chip, fused = (page.locator(f"#cards .card:visible:has(h3 a:text-is('{name}'))") for name in ("chip", "fused"))
    assert chip.locator(".badge.good").last.inner_text().startswith("signed by Lab (")
    assert fused.locator(".badge:text-is('unsigned')").count() == 1


# --- the other views ----------------------------------------------------------------------------------------------


def test_two_reports_are_compared_square_by_square(page: Page, site: str) -> None:
    at(page, f"{site}#view=compare&a=1&b=0")
    figures = page.locator(".figures li").all_inner_texts()
    assert "1 worse in the second" in [" ".join(text.split()) for text in figures]
    [difference] = page.locator("#comparison h3:text-is('Differences') + .scroll tbody tr").all_inner_texts()
    assert re.findall(r"add f32|pass|fail", difference) == ["add f32", "pass", "fail"]
    page.locator("#comparison svg.plot").wait_for()
    assert page.locator("#comparison svg.plot .dot.over title").text_content() == "add f32: 0.250 and 2.50 of the bound"
    page.get_by_role("button", name="Swap").click()
    figures = page.locator(".figures li").all_inner_texts()
    assert "1 better in the second" in [" ".join(text.split()) for text in figures]


def test_the_history_says_what_changed_and_leads_to_the_comparison(page: Page) -> None:
    page.get_by_role("link", name="History").click()
    assert page.locator("#history tbody tr:visible").count() == 4
    page.get_by_role("link", name="1 worse").click()
    chosen = [page.get_by_role("combobox", name=name) for name in ("First", "Second")]
    texts = [select.evaluate("s => s.selectedOptions[0].text") for select in chosen]
    assert texts == ["chip 1.0, 2026-03-04", "chip 2.1, 2026-05-01"]


# --- by keyboard --------------------------------------------------------------------------------------------------


def test_a_view_that_is_gone_to_is_seen_from_its_top(page: Page) -> None:
    page.set_viewport_size({"width": 900, "height": 300})
    page.evaluate("window.scrollTo(0, 500)")
    page.get_by_role("link", name="History").evaluate("link => link.click()")
    page.locator("#history").wait_for()
    assert page.evaluate("window.scrollY") == 0


def test_the_page_is_used_by_keyboard_alone(page: Page) -> None:
    keys = page.keyboard
    keys.press("Tab")
    assert focused(page) == "Skip to the content"
    assert page.locator(".skip").bounding_box() is not None
    assert (page.locator(".skip").bounding_box() or {})["x"] == 0
    keys.press("/")
    assert focused(page) == "op"
    keys.type("add")
    assert rows(page)[0] == "add"
    page.locator("#matrix [tabindex='0']").focus()
    assert focused(page) == "chip"
    for key in ("ArrowDown", "ArrowRight", "End", "Home"):
        keys.press(key)
    assert focused(page).startswith("add on chip: fail")
    keys.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    keys.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    assert focused(page).startswith("add on chip: fail")


def test_every_control_and_picture_has_a_name(page: Page, site: str) -> None:
    for view in ("", "#view=compare&a=0&b=1", "#view=history"):
        at(page, site + view).wait_for_timeout(100)
        nameless = (
            page.locator("a, button, input, select, svg[role=img]")
            .locator("visible=true")
            .evaluate_all(
                """all => all.filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.title
                || (e.labels && e.labels.length))).map(e => e.outerHTML)"""
            )
        )
        assert nameless == []


def test_the_matrix_is_one_stop_of_the_tab_key_and_arrows_stay_inside(page: Page) -> None:
    assert page.locator("#matrix [tabindex='0']").count() == 1
    page.locator("#matrix [tabindex='0']").focus()
    page.keyboard.press("Control+End")
    last = focused(page)
    for key in ("ArrowDown", "ArrowRight", "PageDown"):
        page.keyboard.press(key)
    assert focused(page) == last
    assert "on hostile" in last
    assert page.locator("#matrix [tabindex='0']").count() == 1
    page.keyboard.press("Control+Home")
    assert focused(page) == "chip"
    page.keyboard.press("Tab")
    assert focused(page) == "Markdown"


# --- how it looks -------------------------------------------------------------------------------------------------


def luminance(page: Page) -> int:
    """The red of the page's ground, 0 to 255."""
    return int(re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[0])


def test_the_colours_follow_the_system_until_they_are_switched(site: str, open_page: Open) -> None:
    page = open_page(site, color_scheme="dark")
    assert luminance(page) < 50
    page.get_by_role("button", name="Colours").click()
    assert luminance(page) > 200
    page.get_by_role("link", name="chip").first.click()
    page.wait_for_url("**/reports/**")
    assert luminance(page) > 200
    page.get_by_role("button", name="Colours").click()
    assert luminance(page) < 50


@pytest.mark.parametrize("view", ["", "#view=compare&a=0&b=2", "#view=history", "#rows=squares"])
def test_no_view_is_wider_than_a_phone(site: str, open_page: Open, view: str) -> None:
    page = open_page(site + view, viewport={"width": 390, "height": 844})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_report_is_not_wider_than_a_phone(site: str, open_page: Open) -> None:
    page = open_page(site, viewport={"width": 390, "height": 844})
    for number in range(page.locator("#cards .card:visible h3 a").count()):
        at(page, site).locator("#cards .card:visible h3 a").nth(number).click()
        page.wait_for_url("**/reports/**")
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_without_scripts_every_report_is_still_listed_and_led_to(site: str, open_page: Open) -> None:
    page = open_page(site, java_script_enabled=False)
    assert page.locator("#history tbody tr:visible").count() == 4
    assert page.locator("#filters, #theme, dialog").locator("visible=true").count() == 0
    page.locator("#history tbody a:text-is('fused')").click()
    assert page.locator("h1").inner_text() == "fused 2.1"


# --- what reports bring -------------------------------------------------------------------------------------------


def test_strings_of_a_report_stay_text_in_every_view(page: Page, site: str) -> None:
    for view in ("", "#view=compare&a=2&b=3", "#view=history"):
        at(page, site + view).wait_for_timeout(100)
        assert page.locator("img, main script").count() == 0
        assert "<img src=x onerror=alert(1)>" in page.locator("main").inner_text()
    at(page, site).get_by_label("add on hostile").click()
    assert "<img src=x onerror=alert(1)>" in page.get_by_role("dialog").inner_text()
    assert page.locator("img").count() == 0
    at(page, site).locator("#cards .card:visible h3 a:text-is('hostile')").click()
    page.wait_for_url("**/reports/**")
    assert page.locator("img, main script").count() == 0
    assert TRICK[:30] in page.locator("main").inner_text()


def test_the_policy_lets_no_script_of_the_page_itself_run(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(site)
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.head.append(script);
        }"""
    )
    assert page.evaluate("window.ran") is None
    page.close()
