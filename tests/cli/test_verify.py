"""`portkit verify`, and signing with `portkit publish --key`."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from portkit.conformance.attest.checks import CHECKS
from portkit.conformance.case import Tier
from portkit.conformance.report.model import decode_report, encode_report
from portkit.conformance.run import RunOptions, run_suite
from portkit.contract import DeviceInfo
from tests.cli.calls import Called, Portkit, one_line
from tests.conformance.report.runs import run_folder


@pytest.fixture(autouse=True)
def _keys(portkit: Portkit) -> None:
    for name in ("acme.pem", "other.pem"):
        portkit("keygen", name)


def signed(portkit: Portkit, name: str = "run", *keys: str, **changes: Any) -> Path:
    """Publish a run, by default signed by Acme, and return its folder."""
    run_folder(Path(name), **changes)
    words = [word for key in keys or ("acme.pem",) for word in ("--key", key)]
    return Path(portkit("publish", name, "--registry", "registry", *words, "--json").told["folder"])


# --- publish --key ------------------------------------------------------------------------------------------------


def test_a_signed_publication_says_by_which_key_and_how_to_check_it(portkit: Portkit) -> None:
    run_folder(Path("run"))
    called = portkit("publish", "run", "--registry", "registry", "--key", "acme.pem")
    assert called.status == 0
    assert re.search(r"^signed by [0-9a-f]{64}$", called.out, re.MULTILINE)
    command = re.findall(r"portkit (verify .*)", called.out)[0].split()
    assert portkit(*command).status == 0


def test_an_unsigned_publication_says_so(portkit: Portkit) -> None:
    run_folder(Path("run"))
    assert ", unsigned\n" in portkit("publish", "run", "--registry", "registry").out


def test_several_keys_sign_one_report(portkit: Portkit) -> None:
    folder = signed(portkit, "run", "acme.pem", "other.pem", "acme.pem")
    for key in ("acme.pem.pub", "other.pem.pub"):
        assert portkit("verify", folder, "--key", key).status == 0


@pytest.mark.parametrize(
    ("key", "message"), [("acme.pem.pub", "that is a public key"), ("missing", "cannot read missing")]
)
def test_a_key_that_cannot_sign_is_refused_before_anything_is_written(portkit: Portkit, key: str, message: str) -> None:
    run_folder(Path("run"))
    called = portkit("publish", "run", "--registry", "registry", "--key", key)
    assert called.status == 2
    assert message in one_line(called)
    assert not Path("registry").exists()


# --- verify -------------------------------------------------------------------------------------------------------


def test_every_check_of_one_report_is_shown(portkit: Portkit) -> None:
    called = portkit("verify", signed(portkit), "--key", "acme.pem.pub")
    assert (called.status, called.error) == (0, "")
    assert called.out.startswith("holds     registry/chip/2026-03-04-")
    shown = re.findall(r"^  ([a-z]+) +(ok|not checked) ", called.out, re.MULTILINE)
    assert [name for name, outcome in shown if outcome == "not checked"] == ["cases", "journal"]
    assert [name for name, _ in shown] == [name for name, _ in CHECKS]
    assert max(map(len, called.out.splitlines()[1:])) <= 80


def test_a_journal_is_held_against_the_report(portkit: Portkit) -> None:
    called = portkit("verify", signed(portkit), "--journal", "run")
    assert re.search(r"journal +ok ", called.out)


def test_a_journal_that_is_not_there_is_a_wrong_call(portkit: Portkit) -> None:
    called = portkit("verify", signed(portkit), "--journal", "rum")
    assert (called.status, "--journal rum is not there" in called.error) == (2, True)


def test_a_registry_is_shown_in_a_line_each_with_what_was_refused(portkit: Portkit) -> None:
    good, bad = signed(portkit), signed(portkit, "run2", info=DeviceInfo("Acme Two"))
    (bad / "report.json").write_text((bad / "report.json").read_text().replace("Acme Two", "Acme 2"))
    called = portkit("verify", "registry")
    assert called.status == 1
    assert f"holds     {good}" in called.out
    assert f"refused   {bad}" in called.out
    assert "report.json is not the one that was" in called.out
    assert called.out.endswith("2 reports, 1 refused\n")


def test_several_reports_are_checked_at_once(portkit: Portkit) -> None:
    folders = [signed(portkit), signed(portkit, "run2", info=DeviceInfo("Acme Two"))]
    called = portkit("verify", *folders, "--key", "acme.pem.pub")
    assert called.status == 0
    assert called.out.endswith("2 reports, 0 refused\n")
    refused = portkit("verify", *folders, "--journal", "run")
    assert (refused.status, "--journal is about one report" in refused.error) == (2, True)


def test_the_folder_of_a_run_is_told_from_that_of_a_report(portkit: Portkit) -> None:
    signed(portkit)
    called = portkit("verify", "run")
    assert called.status == 1
    assert "portkit publish run --registry REGISTRY files it" in " ".join(called.out.split())


def test_a_list_without_keys_trusts_nobody_and_is_refused(portkit: Portkit) -> None:
    signed(portkit)
    Path("none.toml").write_text("")
    called = portkit("verify", "registry", "--trust", "none.toml")
    assert (called.status, "none.toml" in called.error) == (2, True)


def test_verify_as_json(portkit: Portkit) -> None:
    folder = signed(portkit)
    told = portkit("verify", "registry", "--key", "acme.pem.pub", "--json").told
    assert (told["exit_code"], told["sample"]) == (0, None)
    [report] = told["reports"]
    assert (report["folder"], report["backend"], report["holds"]) == (str(folder), "chip", True)
    assert report["signature"]["state"] == "signed"
    assert report["checks"]["digests"]["outcome"] == "ok"


def test_another_key_is_refused(portkit: Portkit) -> None:
    called = portkit("verify", signed(portkit), "--key", "other.pem.pub")
    assert called.status == 1
    assert "which is not trusted here" in " ".join(called.out.split())


def test_an_unsigned_report_is_refused_where_a_key_is_given_unless_it_is_allowed(portkit: Portkit) -> None:
    run_folder(Path("run"))
    portkit("publish", "run", "--registry", "registry")
    assert portkit("verify", "registry").status == 0
    assert portkit("verify", "registry", "--key", "acme.pem.pub").status == 1
    allowed = portkit("verify", "registry", "--key", "acme.pem.pub", "--allow-unsigned")
    assert (allowed.status, "unsigned" in allowed.out) == (0, True)


def test_keys_may_be_a_folder_or_those_of_the_registry(portkit: Portkit) -> None:
    signed(portkit)
    Path("trusted").mkdir()
    Path("acme.pem.pub").rename("trusted/acme.pub")
    assert "signed by acme" in portkit("verify", "registry", "--trust", "trusted").out
    public = Path("trusted/acme.pub").read_text().splitlines()[1]
    Path("registry/keys.toml").write_text(f'[[key]]\nname = "Acme lab"\npublic = "{public}"\n')
    assert "signed by Acme lab" in portkit("verify", "registry").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing is neither a registry nor"),
        (["registry/chip"], "holds the reports of one backend; give the registry around it, registry"),
        (["registry", "--backend", "cup", "--sample", "1%"], "did you mean cpu"),
        (["registry", "--backend", "cpu", "--sample", "200%"], "--sample 200% is neither a share"),
        (["registry", "--sample", "1%"], "--sample and --backend go together"),
        (["registry", "--backend", "cpu"], "--sample and --backend go together"),
        (["registry", "--seed", "1"], "--seed chooses the cases of --sample"),
        (["registry", "--allow-unsigned"], "--allow-unsigned goes with --key or --trust"),
        (["registry", "--key", "acme.pem"], "is a private key; give the public one"),
        (["registry", "--trust", "missing"], "cannot read missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_verified_is_refused_in_one_line(portkit: Portkit, arguments: list[str], message: str) -> None:
    signed(portkit)
    called = portkit("verify", *arguments)
    assert called.status == 2
    assert message in one_line(called)


def test_what_a_hostile_report_says_does_not_reach_the_terminal_as_commands(portkit: Portkit) -> None:
    folder = signed(portkit)
    (folder / "\x1b[2J\u202e").write_text("")
    edited = (folder / "report.json").read_text().replace("Acme One", "\\u001b[2J").replace('"2.1"', '"\\u0007"')
    (folder / "report.json").write_text(edited)
    called = portkit("verify", folder)  # that there is no escape is looked at on every call
    assert called.status == 1
    assert "\\x1b[2J\\u202e" in called.out


# --- verify --sample ----------------------------------------------------------------------------------------------

IDS = ("device/info/name", "ops/add/f32/special", "ops/add/f32/strict")


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the smoke tier of the suite be three cases, so that a whole run is quick."""
    from portkit.conformance import run, select
    from portkit.conformance.attest import checks
    from portkit.conformance.case import Case

    genuine = select.select

    def few(cases: list[Case], tier: Tier, patterns: tuple[str, ...]) -> list[Case]:
        return genuine(cases, tier, patterns or IDS)

    monkeypatch.setattr(run, "select", few)
    monkeypatch.setattr(checks, "select", few)


