"""`portkit upgrade`: what becomes of each file of a port when the template is another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portkit.cli.scaffold import RECORD, Scaffold, digest, files_of, read_record
from tests.cli.calls import Portkit, one_line

README, PACKAGE = "README.md", "portkit_mychip"
OLD = "an older template wrote this\n"


def upgraded(portkit: Portkit, *more: str) -> dict[str, str]:
    """Return what becomes of each file that does not stay as it is."""
    called = portkit("upgrade", "port", "--json", *more)
    assert called.status in (0, 1), called.error
    return {name: change for name, change in called.told["files"].items() if change != "same"}


@pytest.fixture(autouse=True)
def port(tmp_path: Path, portkit: Portkit) -> Path:
    assert portkit("new", "mychip", "--into", "port").status == 0
    return tmp_path / "port"


def rewrite(port: Path, **changes: Any) -> None:
    record = json.loads((port / RECORD).read_text())
    (port / RECORD).write_text(json.dumps({**record, **changes}))


def older(port: Path, name: str) -> None:
    """Let a file be what an older template wrote."""
    (port / name).write_text(OLD)
    rewrite(port, files={**read_record(port).files, name: digest(port / name)})


def test_a_port_records_what_it_was_made_from(port: Path) -> None:
    record = read_record(port)
    assert (record.name, record.route, record.driver) == ("mychip", "llvm", "python")
    assert record.files == {name: digest(path) for name, path in files_of(port).items()}


def test_of_a_port_that_is_up_to_date_nothing_is_written(portkit: Portkit, port: Path) -> None:
    before = {name: path.stat().st_mtime_ns for name, path in files_of(port).items()}
    assert "nothing to do" in portkit("upgrade", "port").out
    assert {name: path.stat().st_mtime_ns for name, path in files_of(port).items()} == before


def test_a_file_that_was_not_touched_is_updated(portkit: Portkit, port: Path) -> None:
    new = (port / README).read_bytes()
    older(port, README)
    assert upgraded(portkit) == {README: "updated"}
    assert (port / README).read_bytes() == new
    assert upgraded(portkit) == {}


def test_of_a_file_that_both_changed_the_new_one_lies_beside(portkit: Portkit, port: Path) -> None:
    new = (port / README).read_bytes()
    older(port, README)
    (port / README).write_text("mine")
    assert portkit("upgrade", "port").status == 1
    assert (port / README).read_text() == "mine"
    assert (port / f"{README}.new").read_bytes() == new
    assert upgraded(portkit) == {README: "kept, yours"}, "merged or not, it is offered once"


def test_what_lies_beside_from_an_earlier_upgrade_is_not_lost(portkit: Portkit, port: Path) -> None:
    older(port, README)
    (port / README).write_text("mine")
    (port / f"{README}.new").write_text("half merged")
    called = portkit("upgrade", "port")
    assert (called.status, "is from an earlier upgrade" in one_line(called)) == (2, True)
    assert (port / f"{README}.new").read_text() == "half merged"


def test_an_edited_file_is_kept_where_the_template_has_not_changed_it(portkit: Portkit, port: Path) -> None:
    (port / README).write_text("mine")
    assert upgraded(portkit) == {README: "kept, yours"}
    assert (port / README).read_text() == "mine"


def test_a_file_that_the_template_has_gained_is_added(portkit: Portkit, port: Path) -> None:
    name = f"{PACKAGE}/codegen.py"
    new = (port / name).read_bytes()
    (port / name).unlink()
    rewrite(port, files={k: v for k, v in read_record(port).files.items() if k != name})
    assert upgraded(portkit) == {name: "added"}
    assert (port / name).read_bytes() == new


def test_what_was_deleted_stays_deleted_and_what_is_no_longer_used_stays(portkit: Portkit, port: Path) -> None:
    (port / "axpy.pk").unlink()
    (port / "gone.py").write_text(OLD)
    rewrite(port, files={**read_record(port).files, "gone.py": digest(port / "gone.py")})
    assert upgraded(portkit) == {"axpy.pk": "removed by you", "gone.py": "no longer used"}
    assert (port / "gone.py").exists()
    assert not (port / "axpy.pk").exists()


def test_a_dry_run_says_the_same_and_writes_nothing(portkit: Portkit, port: Path) -> None:
    older(port, README)
    assert upgraded(portkit, "--dry-run") == {README: "updated"}
    assert (port / README).read_text() == OLD
    assert upgraded(portkit) == {README: "updated"}


def test_a_port_with_answers_of_its_own_is_rendered_with_them(portkit: Portkit, tmp_path: Path) -> None:
    assert portkit("new", "otherchip", "--route", "isa", "--driver", "c", "--into", "other").status == 0
    older(tmp_path / "other", "portkit_otherchip/isa.py")
    assert "portkit_otherchip/isa.py" in portkit("upgrade", "other").out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "portkit new writes it"),
        ("[]", "not a record"),
        ("[" * 10_000, "not a record"),
        ('{"name": "../x"}', "not a record"),
        (Scaffold("mychip", "cobol", "python", "1", {}).encode().decode(), "no route is called 'cobol'"),
        (Scaffold("mychip", "llvm", "python", "1", {"../x": "0" * 64}).encode().decode(), "leads out of"),
        (Scaffold("mychip", "llvm", "python", "1", {"/etc/passwd": "0" * 64}).encode().decode(), "leads out of"),
        ("x" * (2 << 20), "larger than"),
    ],
)
def test_a_record_that_is_none_is_refused_and_nothing_written(
    portkit: Portkit, port: Path, content: str | None, message: str
) -> None:
    (port / RECORD).unlink()
    if content is not None:
        (port / RECORD).write_text(content)
    (port / README).write_text("mine")
    called = portkit("upgrade", "port")
    assert called.status == 2
    assert message in one_line(called)
    assert (port / README).read_text() == "mine"


def test_a_link_out_of_the_port_is_not_followed(portkit: Portkit, port: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    older(port, README)
    (port / README).unlink()
    (port / README).symlink_to(tmp_path / "elsewhere")
    called = portkit("upgrade", "port")
    assert (called.status, "is a link" in one_line(called)) == (2, True)
    assert (tmp_path / "elsewhere").read_text() == "theirs"
