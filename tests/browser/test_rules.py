"""The page's judge against portkit's own: sets admit the same elements, images get the same verdict."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from portkit.conformance.bundle.browser import browser_capabilities
from portkit.conformance.bundle.judging import judge_outputs
from portkit.conformance.bundle.load import load_bundle
from portkit.conformance.bundle.make import Made, Wanted, make_bundle
from portkit.conformance.bundle.model import BundledCase
from portkit.conformance.bundle.outputs import make_outputs, read_outputs
from portkit.conformance.bundle.sets import Spelt, restore
from portkit.conformance.verdict import Verdict
from portkit.conformance.worker import open_client
from portkit.spec.types import DTYPES, DType
from tests.conformance.bundle.bundles import SIGNED_CASE, Files, case, index, made, outputs, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SCRIPT = "portkit/conformance/bundle/page/judge.js"
COUNT = 4000
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page with nothing but the judge; it keeps no state."""
    with browser.new_page() as opened:
        opened.add_script_tag(content=(ROOT / SCRIPT).read_text())
        opened.evaluate("globalThis.unpacked = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))")
        yield opened


def packed(content: bytes) -> str:
    return base64.b64encode(content).decode()


# --- acceptance sets ----------------------------------------------------------------------------------------------

ADMITS = """([dtype, rule, values, flags, actual]) => {
  const array = (text) => judge.elements(unpacked(text), dtype, 0, unpacked(text).length);
  const accepts = judge.admits(dtype, rule, values.map(array), flags ? unpacked(flags) : null);
  return Array.from(array(actual), (bits, k) => accepts(k, bits));
}"""


def near(dtype: DType, rng: np.random.Generator) -> Array:
    """Return bit patterns of a dtype: special ones, their neighbours, and any."""
    width = 8 * dtype.bytes
    if dtype.name == "bool":
        return rng.integers(0, 2, COUNT).astype(np.uint8)
    special = np.array([0, 1, (1 << (width - 1)) - 1, 1 << (width - 1), (1 << width) - 1], f"u{dtype.bytes}")
    infinite = np.array([np.inf, -np.inf, np.nan, 1, -1], dtype.numpy) if dtype.is_float else special.view(dtype.numpy)
    chosen = rng.choice(np.concatenate([special, infinite.view(special.dtype)]), COUNT)
    with np.errstate(over="ignore"):
        beside = chosen + rng.integers(-2, 3, COUNT).astype(chosen.dtype)
    any_ = np.frombuffer(rng.bytes(COUNT * dtype.bytes), chosen.dtype)
    return np.where(rng.random(COUNT) < 0.5, beside, any_)


def sets(dtype: DType, rng: np.random.Generator, *, nan_bits: bool) -> Spelt:
    """Return sets as a bundle spells them: both ends of an interval in order, or both one NaN.

    With `nan_bits` such a NaN admits its own bits alone, else any NaN.
    """
    flags = rng.choice(np.array([0, 0, 0, 1, 2, 3], np.uint8), COUNT)
    if not dtype.is_float:
        return Spelt("choice", tuple(near(dtype, rng).tobytes() for _ in range(3)), (flags & 2).tobytes())
    a, b = near(dtype, rng), near(dtype, rng)
    nan = is_nan(a, dtype) | is_nan(b, dtype)
    sign = np.array(1 << (8 * dtype.bytes - 1), a.dtype)
    order = np.where(a & sign, ~a, a | sign) <= np.where(b & sign, ~b, b | sign)
    either = np.where(is_nan(a, dtype), a, b)
    ends = (np.where(nan, either, np.where(order, a, b)), np.where(nan, either, np.where(order, b, a)))
    flags = np.where(nan, flags & 2 if nan_bits else flags | 1, flags)
    return Spelt("interval", (ends[0].tobytes(), ends[1].tobytes()), flags.tobytes())


def is_nan(bits: Array, dtype: DType) -> Array:
    with np.errstate(all="ignore"):
        return np.isnan(bits.view(dtype.numpy))


@pytest.mark.parametrize("nan_bits", [False, True])
@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.bytes <= 8], ids=str)
def test_the_page_admits_what_portkit_admits(page: Page, dtype: DType, nan_bits: bool) -> None:
    rng = np.random.default_rng(7)
    spelt = sets(dtype, rng, nan_bits=nan_bits)
    values = [packed(content) for content in spelt.values]
    for actual in (near(dtype, rng), *(np.frombuffer(value, f"u{dtype.bytes}") for value in spelt.values)):
        accepted = restore(dtype, spelt).accepts(actual.view(dtype.numpy))
        given = [dtype.name, spelt.rule, values, packed(spelt.flags), packed(actual.tobytes())]
        assert page.evaluate(ADMITS, given) == accepted.tolist()
        assert accepted.any()


# --- images -------------------------------------------------------------------------------------------------------

ALL = """([record, befores, afters, files]) => {
  const found = judge.all(record, befores.map(unpacked), afters.map(unpacked), (path) => unpacked(files[path]));
  return [found.verdict, found.reason, found.wrong, found.elements];
}"""