def real(portkit: Portkit, *more: str) -> Path:
    """Publish a signed run of the cpu backend."""
    from portkit.conformance.journal import read
    from portkit.conformance.report.build import from_journal
    from portkit.conformance.report.write import write_files

    result = run_suite(RunOptions("cpu", Path("cpu"), tier=Tier.SMOKE))
    assert int(result.exit_code) == 0, result.message
    write_files(from_journal(read(Path("cpu/journal.jsonl"))), Path("cpu"))
    words = ("--registry", "registry", "--key", "acme.pem", *more)
    return Path(portkit("publish", "cpu", *words, "--json").told["folder"])


def sampled(portkit: Portkit, folder: Path, *more: str) -> Called:
    return portkit("verify", folder, "--key", "acme.pem.pub", "--backend", "cpu", "--sample", "100%", *more)


@pytest.mark.usefixtures("whole")
def test_a_sample_is_run_again_and_its_seed_is_told(portkit: Portkit) -> None:
    folder = real(portkit)
    called = sampled(portkit, folder)
    assert called.status == 0
    assert "sample    3 of 3 cases came out the same here, 1 of them bit for bit" in called.out
    [seed] = re.findall(r"--seed (\d+)", called.out)
    told = sampled(portkit, folder, "--seed", seed, "--json").told
    assert (told["sample"]["seed"], sorted(told["sample"]["ids"])) == (int(seed), sorted(IDS))
    assert told["reports"][0]["checks"]["cases"]["outcome"] == "ok"


