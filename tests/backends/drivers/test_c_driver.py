"""A driver in C, through `portkit_device.h`: what is refused when it is loaded, and what its statuses become."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from portkit.backends.drivers.c_driver import ERRORS, HEADER, INCLUDE, CDriver, DriverError, DriverLibrary
from portkit.backends.drivers.device import renamed
from portkit.backends.toolkit.host_compiler import find_compiler
from portkit.errors import CannotRunHere, CompileError, DeviceError, DeviceHang, DeviceLost, OutOfMemory
from tests.ports.building import build, needs_a_c_compiler

pytestmark = needs_a_c_compiler

DRIVER = r"""
#include <string.h>
#include "portkit_device.h"
#ifndef STATUS
#define STATUS PORTKIT_OK
#endif
#ifndef WORDS
#define WORDS "vendor error 0x17"
#endif
#ifndef VERSION
#define VERSION PORTKIT_DEVICE_VERSION
#endif
#ifndef SIZE
#define SIZE sizeof table
#endif
#ifndef WAIT
#define WAIT wait_for
#endif
struct portkit_context { char memory[64]; uint64_t waited; };
static portkit_context only;
static portkit_status probe(void) { return STATUS; }
static portkit_status open_device(portkit_context **context) { *context = &only; return PORTKIT_OK; }
static portkit_status info(portkit_context *c, portkit_info *i) {
    (void)c;
    strcpy(i->device, "a \xff chip");
    strcpy(i->driver, "4.2");
    return PORTKIT_OK;
}
static portkit_status allocate(portkit_context *c, uint64_t size, uint64_t align, uint64_t *address) {
    (void)c;
    *address = 0xfffffffffffff000u + 0 * size + 0 * align;
    return STATUS;
}
static portkit_status release(portkit_context *c, uint64_t address) { (void)c; (void)address; return STATUS; }
static portkit_status put(portkit_context *c, uint64_t address, const void *data, uint64_t size) {
    memcpy(c->memory + (address & 0xfff), data, size);
    return STATUS;
}
static portkit_status get(portkit_context *c, uint64_t address, void *data, uint64_t size) {
    memcpy(data, c->memory + (address & 0xfff), size);
    return STATUS;
}
static portkit_status copy(portkit_context *c, uint64_t to, uint64_t from, uint64_t size) {
    (void)c; (void)to; (void)from; (void)size;
    return STATUS;
}
static portkit_status load(portkit_context *c, const void *binary, uint64_t size, portkit_program **program) {
    (void)c;
    *program = size == 3 && !memcmp(binary, "\0ab", 3) ? (portkit_program *)&only : NULL;
    return STATUS;
}
static portkit_status unload(portkit_context *c, portkit_program *program) { (void)c; (void)program; return STATUS; }
static portkit_status start(portkit_context *c, portkit_program *p, const void *arguments, uint64_t size,
                            uint64_t groups, uint64_t scratch) {
    memcpy(c->memory, arguments, size);
    c->memory[size] = (char)(p == (portkit_program *)&only);
    c->memory[size + 1] = (char)groups;
    c->memory[size + 2] = (char)scratch;
    return STATUS;
}
static portkit_status wait_for(portkit_context *c, uint64_t nanoseconds) {
    memcpy(c->memory, &nanoseconds, sizeof nanoseconds);
    return STATUS;
}
static const char *last_error(portkit_context *c) { (void)c; return WORDS; }
static void close_device(portkit_context *c) { c->memory[0] = 'x'; }
const portkit_device_table *ENTRY(void);
const portkit_device_table *ENTRY(void) {
    static const portkit_device_table table = {VERSION, SIZE, probe, open_device, info, allocate, release, put, get,
                                               copy, load, unload, start, WAIT, last_error, close_device};
    (void)wait_for;
    return RESULT;
}
"""


def library(folder: Path, **changes: str) -> Path:
    """Build the driver with some of its macros changed."""
    changes = {"ENTRY": "portkit_device", "RESULT": "&table"} | changes
    defined = "".join(f"#define {name} {value}\n" for name, value in changes.items())
    return build(defined + DRIVER, folder)


def driver(folder: Path, **changes: str) -> CDriver:
    return DriverLibrary(library(folder, **changes)).open()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> CDriver:
    return driver(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ENTRY": "another_function"}, "it does not export portkit_device()"),
        ({"RESULT": "NULL"}, "portkit_device() returned no table"),
        ({"VERSION": "2"}, "the version of its table is 2, of this portkit's portkit_device.h 1"),
        ({"SIZE": "8"}, "the size of its table is 8, of this portkit's portkit_device.h 128"),
        ({"WAIT": "NULL"}, "the function wait of its table is NULL"),
    ],
    ids=["no_function", "no_table", "version", "size", "null"],
)
def test_a_library_that_does_not_fit_the_header_is_refused(changes: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRunHere, match=re.escape(said)):
        DriverLibrary(library(tmp_path, **changes))


@pytest.mark.parametrize("text", [None, b"no library"], ids=["absent", "nonsense"])
def test_a_file_that_is_no_library_is_refused_with_the_loaders_words(text: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "driver.so"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(CannotRunHere, match=r"driver driver\.so cannot be loaded: .*driver\.so"):
        DriverLibrary(path)


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        ("PORTKIT_ERROR", DeviceError),
        ("PORTKIT_CANNOT_RUN_HERE", CannotRunHere),
        ("PORTKIT_OUT_OF_MEMORY", OutOfMemory),
        ("PORTKIT_BAD_PROGRAM", CompileError),
        ("PORTKIT_HANG", DeviceHang),
        ("PORTKIT_LOST", DeviceLost),
        ("99", DeviceError),
    ],
)
def test_a_status_becomes_an_error_of_portkit_with_the_drivers_words(
    status: str, ours: type[DeviceError], tmp_path: Path
) -> None:
    found = driver(tmp_path, STATUS=status)
    with (
        pytest.raises(DeviceError, match=f"testing: vendor error 0x17 .*{status}") as error,
        renamed(ERRORS, "testing"),
    ):
        found.wait(1)
    assert type(error.value) is ours
    assert isinstance(error.value.__cause__, DriverError)


def test_every_status_of_the_header_has_an_error() -> None:
    names = re.findall(r"^ {4}PORTKIT_(\w+) = [1-9]", HEADER.read_text(encoding="utf-8"), flags=re.MULTILINE)
    from portkit.backends.drivers.c_driver import _STATUSES

    assert names == list(_STATUSES)
    assert set(_STATUSES.values()) == set(ERRORS)


@pytest.mark.parametrize("words", ["NULL", '""'])
def test_a_driver_that_says_nothing_is_said_to(words: str, tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="the driver gives no reason"):
        driver(tmp_path, STATUS="PORTKIT_ERROR", WORDS=words).free(0)


def test_the_probe_says_in_one_line_what_the_driver_lacks(tmp_path: Path) -> None:
    found = DriverLibrary(library(tmp_path, STATUS="PORTKIT_CANNOT_RUN_HERE", WORDS=r'"no card\nin slot 3"'))
    assert found.missing() == "no card in slot 3 (PORTKIT_CANNOT_RUN_HERE)"


def test_the_probe_of_a_good_driver_finds_nothing_missing(tmp_path: Path) -> None:
    assert DriverLibrary(library(tmp_path)).missing() is None


def test_info_is_text_whatever_its_bytes_are(good: CDriver) -> None:
    assert (good.info().device, good.info().driver, good.info().compiler) == ("a � chip", "4.2", "")


def test_addresses_have_all_their_64_bits(good: CDriver) -> None:
    assert good.allocate(8, 64) == 0xFFFF_FFFF_FFFF_F000


@pytest.mark.parametrize("data", [b"", b"\0one\0two", memoryview(b"view of bytes")], ids=["empty", "zeros", "view"])
def test_bytes_written_are_the_bytes_read(data: bytes | memoryview, good: CDriver) -> None:
    good.write(0x1008, data)
    assert good.read(0x1008, len(data)) == bytes(data)


def test_a_program_is_loaded_from_bytes_and_started_with_words(good: CDriver) -> None:
    program = good.load(b"\0ab")
    good.start(program, b"\1\2\0\3", groups=7, scratch=9)
    assert good.read(0, 7) == b"\1\2\0\3\1\7\x09"


@pytest.mark.parametrize(("seconds", "nanoseconds"), [(1.5, 1_500_000_000), (-1.0, 0), (1e300, 10**18)])
def test_time_limits_are_nanoseconds(seconds: float, nanoseconds: int, good: CDriver) -> None:
    good.wait(seconds)
    assert int.from_bytes(good.read(0, 8), "little") == nanoseconds


@pytest.mark.parametrize("standard", [("-x", "c", "-std=c99"), ("-x", "c++", "-std=c++11")], ids=["c99", "c++11"])
def test_the_header_stands_alone(standard: tuple[str, ...], tmp_path: Path) -> None:
    source = tmp_path / "alone.c"
    source.write_text("#include <portkit_device.h>\nportkit_status last;\n", encoding="utf-8")
    flags = (*standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{INCLUDE}", "-fsyntax-only")
    done = subprocess.run([*find_compiler(), *flags, str(source)], capture_output=True, text=True, check=False)
    if "cc1plus" in done.stderr:
        pytest.skip("the C compiler here has no C++")
    assert done.stderr == ""
