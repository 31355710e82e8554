"""The cache folder: whole entries or none, whoever writes, dies or damages; and nothing from strangers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from portkit.contract import find_backend
from portkit.errors import CompileError
from portkit.runtime import kernels
from portkit.runtime.cache import Store, folder
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.replay import run
from tests.runtime.programs import chain, given, told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def aged(path: Path, seconds: float) -> None:
    """Let a file be last used that long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


makers = kernels.makers.__wrapped__


# --- entries ------------------------------------------------------------------------------------------------------


def test_what_was_put_is_found_by_another_store(path: Path) -> None:
    Store(path).put("key", b"contents")
    assert Store(path).get("key") == b"contents"
    assert Store(path).get("other") is None
    assert names(path) == ["key"]


def test_a_later_entry_takes_the_place_of_the_earlier(path: Path) -> None:
    store = Store(path)
    for contents in (b"long contents", b"", b"new"):
        store.put("key", contents)
        assert store.get("key") == contents


def damaged(raw: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "cut": raw[:-1],
        "cut in the head": raw[:10],
        "longer": raw + b"\0",
        "one bit": raw[:-1] + bytes([raw[-1] ^ 1]),
        "another key": raw,
        "no entry": b"\x7fELF" + raw,
    }


@pytest.mark.parametrize("damage", damaged(b"some bytes"))
def test_a_damaged_entry_is_removed(path: Path, damage: str) -> None:
    store = Store(path)
    store.put("key", b"contents" * 100)
    place = path / ("other" if damage == "another key" else "key")
    place.write_bytes(damaged((path / "key").read_bytes())[damage])
    assert store.get(place.name) is None
    assert not place.exists()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    elsewhere.put("key", b"contents")
    store = Store(path)
    (path / "key").symlink_to(tmp_path / "elsewhere" / "key")
    assert store.get("key") is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_no_entry(path: Path, make: Callable[[Path], None]) -> None:
    store = Store(path)
    make(path / "name")
    assert store.get("name") is None
    store.put("name", b"contents")


def test_above_its_limit_a_folder_loses_what_was_longest_unused(path: Path) -> None:
    store = Store(path, limit=3_500)
    for number, age in enumerate((300, 200, 400, 100)):
        store.put(f"key{number}", bytes(1_000))
        aged(path / f"key{number}", age)
    assert store.get("key2") is not None  # used just now
    store.sweep()
    assert names(path) == ["key1", "key2", "key3"]


def test_what_killed_processes_left_is_removed_when_it_is_old(path: Path) -> None:
    store = Store(path)
    for name in (".new-old", ".new-fresh"):
        (path / name).write_bytes(b"half")
    aged(path / ".new-old", 7200)
    store.sweep()
    assert names(path) == [".new-fresh"]


def test_a_store_that_is_full_or_gone_does_no_harm(path: Path) -> None:
    store = Store(path)
    path.chmod(0o500)
    if os.geteuid():  # for root nothing is forbidden
        store.put("key", b"contents")
        assert store.get("key") is None
    path.chmod(0o700)
    path.rmdir()
    store.put("key", b"contents")
    assert store.get("key") is None
    store.close()
    store.close()
    store.put("key", b"contents")
    assert store.get("key") is None


# --- whose folder -------------------------------------------------------------------------------------------------