@pytest.mark.usefixtures("whole")
def test_who_has_the_chip_can_check_a_report_without_its_names(portkit: Portkit) -> None:
    called = sampled(portkit, real(portkit, "--redact", "--codename", "heron"), "--journal", "cpu")
    assert called.status == 0, called.out
    assert re.search(r"journal +ok ", called.out)
    assert "3 of 3 cases came out the same here" in called.out


@pytest.mark.usefixtures("whole")
def test_what_comes_out_differently_is_listed_and_fails(portkit: Portkit) -> None:
    folder = real(portkit)
    report = json.loads((folder / "report.json").read_text())
    next(case for case in report["cases"] if case["id"] == IDS[2])["digest"] = "0" * 64
    Path("cpu/report.json").write_text(json.dumps(report))
    forged = Path("registry/cpu/forged")
    forged.mkdir()
    (forged / "report.json").write_bytes(encode_report(decode_report(json.dumps(report).encode(), "report.json")))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["report_digest"] = hashlib.sha256((forged / "report.json").read_bytes()).hexdigest()
    (forged / "manifest.json").write_text(json.dumps(manifest))
    called = portkit("verify", forged, "--backend", "cpu", "--sample", "3")
    assert called.status == 1
    assert "sample    2 of 3 cases came out the same here" in called.out
    assert re.search(rf"0{{16}}  [0-9a-f]{{16}}  {re.escape(IDS[2])}  the outputs have other bits", called.out)


def test_a_report_that_was_refused_is_not_run_again(portkit: Portkit) -> None:
    folder = signed(portkit)
    (folder / "x").write_text("")
    called = portkit("verify", folder, "--backend", "cpu", "--sample", "1")
    assert called.status == 1
    assert "refused, so no sample of it is run" in called.error


def test_a_report_of_another_suite_is_not_run_again(portkit: Portkit) -> None:
    called = portkit("verify", signed(portkit), "--backend", "cpu", "--sample", "1")
    assert called.status == 2
    assert "the report is by the suite bbbbbbbbbbbb of portkit 0.1" in called.error
