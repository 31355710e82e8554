"""Attacks on a published report: each changes a folder, and is refused by a check in words of its own."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from portkit import __version__
from portkit.conformance.attest.dsse import seal
from portkit.conformance.attest.folder import LIMITS
from portkit.conformance.attest.manifest import digest, encode_manifest, manifest_of
from portkit.conformance.digest import suite_digest
from portkit.conformance.report import badge, html
from portkit.conformance.report.build import count, count_levels
from portkit.conformance.report.model import Report, decode_report, encode_report
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo
from portkit.spec import forms
from tests.conformance.attest.published import OTHER, edit, published

REPORT, MANIFEST, ENVELOPE = "report.json", "manifest.json", "attestation.json"


def report_in(folder: Path) -> Report:
    return decode_report((folder / REPORT).read_bytes(), "x")


def forge(folder: Path, report: Report, *, pages: bool = True) -> Path:
    """Put another report in the place of a published one, with all that follows from it but the signature."""
    content = encode_report(report)
    old = json.loads((folder / MANIFEST).read_text())
    manifest = manifest_of(report, content, draft=old["draft"], journal=old["journal_digest"])
    target = folder.with_name(f"{report.date}-{digest(content)[:12]}")
    folder.rename(target)
    (target / REPORT).write_bytes(content)
    (target / MANIFEST).write_bytes(encode_manifest(manifest))
    if pages:
        (target / "report.html").write_text(html.render(report))
        (target / "badge.svg").write_text(badge.render(report))
    return target


def recounted(report: Report, cases: list[Any]) -> Report:
    """Return a report of other cases that does not contradict itself."""
    return msgspec.structs.replace(
        report, cases=tuple(cases), counts=count(cases), levels=count_levels(cases), planned=len(cases)
    )


Attack = Callable[[Path], Path | None]


def flip_verdict(folder: Path) -> None:
    edit(folder / REPORT, lambda r: r["cases"][0].update(verdict="fail"))


def edit_digest(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m.update(backend_digest="0" * 64))


def edit_pin(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m.update(report_digest="0" * 64))


def drop_pin(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m.update(journal_digest=""))


def change_journal_digest(folder: Path) -> None:
    edit(folder / MANIFEST, lambda m: m.update(journal_digest="0" * 64))


def delete_case(folder: Path) -> None:
    edit(folder / REPORT, lambda r: r["cases"].pop())


def delete_case_cleverly(folder: Path) -> Path:
    report = report_in(folder)
    return forge(folder, recounted(report, list(report.cases[:-1])))


def add_case_cleverly(folder: Path) -> Path:
    report = report_in(folder)
    more = msgspec.structs.replace(report.cases[0], id="device/not/there")
    return forge(folder, recounted(report, [*report.cases, more]))


def move_case_cleverly(folder: Path) -> Path:
    report = report_in(folder)
    moved = msgspec.structs.replace(report.cases[0], level=report.cases[-1].level)
    return forge(folder, recounted(report, [moved, *report.cases[1:]]))


def skip_case_cleverly(folder: Path) -> Path:
    report = report_in(folder)
    skipped = msgspec.structs.replace(report.cases[-1], verdict=Verdict.UNSUPPORTED)
    return forge(folder, recounted(report, [*report.cases[:-1], skipped]))


def truncate_envelope(folder: Path) -> None:
    (folder / ENVELOPE).write_bytes((folder / ENVELOPE).read_bytes()[:-30])


def other_payload_type(folder: Path) -> None:
    edit(folder / ENVELOPE, lambda e: e.update(payloadType="text/html"))


def sign_twice(folder: Path) -> None:
    edit(folder / ENVELOPE, lambda e: e["signatures"].append(e["signatures"][0]))


def sign_by_another(folder: Path) -> None:
    payload = base64.b64decode(json.loads((folder / ENVELOPE).read_text())["payload"])
    (folder / ENVELOPE).write_bytes(seal(payload, [OTHER]))


def edit_payload(folder: Path) -> None:
    def change(envelope: Any) -> None:
        payload = base64.b64decode(envelope["payload"]).replace(b'"evidence":"silicon"', b'"evidence":"compiled"')
        envelope["payload"] = base64.b64encode(payload).decode()

    edit(folder / ENVELOPE, change)


def swap_report(folder: Path) -> None:
    other = published(folder.parents[2], info=DeviceInfo("Acme Two"))
    shutil.copy(other / REPORT, folder / REPORT)


def swap_report_and_manifest(folder: Path) -> None:
    other = published(folder.parents[2], info=DeviceInfo("Acme Two"))
    for name in (REPORT, MANIFEST):
        shutil.copy(other / name, folder / name)


def swap_all(folder: Path) -> None:
    other = published(folder.parents[2], info=DeviceInfo("Acme Two"))
    for name in LIMITS:
        shutil.copy(other / name, folder / name)


def extra_file(folder: Path) -> None:
    (folder / "index.html").write_text("<script>")


def extra_folder(folder: Path) -> None:
    (folder / "..x\n").mkdir()


def link_report(folder: Path) -> None:
    (folder / REPORT).rename(folder.parents[2] / "kept.json")
    (folder / REPORT).symlink_to(folder.parents[2] / "kept.json")


def pipe_for_report(folder: Path) -> None:
    (folder / REPORT).unlink()
    os.mkfifo(folder / REPORT)


def folder_for_report(folder: Path) -> None:
    (folder / REPORT).unlink()
    (folder / REPORT).mkdir()


def path_in_backend(folder: Path) -> None:
    edit(folder / REPORT, lambda r: r["subject"].update(backend="../../etc"))


def path_in_case(folder: Path) -> None:
    edit(folder / REPORT, lambda r: r["cases"][0].update(id="..\\..\\x y"))


def huge_report(folder: Path) -> None:
    with (folder / REPORT).open("r+b") as file:
        file.truncate(LIMITS[REPORT] + 1)


def huge_envelope(folder: Path) -> None:
    (folder / ENVELOPE).write_bytes(b" " * (LIMITS[ENVELOPE] + 1))


def endless_report(folder: Path) -> Path:
    report = report_in(folder)
    cases = [msgspec.structs.replace(report.cases[0], id=f"ops/{number}") for number in range(100_001)]
    return forge(folder, recounted(report, cases), pages=False)


def nested_report(folder: Path) -> None:
    (folder / REPORT).write_bytes(b'{"report":' + b'{"a":' * 200_000)


def nested_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"[" * 200_000)


def script_in_page(folder: Path) -> None:
    (folder / "report.html").write_text(
        (folder / "report.html").read_text().replace("<main>", "<main><script>x</script>")
    )


def claim_in_page(folder: Path) -> Path:
    """Say more on the page than the report does, which is by this very version."""
    made = report_in(folder)
    mine = {"portkit": __version__, "suite_digest": suite_digest(), "spec_digest": forms.digest()}
    target = forge(folder, msgspec.structs.replace(made, versions=msgspec.structs.replace(made.versions, **mine)))
    page = target / "report.html"
    page.write_text(page.read_text().replace("</h1>", "</h1><p>conformant: everything</p>"))
    return target


def address_in_badge(folder: Path) -> None:
    (folder / "badge.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="https://x.example/"/></svg>'
    )


def no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def hide_waiver(folder: Path) -> Path:
    report = report_in(folder)
    waived = msgspec.structs.replace(report.cases[-1], verdict=Verdict.WAIVED, reason="known")
    made = recounted(report, [*report.cases[:-1], waived])
    said = "passes the smoke tier of core but for 1 waived; run the standard tier for a claim"
    return forge(folder, msgspec.structs.replace(made, statement=said))


def old_waiver(folder: Path) -> Path:
    report = report_in(folder)
    reason = "erratum 1 (https://acme.example/1, until 2026-03-03); wrong"
    waived = msgspec.structs.replace(report.cases[-1], verdict=Verdict.WAIVED, reason=reason)
    made = recounted(report, [*report.cases[:-1], waived])
    said = "passes the smoke tier of core but for 1 waived; run the standard tier for a claim"
    return forge(folder, msgspec.structs.replace(made, statement=said))


def forget_waiver(folder: Path) -> None:
    edit(folder / REPORT, lambda r: r["cases"][0].update(verdict="waived"))


ATTACKS: list[tuple[Attack, str, str]] = [
    (flip_verdict, "digests", r"report\.json is not the one that was published: its SHA-256 is"),
    (flip_verdict, "consistency", "its counts does not follow"),
    (edit_digest, "digests", r"manifest\.json was changed: its backend_digest is not that of the report"),
    (edit_pin, "digests", r"report\.json is not the one that was published"),
    (drop_pin, "digests", r"manifest\.json lacks journal_digest"),
    (change_journal_digest, "signature", r"manifest\.json is not the one that was signed"),
    (delete_case, "consistency", "contradicts itself"),
    (delete_case_cleverly, "cases", "the report lacks the case .*, which its profile and tier have"),
    (delete_case_cleverly, "signature", r"report\.json is not the one that was signed"),
    (add_case_cleverly, "cases", "has the case device/not/there, which its profile and tier have not"),
    (move_case_cleverly, "cases", "on the level kernels, where it is not"),
    (skip_case_cleverly, "cases", "was skipped as unsupported, and the device declares what it needs"),
    (truncate_envelope, "signature", "not a DSSE envelope: Input data was truncated"),
    (other_payload_type, "signature", "its payload is of the type 'text/html'"),
    (sign_twice, "signature", "carries the same signature twice"),
    (sign_by_another, "signature", r"signed by [0-9a-f]{16}, which is not trusted here"),
    (edit_payload, "signature", "the signature of Acme .* is not of this payload"),
    (swap_report, "digests", r"report\.json is not the one that was published"),
    (swap_report_and_manifest, "signature", r"report\.json is not the one that was signed"),
    (swap_all, "place", "this report belongs into a folder chip/"),
    (extra_file, "files", r"holds index\.html, which is no part of a published report"),
    (extra_folder, "files", r"holds \.\.x\\n, which is no part"),
    (link_report, "files", "is a link, which is not followed"),
    (pipe_for_report, "files", "is no plain file"),
    (folder_for_report, "files", "is no plain file"),
    (path_in_backend, "report", "not a report: .*subject.backend"),
    (path_in_case, "report", "not a report: .*cases"),
    (huge_report, "files", "larger than 67108864 bytes"),
    (huge_envelope, "files", "larger than 262144 bytes"),
    (endless_report, "report", "lists 100,001 cases, 100,000 are the most"),
    (nested_report, "report", "not a report"),
    (nested_manifest, "manifest", "not a manifest"),
    (script_in_page, "pages", "it holds the element script"),
    (address_in_badge, "pages", "it holds the element image"),
    (claim_in_page, "pages", r"report\.html: not what this version of portkit renders"),
    (no_manifest, "files", r"lacks manifest\.json"),
    (hide_waiver, "consistency", "is waived without a reason, a link and an end"),
    (old_waiver, "consistency", "ended on 2026-03-03, before the run"),
    (forget_waiver, "consistency", "contradicts itself"),
]
