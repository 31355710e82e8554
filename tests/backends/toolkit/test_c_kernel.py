"""Whole kernels as C for threads that run a work-group each, as text and under a sanitizer."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from portkit.backends.toolkit.c_kernel import print_c_kernel
from portkit.spec.builder import Builder
from portkit.spec.forms import FORMS, Form
from portkit.spec.kernel import Kernel
from portkit.spec.types import DType
from tests.backends.launching import LANES, operands, padded, pointwise

COMPILER = next(filter(None, map(shutil.which, ("gcc", "clang"))), "")
INTEGER_FORMS = [
    (form, dtype)
    for form in FORMS.values()
    if form.name in ("add", "mul", "mul.hi", "mul.shl", "mul.shr")
    for dtype in form.dtypes("T")
    if dtype.is_int
]
MAIN = """
static {type} a0[{count}] = {{{first}}}, a1[{count}] = {{{second}}}, out[{count}];
int main(void) {{
    const u64 args[] = {{(u64)a0, (u64)a1, (u64)out, {groups}}};
    static u8 scratch[{scratch}] __attribute__((aligned(64)));
    kernel(args, 0, {groups}, scratch);
    return 0;
}}
"""

needs_compiler = pytest.mark.skipif(not COMPILER, reason="there is no gcc or clang here")


@pytest.fixture(scope="module")
def sanitizer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where the compiler cannot make undefined operations trap."""
    probe = tmp_path_factory.mktemp("probe") / "probe.c"
    probe.write_text("int main(void) { return 0; }")
    if compile_and_run(probe, probe.parent):
        pytest.skip("the compiler has no -fsanitize=undefined")


def compile_and_run(source: Path, folder: Path) -> int:
    flags = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-fno-sanitize=alignment", "-w"]
    done = subprocess.run([COMPILER, *flags, source, "-o", folder / "program", "-lm"], check=False, capture_output=True)
    return done.returncode or subprocess.run([folder / "program"], check=False).returncode


@needs_compiler
@pytest.mark.usefixtures("sanitizer")
@pytest.mark.parametrize(("form", "dtype"), INTEGER_FORMS, ids=str)
def test_no_integer_operation_is_undefined_in_c(form: Form, dtype: DType, tmp_path: Path) -> None:
    first, second = padded(operands(dtype, 2, seed=form.name, extra=64), LANES)
    kernel = pointwise(form.name, (dtype.name, dtype.name), len(first))
    printed = print_c_kernel(kernel)
    source = tmp_path / "program.c"
    source.write_text(
        printed.text
        + MAIN.format(
            type=f"u{dtype.bits}",
            count=len(first),
            groups=len(first) // LANES,
            scratch=printed.scratch + 1,
            first=", ".join(f"{int(v) % (1 << dtype.bits)}ull" for v in first),
            second=", ".join(f"{int(v) % (1 << dtype.bits)}ull" for v in second),
        )
    )
    assert compile_and_run(source, tmp_path) == 0


def meeting() -> Kernel:
    b = Builder("meeting")
    out, board = b.buffer("out", "f32", 32, "write"), b.shared("board", "f32", 32)
    b.grid(1)
    lane = b.lane(32)
    value = b.cast(lane, "f32")
    b.store(board, lane, value)
    b.barrier()
    b.store(out, lane, b.add(value, b.load(board, b.op("reduce.xor", lane, b.const("i32", 1)))))
    return b.build()


def test_the_lanes_of_a_region_are_one_loop_that_may_run_them_at_once() -> None:
    text = print_c_kernel(meeting()).text
    assert len(re.findall(r"#pragma GCC ivdep\n +for \(u32 \w+ = 0u; \(s32\)\w+ < \(s32\)32u", text)) == 2


def test_what_a_lane_needs_beyond_a_barrier_has_room_in_the_scratch_memory() -> None:
    printed = print_c_kernel(meeting())
    assert printed.scratch >= 32 * 4 * 2
    assert re.search(r"\w+_slot0\[\w+\] = ", printed.text)


@needs_compiler
def test_a_register_that_is_cast_to_its_own_type_keeps_its_name(tmp_path: Path) -> None:
    b = Builder("kept")
    a, out, same = (b.buffer(n, "i32", 32, "read" if n == "a" else "write") for n in ("a", "out", "same"))
    b.grid(1)
    lane = b.lane(32)
    kept = b.load(a, lane)
    b.barrier()
    b.store(same, lane, b.cast(kept, "i32"))
    b.store(out, lane, kept)
    source = tmp_path / "kept.c"
    source.write_text(print_c_kernel(b.build()).text)
    done = subprocess.run([COMPILER, "-c", source, "-w", "-o", tmp_path / "kept.o"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
