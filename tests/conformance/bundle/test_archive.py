"""Archives and folders from outside: what they may be, and with which words the rest is refused."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from portkit.conformance.bundle import archive
from portkit.conformance.bundle.archive import open_source, pack
from portkit.errors import SchemaError, UsageError
from tests.conformance.bundle.bundles import entry, write, write_entries

FILES = {"b/two.bin": b"two" * 100, "one.txt": b"one"}


def listed(path: Path, offset: int, value: int, kind: str = "<H") -> Path:
    """Overwrite a field of the first entry in the directory of an archive."""
    content = bytearray(path.read_bytes())
    struct.pack_into(kind, content, content.index(b"PK\1\2") + offset, value)
    path.write_bytes(content)
    return path


def ended(path: Path, offset: int, value: int, kind: str = "<H") -> Path:
    """Overwrite a field of the end record of an archive."""
    content = bytearray(path.read_bytes())
    struct.pack_into(kind, content, content.rindex(b"PK\5\6") + offset, value)
    path.write_bytes(content)
    return path


# --- writing and reading back -------------------------------------------------------------------------------------


def test_the_same_files_make_the_same_archive_in_any_order() -> None:
    assert pack(FILES) == pack(dict(reversed(FILES.items())))


def test_what_was_packed_is_read_back(tmp_path: Path) -> None:
    with open_source(write(tmp_path / "a.zip", FILES)) as source:
        assert source.sizes() == {name: len(content) for name, content in FILES.items()}
        assert {name: source.read(name, 300) for name in FILES} == FILES


def test_a_folder_is_read_as_an_archive_is(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(b"one")
    with open_source(tmp_path) as source:
        assert source.sizes() == {"one.txt": 3}
        assert source.read("one.txt", 3) == b"one"


@pytest.mark.parametrize("make", [lambda path: write(path / "a.zip", FILES), lambda path: folder_of(path)])
def test_no_more_of_a_file_is_read_than_is_allowed(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with open_source(make(tmp_path)) as source, pytest.raises(SchemaError, match=r"one\.txt has .*2"):
        source.read("one.txt", 2)


def folder_of(path: Path) -> Path:
    (path / "one.txt").write_bytes(b"one")
    return path


def test_more_files_than_an_archive_holds_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 1)
    with pytest.raises(UsageError, match="select fewer"):
        pack(FILES)


# --- hostile archives ---------------------------------------------------------------------------------------------

NAMES = {
    "../out.txt": "leads out",
    "a/../../out.txt": "leads out",
    "..\\out.txt": "leads out",
    "/etc/passwd": "absolute",
    "\\\\host\\share": "absolute",
    "C:\\windows": "absolute",
    "c:out.txt": "absolute",
    "folder/": "is a folder; pack the files themselves",
    "": "plain name",
    ".hidden": "plain name",
    "a//b": "plain name",
    "a/.b": "plain name",
    "line\nbreak": "plain name",
    "<img src=x>": "plain name",
    "caf\u00e9": "plain name",
    "\u202egnp.exe": "plain name",
    "n" * 121: "plain name",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    path = write_entries(tmp_path / "a.zip", (entry(name), b""))
    with pytest.raises(SchemaError, match=NAMES[name]) as error:
        open_source(path)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_a_name_with_a_null_byte_is_refused(tmp_path: Path) -> None:
    path = write_entries(tmp_path / "a.zip", (entry("one.txt?evil"), b""))
    path.write_bytes(path.read_bytes().replace(b"?", b"\0"))
    with pytest.raises(SchemaError, match="plain name"):
        open_source(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")  # of whoever writes it
@pytest.mark.parametrize("twice", ["one.txt", "ONE.txt"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, twice: str) -> None:
    path = write_entries(tmp_path / "a.zip", (entry("one.txt"), b"1"), (entry(twice), b"2"))
    with pytest.raises(SchemaError, match="two files of the name"):
        open_source(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "no plain file"), (stat.S_IFDIR, "no plain file")],
)
def test_what_is_no_file_is_refused(tmp_path: Path, kind: int, words: str) -> None:
    path = write_entries(tmp_path / "a.zip", (entry("link", external_attr=(kind | 0o777) << 16), b"/etc/passwd"))
    with pytest.raises(SchemaError, match=words):
        open_source(path)


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    path = listed(write_entries(tmp_path / "a.zip", (entry("one.txt"), b"1")), 8, 1)
    with pytest.raises(SchemaError, match="encrypted"):
        open_source(path)


def test_another_compression_is_refused(tmp_path: Path) -> None:
    path = write_entries(tmp_path / "a.zip", (entry("one.txt", compress_type=zipfile.ZIP_BZIP2), b"1"))
    with pytest.raises(SchemaError, match="than deflate"):
        open_source(path)


def test_a_file_that_unpacks_to_more_than_it_says_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = write(tmp_path / "a.zip", {"one.bin": bytes(50 << 20)})
    assert bomb.stat().st_size < 1 << 20
    with open_source(listed(bomb, 24, 100, "<I")) as source, pytest.raises(SchemaError, match=r"one\.bin") as error:
        source.read("one.bin", 100)
    assert "unpack" in str(error.value)


def test_files_that_unpack_to_more_than_the_limit_together_are_refused(tmp_path: Path) -> None:
    path = listed(write(tmp_path / "a.zip", FILES), 24, 0xFFFFFFFE, "<I")
    with pytest.raises(SchemaError, match="unpacks to 4294967"):
        open_source(path)


@pytest.mark.parametrize(
    ("offset", "value", "kind", "words"),
    [
        (10, 0xFFFF, "<H", "zip64"),
        (12, 0xFFFFFFFF, "<I", "zip64"),
        (10, 60_001, "<H", "60000 files"),
        (12, 17 << 20, "<I", "too large"),
    ],
)
def test_a_directory_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, offset: int, value: int, kind: str, words: str
) -> None:
    path = ended(write(tmp_path / "a.zip", FILES), offset, value, kind)
    with pytest.raises(SchemaError, match=words):
        open_source(path)


def test_a_directory_that_lists_more_files_than_it_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ended(write(tmp_path / "a.zip", FILES), 10, 1)
    monkeypatch.setattr(archive, "MAX_FILES", 1)
    with pytest.raises(SchemaError, match="more than 1 files"):
        open_source(path)


def test_an_archive_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.truncate(archive.MAX_ARCHIVE_BYTES + 1)  # a hole: it takes no space
    with pytest.raises(SchemaError, match="are the most"):
        open_source(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\5\6", b"not an archive" * 50, pack(FILES)[:-30]])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(SchemaError, match="not a zip archive"):
        open_source(path)


def test_a_damaged_file_is_refused_when_it_is_read(tmp_path: Path) -> None:
    content = bytearray(pack(FILES))
    at = content.index(b"b/two.bin") + len("b/two.bin")
    content[at : at + 4] = b"\xff" * 4
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with open_source(path) as source, pytest.raises(SchemaError, match="cannot be unpacked"):
        source.read("b/two.bin", 300)


def test_what_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there"):
        open_source(tmp_path / "none.zip")


# --- hostile folders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda place: place.symlink_to("/etc/passwd"), "symbolic link"),
        (lambda place: place.mkdir(), "no plain file"),
        (os.mkfifo, "no plain file"),
    ],
)
def test_a_folder_with_anything_but_files_is_refused(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    make(tmp_path / "one.bin")
    with pytest.raises(SchemaError, match=words):
        open_source(tmp_path)


def test_a_folder_with_a_name_that_is_not_plain_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_bytes(b"")
    with pytest.raises(SchemaError, match="plain name"):
        open_source(tmp_path)


def test_a_folder_with_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 1)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SchemaError, match="more than 1 files"):
        open_source(tmp_path)


def test_a_second_directory_in_the_form_of_zip64_is_refused_unread(tmp_path: Path) -> None:
    path = write_entries(tmp_path / "a.zip", (entry("x.txt"), b"x"))
    content = path.read_bytes()
    at = content.rindex(b"PK\x05\x06")
    path.write_bytes(content[:at] + b"PK\x06\x07" + bytes(16) + content[at:])
    with pytest.raises(SchemaError, match="a zip64 archive"):
        open_source(path)
