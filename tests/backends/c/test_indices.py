"""Indices in C: what does not depend on the lane, plus what is known to be small."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from portkit.backends.c.vectors import DIALECT, VectorCode
from portkit.backends.toolkit.c_kernel import print_c_kernel
from portkit.backends.toolkit.code import Value
from tests.backends.toolkit.test_speed import axpy

COMPILER = next(filter(None, map(shutil.which, ("gcc", "clang"))), "")


class Loop:
    """A loop over 256 lanes around an index computation."""

    def __init__(self) -> None:
        self.code = VectorCode(DIALECT)
        self.lane, self.base = Value("lane", "i32"), Value("base", "i32")
        self.code.indices.counts(self.lane, self.code.literal("i32", 256))

    def text(self, index: Value) -> str:
        return self.code.element("x", index)


def test_a_base_and_a_lane_are_added_without_wrapping() -> None:
    loop = Loop()
    assert loop.text(loop.code.op("add", loop.base, loop.lane)) == "x[(s64)(s32)(base) + lane]"


def test_the_small_terms_of_a_sum_are_gathered_across_its_parts() -> None:
    loop = Loop()
    first = loop.code.op("add", loop.base, loop.code.op("mul", loop.lane, 4))
    assert loop.text(loop.code.op("add", first, 3)) == "x[(s64)(s32)(base) + v_1 + 3u]"


def test_a_negative_constant_stays_in_the_part_that_wraps() -> None:
    loop = Loop()
    shifted = loop.code.op("add", loop.lane, -1)
    assert loop.text(shifted) == "x[(s64)(s32)(0xffffffffu) + lane]"


def test_a_product_that_might_not_fit_counts_as_wild() -> None:
    loop = Loop()
    far = loop.code.op("mul", loop.lane, 1 << 24)
    assert loop.text(loop.code.op("add", far, loop.base)) == "x[v_2]"


def test_the_index_of_a_loop_of_unknown_length_counts_as_wild() -> None:
    loop = Loop()
    with loop.code.loop(Value("n", "i32")) as turn:
        assert loop.text(loop.code.op("add", turn.index, loop.base)) == "x[v_2]"


def test_a_renamed_register_is_still_known() -> None:
    loop = Loop()
    scaled = loop.code.named(loop.code.op("mul", loop.lane, 4), "scaled")
    assert loop.text(loop.code.op("add", loop.base, scaled)) == f"x[(s64)(s32)(base) + {scaled.text}]"


@pytest.mark.skipif(not COMPILER, reason="there is no gcc or clang here")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="reads x86-64 instructions")
def test_the_lanes_of_a_gated_kernel_become_vectors(tmp_path: Path) -> None:
    source = tmp_path / "axpy.c"
    source.write_text(print_c_kernel(axpy(), DIALECT).text)
    flags = ["-O3", "-march=x86-64-v3", "-ffp-contract=off", "-fno-trapping-math", "-w"]
    text = subprocess.run(
        [COMPILER, *flags, "-S", source, "-o", "-"], check=True, capture_output=True, text=True
    ).stdout
    assert re.findall(r"vmulps\s.*%ymm", text)
    assert "vfmadd" not in text
