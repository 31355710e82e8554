"""Every attack on a published report, and the words in which it is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from portkit.conformance.attest.checks import Examined, check_signature
from portkit.conformance.attest.dsse import seal
from portkit.conformance.attest.folder import read_submission
from portkit.conformance.attest.keys import base64_line
from portkit.conformance.attest.manifest import (
    decode_statement,
    encode_statement,
    statement_of,
)
from portkit.conformance.attest.verify import Demands, keys_of, submissions, verify
from portkit.conformance.journal import Entry, JournalWriter
from portkit.conformance.registry import entries as listed
from portkit.conformance.registry import publish
from portkit.conformance.verdict import Verdict
from portkit.contract import DeviceInfo
from portkit.errors import SchemaError, UsageError
from tests.conformance.attest.attacks import ATTACKS, ENVELOPE, MANIFEST, Attack, sign_by_another
from tests.conformance.attest.published import (
    ACME,
    OTHER,
    edit,
    genuine,
    outcomes,
    published,
    refusals,
    smoke_entries,
    trusted,
    verified,
)
from tests.conformance.report.runs import entry, passing, run_folder

# --- what holds ---------------------------------------------------------------------------------------------------


def test_a_signed_report_of_this_suite_holds_in_every_check(tmp_path: Path) -> None:
    folder = genuine(tmp_path)
    found = verified(folder, trusted(), journal=tmp_path / "run0")
    assert set(outcomes(found).values()) == {"ok"}
    assert (found.holds, found.signed.state) == (True, "signed")
    assert found.signed.keys == (f"Acme ({ACME.public.keyid[:16]})",)


def test_without_a_key_a_signature_is_not_checked_and_that_is_said(tmp_path: Path) -> None:
    found = verified(published(tmp_path))
    assert (found.holds, found.signed.state, outcomes(found)["signature"]) == (True, "unchecked", "not checked")


def test_an_unsigned_report_holds_and_is_said_to_be_unsigned(tmp_path: Path) -> None:
    found = verified(published(tmp_path, keys=()))
    assert (found.holds, found.signed.state) == (True, "unsigned")


def test_a_manifest_of_the_first_version_is_read(tmp_path: Path) -> None:
    folder = published(tmp_path, keys=())
    edit(
        folder / MANIFEST,
        lambda m: (m.pop("capabilities_digest"), m.pop("journal_digest"), m.update(manifest="1.0-draft")),
    )
    found = verified(folder)
    assert found.holds
    assert "not its journal" in next(f.text for f in found.findings if f.check == "digests")
    assert len(listed(folder.parent.parent)) == 1


@pytest.mark.parametrize("stray", ["index.html", "2026-03-04", "2026-03-04/index.html"])
def test_what_lies_beside_the_reports_of_a_backend_is_refused(tmp_path: Path, stray: str) -> None:
    backend = published(tmp_path).parent
    path = backend / stray
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if "." not in stray else path.write_text("<script>")
    found = verify(backend.parent, Demands())
    assert sorted(one.holds for one in found) == [False, True]
    with pytest.raises(SchemaError, match=str(backend / stray.partition("/")[0])):
        listed(backend.parent)


def test_what_lies_beside_the_backends_of_a_registry_is_no_part_of_it(tmp_path: Path) -> None:
    registry = published(tmp_path).parent.parent
    (registry / "README.md").write_text("where reports are filed")
    (registry / "scripts").mkdir()
    (registry / "scripts" / "check.py").write_text("pass")
    assert [one.holds for one in verify(registry, Demands())] == [True]


def test_the_registry_in_the_tree_holds() -> None:
    registry = Path(__file__).resolve().parents[3] / "registry"
    found = verify(registry, Demands(keys_of(registry)))
    assert len(found) >= 1
    assert [refusals(one) for one in found if not one.holds] == []


def test_a_run_that_was_killed_and_resumed_is_published_and_matches_its_journal(tmp_path: Path) -> None:
    source = run_folder(tmp_path / "run", [*passing(), entry("ops/x", Verdict.PASS)])
    writer = JournalWriter(source / "journal.jsonl")
    writer.append(entry("ops/x", Verdict.PASS))  # once more, as a closer look appends it
    writer.close()
    with (source / "journal.jsonl").open("ab") as file:
        file.write(b'{"id":"ops/x","verd')
    folder = publish(source, tmp_path / "registry", draft=False, keys=(ACME,))
    whole = (source / "journal.jsonl").read_bytes()
    (source / "journal.jsonl").write_bytes(whole[: whole.rfind(b"\n") + 1])  # what going on with the run does first
    assert outcomes(verified(folder, trusted(), journal=source))["journal"] == "ok"


def test_a_report_that_is_sent_in_a_folder_of_any_name_holds(tmp_path: Path) -> None:
    folder = published(tmp_path).rename(tmp_path / "sent")
    found = verified(folder, trusted())
    assert (found.holds, outcomes(found)["place"]) == (True, "not checked")


# --- attacks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attack", "check", "message"), ATTACKS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_attack_is_refused_by_its_check_in_words_of_its_own(
    tmp_path: Path, attack: Attack, check: str, message: str
) -> None:
    folder = genuine(tmp_path)
    folder = attack(folder) or folder
    found = verified(folder, trusted())
    assert not found.holds
    told = refusals(found)
    assert check in told, told
    assert re.search(message, told[check]), told[check]


@pytest.mark.parametrize("attack", list(dict.fromkeys(row[0] for row in ATTACKS)))
def test_an_attack_writes_nothing_and_does_not_end_the_check_of_a_registry(tmp_path: Path, attack: Attack) -> None:
    folder = genuine(tmp_path)
    published(tmp_path, name="other", info=DeviceInfo("fine"))
    folder = attack(folder) or folder
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    found = {Path(one.folder): one.holds for one in verify(tmp_path / "registry", Demands((trusted(),)))}
    assert [holds for place, holds in found.items() if place.parent.name == "other"] == [True]
    assert found[folder] is False
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# --- signatures and trust -----------------------------------------------------------------------------------------


def test_stripping_the_signature_is_found_where_keys_are_given(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder / ENVELOPE).unlink()
    assert (
        "unsigned: there is no attestation.json" in refusals(verified(folder, trusted(), signed_only=True))["signature"]
    )
    assert verified(folder, trusted()).holds


def test_a_reserved_name_takes_no_unsigned_report_and_no_signature_of_another(tmp_path: Path) -> None:
    acme, other = trusted(backends=("chip",)), trusted(OTHER, "Other")
    unsigned = published(tmp_path, keys=())
    foreign = published(tmp_path, keys=(OTHER,), info=DeviceInfo("Acme Two"))
    own = published(tmp_path, info=DeviceInfo("Acme Three"))
    assert "the name chip is reserved for the key Acme" in refusals(verified(unsigned, acme, other))["signature"]
    assert "which is not trusted here; trusted: Acme" in refusals(verified(foreign, acme, other))["signature"]
    assert verified(own, acme, other).signed.state == "signed"


def test_a_registry_trusts_the_keys_that_it_lists(tmp_path: Path) -> None:
    folder = published(tmp_path)
    registry = folder.parent.parent
    assert [one.signed.state for one in listed(registry)] == ["unchecked"]
    (registry / "keys.toml").write_text(f'[[key]]\nname = "Acme"\npublic = "{base64_line(ACME.public)}"\n')
    assert [one.signed.keys for one in listed(registry)] == [(f"Acme ({ACME.public.keyid[:16]})",)]
    assert [key.name for key in keys_of(folder)] == ["Acme"]
    sign_by_another(folder)
    with pytest.raises(SchemaError, match="is not trusted here"):
        listed(registry)


def restated(folder: Path, **changes: Any) -> None:
    """Sign another statement of a submission with the right key."""
    submission = read_submission(folder)
    made = statement_of(submission.report, submission.manifest, submission.files)
    predicate = msgspec.structs.replace(made.predicate, **changes.pop("predicate", {}))
    made = msgspec.structs.replace(made, predicate=predicate, **changes)
    (folder / ENVELOPE).write_bytes(seal(encode_statement(made), [ACME]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predicate": {"evidence": "vendor-simulator"}}, "says another evidence than the report: 'vendor-simulator'"),
        ({"predicate": {"statement": "conformant: all"}}, "says another statement than the report"),
        ({"predicate": {"counts": {Verdict.PASS: 1}}}, "says another counts"),
        ({"predicate": {"journal_digest": "0" * 64}}, "says another journal_digest"),
        ({"predicate_type": "https://slsa.dev/provenance/v1"}, "a statement of the type 'https://slsa.dev"),
        ({"type": "https://in-toto.io/Statement/v0.1"}, "a statement of the type 'https://in-toto.io/Statement/v0.1'"),
        ({"subject": ()}, r"report\.json is not among what was signed"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value.get("predicate", value))),
)
def test_a_signed_statement_must_follow_from_the_report(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = published(tmp_path)
    restated(folder, **changes)
    assert re.search(message, refusals(verified(folder, trusted()))["signature"])


def test_a_subject_that_is_not_there_or_there_twice_is_refused(tmp_path: Path) -> None:
    folder = published(tmp_path)
    submission = read_submission(folder)
    subjects = statement_of(submission.report, submission.manifest, submission.files).subject
    restated(folder, subject=(*subjects, msgspec.structs.replace(subjects[0], name="evil.sh")))
    assert "evil.sh was signed and is not there" in refusals(verified(folder, trusted()))["signature"]
    restated(folder, subject=(*subjects, subjects[0]))
    assert "names a subject twice" in refusals(verified(folder, trusted()))["signature"]


def test_a_page_that_was_signed_may_not_be_taken_away_or_changed(tmp_path: Path) -> None:
    folder = published(tmp_path)
    page = (folder / "report.html").read_text()
    (folder / "report.html").write_text(page.replace("Acme One", "Acme 1"))
    found = verified(folder, trusted())
    assert refusals(found) == {
        "signature": "report.html is not the one that was signed: its SHA-256 differs from that in attestation.json"
    }
    (folder / "report.html").unlink()
    assert "report.html was signed and is not there" in refusals(verified(folder, trusted()))["signature"]


@pytest.mark.parametrize("payload", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"_type": 3}'])
def test_a_payload_that_is_no_statement_is_refused(tmp_path: Path, payload: bytes) -> None:
    folder = published(tmp_path)
    (folder / ENVELOPE).write_bytes(seal(payload, [ACME]))
    assert "not a statement of a conformance report" in refusals(verified(folder, trusted()))["signature"]


def test_a_statement_survives_its_encoding(tmp_path: Path) -> None:
    submission = read_submission(published(tmp_path))
    made = statement_of(submission.report, submission.manifest, submission.files)
    assert decode_statement(encode_statement(made), "x") == made
    assert "signed by Acme" in check_signature(Examined(submission, (trusted(),)))


# --- the journal --------------------------------------------------------------------------------------------------


def test_a_journal_of_other_verdicts_is_refused_with_the_case(tmp_path: Path) -> None:
    folder = published(tmp_path)
    other = run_folder(tmp_path / "other", [*passing()[:-1], entry(passing()[-1].id)])
    found = verified(folder, trusted(), journal=other)
    assert re.search("gives another report: .* fail, where the report has .* pass", refusals(found)["journal"])


def test_a_journal_that_gives_the_same_report_is_not_the_same_journal(tmp_path: Path) -> None:
    folder = published(tmp_path)
    other = run_folder(tmp_path / "other", [*reversed(passing())])
    assert "is not the journal that was published" in refusals(verified(folder, journal=other))["journal"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"evidence": "vendor-simulator"}, "evidence"),
        ({"tier": "full"}, "profile and tier"),
        ({"backend_digest": "d" * 64}, "digests"),
        ({"cases": 10_000}, "number of cases"),
        ({"entries": [*passing()[:-1], msgspec.structs.replace(passing()[-1], elements=99)]}, "figures"),
        ({"mutant": "add-is-sub"}, "statement"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_journal_of_another_run_is_refused_with_what_differs(
    tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    folder = published(tmp_path)
    other = run_folder(tmp_path / "other", **changes)
    assert f"gives another report: its {what} are others" in refusals(verified(folder, journal=other))["journal"]


@pytest.mark.parametrize("content", [b"", b"x\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").write_bytes(content)
    folder = published(tmp_path)
    assert "not a journal" in refusals(verified(folder, journal=tmp_path / "journal"))["journal"]


# --- folders ------------------------------------------------------------------------------------------------------


def test_links_to_folders_are_refused_and_not_followed(tmp_path: Path) -> None:
    folder = published(tmp_path)
    registry = folder.parent.parent
    (registry / "evil").symlink_to(tmp_path)
    (folder.parent / "2026-01-01-000000000000").symlink_to(folder)
    refused = [refusals(one)["files"] for one in verify(registry, Demands()) if not one.holds]
    assert len(refused) == 2
    assert all("is a link; a published report is a folder of its own" in text for text in refused)


def test_a_folder_that_is_named_as_a_report_and_is_empty_is_refused(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder.parent / "2026-01-01-000000000000").mkdir()
    [empty, _] = verify(folder.parent.parent, Demands())
    assert "lacks manifest.json" in refusals(empty)["files"]


def test_other_folders_of_a_registry_are_left_alone(tmp_path: Path) -> None:
    folder = published(tmp_path)
    for name in (".git/x", "docs/pictures", "README"):
        (folder.parent.parent / name).mkdir(parents=True)
    assert submissions(folder.parent.parent) == [folder]


def test_a_report_in_the_folder_of_another_backend_is_refused(tmp_path: Path) -> None:
    folder = published(tmp_path)
    folder.parent.rename(folder.parent.with_name("other"))
    [found] = verify(folder.parent.parent, Demands())
    assert "this report belongs into chip/" in refusals(found)["place"]


@pytest.mark.parametrize("make", [False, True])
def test_what_is_no_registry_is_a_usage_error(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match=r"neither a registry|holds no published report"):
        verify(tmp_path / "x", Demands())


def test_one_journal_is_not_that_of_a_registry(tmp_path: Path) -> None:
    folder = published(tmp_path)
    with pytest.raises(UsageError, match="--journal is that of one report"):
        verify(folder.parent.parent, Demands(journal=tmp_path))


def test_every_case_of_the_suite_is_looked_for(tmp_path: Path) -> None:
    """Leave out one case after the other of a few, each in a report that does not contradict itself."""
    whole: list[Entry] = smoke_entries()
    for number in (0, len(whole) // 2, len(whole) - 1):
        place = tmp_path / str(number)
        place.mkdir()
        folder = genuine(place, [one for k, one in enumerate(whole) if k != number])
        assert f"lacks the case {whole[number].id}, " in refusals(verified(folder))["cases"]
