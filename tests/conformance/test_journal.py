"""The journal: one line per case, torn tails, resuming, and refusing what does not belong together."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import msgspec
import pytest

from portkit.conformance import journal as journals
from portkit.conformance.card import Card
from portkit.conformance.journal import Entry, Follower, Header, JournalWriter
from portkit.conformance.verdict import MEANINGS, ExitCode, Verdict
from portkit.contract import DeviceInfo
from portkit.errors import HarnessError, SchemaError, UsageError
from tests.fakes.evaluator import CAPABILITIES

HEADER = Header(
    journal=journals.JOURNAL_VERSION,
    portkit="1",
    spec="1",
    spec_digest="a" * 64,
    suite="1",
    suite_digest="b" * 64,
    contract="1",
    backend="fake",
    backend_digest="c" * 64,
    capabilities=CAPABILITIES,
    info=DeviceInfo("x"),
    profile="core",
    tier="smoke",
)


def entry(number: int, verdict: Verdict = Verdict.PASS) -> Entry:
    return Entry(f"ops/add/{number}", verdict, "ops", reason="é" * number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "deep" / "journal.jsonl"
    journals.create(file, HEADER)
    writer = JournalWriter(file)
    for number in range(5):
        writer.append(entry(number))
    writer.close()
    return file


def test_what_is_written_is_read(path: Path) -> None:
    found = journals.read(path)
    assert found.header == HEADER
    assert list(found.entries.values()) == [entry(k) for k in range(5)]


def test_an_entry_with_everything_survives() -> None:
    full = Entry("a/b", Verdict.WAIVED, "ops", "why", 1, 2, 3, 0.5, 7.0, "d", "e", 1.0, 2.0, ("add/f32",), Verdict.FAIL)
    full = msgspec.structs.replace(full, card=Card("add", "portkit ...", scalars={"n": "1", "a": "nan"}))
    assert msgspec.json.decode(msgspec.json.encode(full), type=Entry) == full


def test_a_torn_last_line_is_left_out_wherever_it_is_torn(path: Path) -> None:
    data = path.read_bytes()
    start = data[:-1].rfind(b"\n") + 1
    for end in range(start, len(data)):
        path.write_bytes(data[:end])
        assert len(journals.read(path).entries) == 4


def test_resuming_cuts_the_torn_line_off_so_that_appending_is_safe(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])
    assert len(journals.resume(path, HEADER).entries) == 4
    writer = JournalWriter(path)
    writer.append(entry(9))
    writer.close()
    assert journals.read(path).verdicts() == [(f"ops/add/{k}", "pass") for k in (0, 1, 2, 3, 9)]


@pytest.mark.parametrize(
    "field", ["spec_digest", "suite_digest", "backend", "backend_digest", "profile", "tier", "patterns"]
)
def test_resuming_another_run_is_refused_and_says_what_differs(path: Path, field: str) -> None:
    other = msgspec.structs.replace(HEADER, **{field: ("x",) if field == "patterns" else "x"})
    with pytest.raises(UsageError, match=f"{field.replace('_', ' ')} is .*without --resume"):
        journals.resume(path, other)


@pytest.mark.parametrize(
    ("part", "field", "value"), [("capabilities", "dtypes", ("bool",)), ("info", "device", "another")]
)
def test_resuming_on_a_device_that_declares_something_else_is_refused(
    path: Path, part: str, field: str, value: object
) -> None:
    changed = msgspec.structs.replace(getattr(HEADER, part), **{field: value})
    with pytest.raises(UsageError, match=f"declares as {field} has changed"):
        journals.resume(path, msgspec.structs.replace(HEADER, **{part: changed}))


def test_what_a_device_tells_besides_may_change_before_resuming(path: Path) -> None:
    changed = msgspec.structs.replace(HEADER.info, extra={"temperature": "40"})
    assert len(journals.resume(path, msgspec.structs.replace(HEADER, info=changed)).entries) == 5


def test_two_runs_do_not_write_to_one_journal(path: Path) -> None:
    held = journals.lock(path)
    with pytest.raises(UsageError, match="another run is writing"):
        journals.lock(path)
    os.close(held)
    os.close(journals.lock(path))


def test_a_damaged_line_before_the_last_is_an_error(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:-4]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(SchemaError, match="not a journal"):
        journals.read(path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\xfe\n", b'{"id":"x"}\n'])
def test_another_file_is_not_taken_for_a_journal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SchemaError):
        journals.read(tmp_path / "x")


def test_a_journal_of_another_version_is_refused(path: Path) -> None:
    journals.create(path, msgspec.structs.replace(HEADER, journal="0.1"))
    with pytest.raises(SchemaError, match=r"version 0\.1"):
        journals.read(path)


def test_a_disk_that_is_full_is_a_harness_error(path: Path) -> None:
    with pytest.raises(HarnessError, match="journal"):
        JournalWriter(Path("/dev/full")).append(entry(1))


def test_a_line_that_does_not_fit_the_disk_leaves_the_journal_whole(path: Path) -> None:
    writer, before = JournalWriter(path), path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(HarnessError, match="is the disk full"):
            writer.append(entry(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.close()
    assert path.read_bytes() == before


def test_following_a_journal_that_something_else_writes_into_is_refused(path: Path) -> None:
    follower = Follower(path)
    with path.open("ab") as file:
        file.write(b"{hello}\n")
    with pytest.raises(SchemaError, match="something else wrote"):
        follower.new_entries()
    follower.close()


def test_of_two_entries_for_one_case_the_last_counts(path: Path) -> None:
    writer = JournalWriter(path)
    writer.append(Entry("ops/add/1", Verdict.FAIL, "ops"))
    writer.close()
    assert journals.read(path).entries["ops/add/1"].verdict is Verdict.FAIL


def test_following_gives_each_entry_once_and_waits_for_whole_lines(path: Path) -> None:
    follower = Follower(path)
    assert len(follower.new_entries()) == 5
    line = msgspec.json.encode(entry(7)) + b"\n"
    with path.open("ab", buffering=0) as file:
        file.write(line[:10])
        assert follower.new_entries() == []
        file.write(line[10:])
    assert follower.new_entries() == [entry(7)]
    follower.close()


def test_every_verdict_has_a_meaning_and_severities_differ() -> None:
    assert set(MEANINGS) == set(Verdict)
    assert len({m.severity for m in MEANINGS.values()}) == len(Verdict)
    assert {v for v in Verdict if v.passes} == {Verdict.PASS, Verdict.UNSUPPORTED, Verdict.WAIVED}
    assert Verdict.ERROR.meaning.exit is ExitCode.HARNESS_ERROR