def place(name: str) -> int:
    """Return where in the image of the case something lies."""
    record = case(index())
    first, last = record["buffers"][0], record["buffers"][-1]
    return {
        "an element": last["offset"] + 8,
        "an input": first["offset"] + 4,
        "behind an input": first["offset"] + first["size"] + 3,
        "behind the result": last["offset"] + last["size"],
        "before every buffer": 100,
        "behind every buffer": record["image_bytes"] - 1,
    }[name]


PLACES = [
    "an element",
    "an input",
    "behind an input",
    "behind the result",
    "before every buffer",
    "behind every buffer",
]
Change = Callable[[bytes, bytes], bytes]


def flip(at: int) -> Change:
    return lambda after, before: after[:at] + bytes([after[at] ^ 0x10]) + after[at + 1 :]


CHANGES: dict[str, Callable[[], Change]] = {
    "nothing": lambda: lambda after, before: after,
    "nothing was written": lambda: lambda after, before: before,
    "everything is zero": lambda: lambda after, before: bytes(len(after)),
    **{name: lambda name=name: flip(place(name)) for name in PLACES},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_page_gives_an_image_the_verdict_that_portkit_gives_it(
    page: Page, tmp_path: Path, change: Callable[[], Change]
) -> None:
    record = case(index())
    launch = record["launches"][0]
    before, after = made().files[launch["before"]["path"]], outputs()[launch["after"]]
    changed = change()(after, before)
    with (
        load_bundle(write(tmp_path / "b.zip", made().files)) as loaded,
        read_outputs(write(tmp_path / "o.zip", {launch["after"]: changed}), loaded) as given,
    ):
        entry = judge_outputs(loaded, given, genuine=False).entries[0]
    assert entry.id == SIGNED_CASE
    files = {name: packed(content) for name, content in made().files.items() if name in json.dumps(record)}
    found = page.evaluate(ALL, [record, [packed(before)], [packed(changed)], files])
    assert found == [entry.verdict.value, entry.reason, entry.wrong, entry.elements]


# --- many images --------------------------------------------------------------------------------------------------

MANY = ("ops/phi.lt/f32", "ops/mul/f32/special", "ops/mul.hi", "kernels/shared/scan", "kernels/fuzz/base/0000")


@pytest.fixture(scope="module")
def many() -> Made:
    """A bundle some of whose cases are launched twice."""
    bundled = make_bundle(Wanted(browser_capabilities(), patterns=MANY))
    assert {len(each.launches) for each in bundled.bundle.cases} == {1, 2}
    return bundled


@pytest.fixture(scope="module")
def right(many: Made, tmp_path_factory: pytest.TempPathFactory) -> Files:
    path = write(tmp_path_factory.mktemp("many") / "b.zip", many.files)
    with closing(open_client("cpu", 10.0, "")) as client, load_bundle(path) as loaded:
        return make_outputs(loaded, client)


def shaken(record: BundledCase, befores: list[bytes], afters: list[bytes], rng: random.Random) -> list[bytes]:
    """Return images of a case in which a run of bytes is other ones, the poison, or those before the launch."""
    buffer = rng.choice(record.buffers)
    inside = rng.random() < 0.8
    start = rng.randrange(buffer.offset, buffer.offset + buffer.size) if inside else rng.randrange(len(afters[0]))
    end = min(start + rng.choice((1, 1, 4, 64, 4096)), buffer.offset + buffer.size if inside else len(afters[0]))
    changed: list[bytes] = []
    how = rng.randrange(4)
    for launch, before, after in zip(record.launches, befores, afters, strict=True):
        new = (
            before[start:end],
            bytes([launch.poison]) * (end - start),
            bytes(end - start),
            bytes(byte ^ (1 << rng.randrange(8)) for byte in after[start:end]),
        )[how]
        changed.append(after[:start] + new + after[end:] if how < 3 or rng.random() < 0.7 else after)
    return changed


@pytest.mark.parametrize("seed", range(8))
def test_images_changed_anywhere_get_the_same_verdicts(
    page: Page, tmp_path: Path, many: Made, right: Files, seed: int
) -> None:
    rng = random.Random(seed)
    images = dict(right)
    for record in many.bundle.cases:
        befores = [many.files[launch.before.path] for launch in record.launches]
        afters = [right[launch.after] for launch in record.launches]
        for launch, image in zip(record.launches, shaken(record, befores, afters, rng), strict=True):
            images[launch.after] = image
    with (
        load_bundle(write(tmp_path / "b.zip", many.files)) as loaded,
        read_outputs(write(tmp_path / "o.zip", images), loaded) as given,
    ):
        entries = judge_outputs(loaded, given, genuine=False).entries
    found = [judged_by_page(page, many, record, images) for record in many.bundle.cases]
    assert found == [[entry.verdict.value, entry.reason, entry.wrong, entry.elements] for entry in entries]
    assert Verdict.FAIL in {entry.verdict for entry in entries}


def judged_by_page(page: Page, many: Made, record: BundledCase, images: Files) -> Any:
    befores = [packed(many.files[launch.before.path]) for launch in record.launches]
    afters = [packed(images[launch.after]) for launch in record.launches]
    expected = [each for launch in record.launches for each in launch.expected]
    flags = [each.flags for each in expected if each.flags is not None]
    files = [file for each in expected for file in each.values] + flags
    contents = {file.path: packed(many.files[file.path]) for file in files}
    return page.evaluate(ALL, [msgspec.to_builtins(record), befores, afters, contents])