def test_a_new_folder_is_its_owners_only(path: Path) -> None:
    Store(path)
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(path: Path, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    with pytest.warns(RuntimeWarning, match="chmod 700"):
        store = Store(path)
    store.put("key", b"contents")
    assert store.get("key") is None
    assert names(path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_not_used(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 12345, -1)
    with pytest.warns(RuntimeWarning, match="belongs to somebody else"):
        assert not Store(path).usable


def test_a_file_in_place_of_the_folder_is_not_used(path: Path) -> None:
    path.write_text("")
    assert not Store(path).usable
    assert not Store(path / "below").usable
    assert not Store(None).usable


def test_the_environment_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PORTKIT_CACHE", str(tmp_path / "mine"))
    assert folder() == tmp_path / "mine"
    for nothing in ("", "off", "OFF"):
        monkeypatch.setenv("PORTKIT_CACHE", nothing)
        assert folder() is None
    monkeypatch.delenv("PORTKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() == tmp_path / "portkit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert folder() == tmp_path / ".cache" / "portkit"


# --- processes ----------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from portkit.runtime.cache import Store
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
for turn in range(int(sys.argv[2])):
    for key in range(4):
        contents = store.get(f"key{key}")
        assert contents is None or contents == bytes([key]) * 300_000, "half an entry"
        store.put(f"key{key}", bytes([key]) * 300_000)
        if turn % 8 == 0:
            store.sweep()
"""


def writer(path: Path, turns: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(turns)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_write_the_same_entries_never_see_half_of_one(path: Path) -> None:
    running = [writer(path, 40) for _ in range(3)]
    for process in running:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert names(path) == [f"key{key}" for key in range(4)]


def test_a_writer_that_is_killed_leaves_whole_entries(path: Path) -> None:
    for _ in range(5):
        process = writer(path, 1_000_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        store = Store(path)
        for key in range(4):
            assert store.get(f"key{key}") in (None, bytes([key]) * 300_000)
    assert [name for name in names(path) if not name.startswith((".new-", "key"))] == []


# --- kernels ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of portkit that are being worked on count as old."""
    monkeypatch.setattr(kernels, "started", lambda: float("inf"))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that the cpu backend compiles from now on."""
    from portkit.backends.cpu.device import HostCompiler

    seen: list[str] = []
    original = HostCompiler.compile
    monkeypatch.setattr(
        HostCompiler, "compile", lambda self, kernel: (seen.append(kernel.name), original(self, kernel))[1]
    )
    return seen


def works(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTKIT_CACHE", str(path))
    with RuntimeDevice(find_backend("cpu")) as device:
        assert (told(run(device, chain(3), given(device, 1.0))[0]) == 4).all()


def test_a_kernel_is_compiled_once_for_all_devices_to_come(
    path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        works(path, monkeypatch)
    assert compiled == ["adding"]


def test_a_kernel_whose_entry_is_damaged_is_compiled_again(
    path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    works(path, monkeypatch)
    (entry,) = path.iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])
    works(path, monkeypatch)
    works(path, monkeypatch)
    assert compiled == ["adding"] * 2


@pytest.mark.parametrize("contents", [b"\xc1", b"\x80", b"\x83\xa6source\xa0\xa6binary\xc4\x04junk\xa7scratch\x00"])
def test_a_whole_entry_that_is_no_kernel_of_this_device_is_compiled_again(
    path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch, contents: bytes
) -> None:
    works(path, monkeypatch)
    (entry,) = path.iterdir()
    Store(path).put(entry.name, contents)
    works(path, monkeypatch)
    works(path, monkeypatch)
    assert compiled == ["adding"] * 2


def test_without_a_folder_a_kernel_is_compiled_once_a_device(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTKIT_CACHE", "")
    with RuntimeDevice(find_backend("cpu")) as device:
        for _ in range(3):
            run(device, chain(3), given(device, 1.0))
    assert compiled == ["adding"]


def test_a_kernel_of_other_makers_is_not_taken(
    path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    works(path, monkeypatch)
    monkeypatch.setattr(kernels, "makers", lambda _: kernels.Makers("changed", 0.0))
    works(path, monkeypatch)
    monkeypatch.setattr("portkit.__version__", "0.0.0")
    works(path, monkeypatch)
    assert compiled == ["adding"] * 3
    assert len(names(path)) == 3


def test_nothing_is_kept_of_files_that_changed_after_the_process_began(
    path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "started", lambda: 0.0)
    for _ in range(2):
        works(path, monkeypatch)
    assert compiled == ["adding"] * 2
    assert not path.exists()


def test_a_process_knows_when_it_began() -> None:
    code = "import time; b = time.time(); from portkit.runtime.kernels import started; print(b, started(), time.time())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    first_line, began, last_line = map(float, done.stdout.split())
    assert began <= last_line
    assert abs(began - first_line) < 10


def test_the_makers_are_the_files_that_make_kernels(tmp_path: Path) -> None:
    (tmp_path / "port.py").write_text("one")
    before = makers(str(tmp_path))
    assert makers(str(tmp_path)) == before
    (tmp_path / "port.py").write_text("other")
    assert makers(str(tmp_path)).digest != before.digest
    assert makers(str(tmp_path)).last_change >= before.last_change > 0


def test_a_kernel_that_does_not_compile_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portkit.backends.cpu.device import HostCompiler

    def fail(*_: object) -> None:
        raise CompileError("no")

    monkeypatch.setenv("PORTKIT_CACHE", str(path))
    monkeypatch.setattr(HostCompiler, "compile", fail)
    with RuntimeDevice(find_backend("cpu")) as device, pytest.raises(CompileError):
        run(device, chain(3), given(device, 1.0))
    assert names(path) == []


KILLED = textwrap.dedent("""
    import os, signal
    from portkit.runtime import kernels
    kernels.started = lambda: float("inf")
    from portkit.contract import find_backend
    from portkit.runtime.devices import RuntimeDevice
    from portkit.runtime.replay import run
    from portkit.runtime import cache
    from tests.runtime.programs import chain, given

    cache.os.replace = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    device = RuntimeDevice(find_backend("cpu"))
    run(device, chain(3), given(device, 1.0))
""")


def test_a_process_killed_before_its_entry_is_named_leaves_the_next_one_to_compile(
    path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = os.environ | {"PORTKIT_CACHE": str(path)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert all(name.startswith(".new-") for name in names(path))
    works(path, monkeypatch)
    assert compiled == ["adding"]
