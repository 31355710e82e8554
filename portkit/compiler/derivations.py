"""The texts of `portkit.spec.derivations`: what the compiler writes for a device that has no extension.

python -m portkit.compiler.derivations

writes the files anew; a test checks that they are what it would write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from portkit.compiler.accuracy import EXACT, ROUNDED, ulp_bound
from portkit.compiler.decompose import emit
from portkit.compiler.features import BASE
from portkit.compiler.legalise import legalise
from portkit.contract import Capabilities, NumericLimits
from portkit.spec.builder import Builder
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.types import DTYPES, F32, DType

_LANES = 64
_DEVICE = Capabilities("base", "1.0", "portkit", "stand-in", numeric=NumericLimits(strict=True))
_UNARY = "recip sqrt rsqrt exp exp2 log log2 sin cos tan tanh sigmoid erf floor ceil round trunc"
_NARROW = ("f16", "bf16")


@dataclass(frozen=True, slots=True)
class _Row:
    """A derivation: a function of the graph language, the dtype of its operands, how many, and its result."""

    name: str
    function: str
    dtype: DType
    result: DType
    operands: str = "x"


def _rows() -> Iterator[_Row]:
    for function in _UNARY.split():
        yield _Row(f"{function}_f32", function, F32, F32)
    for function in ("div", "pow"):
        yield _Row(f"{function}_f32", function, F32, F32, "xy")
    for function, names in (("idiv imod", "i32 u32"), ("tdiv tmod", "i32")):
        for name in names.split():
            for each in function.split():
                yield _Row(f"{each}_{name}", each, DTYPES[name], DTYPES[name], "xy")
    for name in _NARROW:
        yield _Row(f"{name}_to_f32", "cast", DTYPES[name], F32)
        yield _Row(f"f32_to_{name}", "cast", F32, DTYPES[name])


ROWS = {row.name: row for row in _rows()}


def derivation_text(name: str) -> str:
    """Return the text of a derivation's kernel, with a comment on what it computes and how well."""
    row = ROWS[name]
    version, *lines = format_kernel(_kernel(row)).splitlines(keepends=True)
    return "".join([version, f"# {_comment(row)}\n", *lines])


def _comment(row: _Row) -> str:
    call = f"{row.function}({', '.join(row.operands)})" if row.function != "cast" else f"x as {row.result}"
    what = f"{call} of {row.dtype}"
    if row.function == "cast":
        return f"{what}, the narrow float in the low bits of a u32"
    if row.dtype.is_int:
        return f"{what}, 0 where y is 0"
    bound = ulp_bound(row.function, row.dtype, BASE)
    said = {EXACT: "exact", ROUNDED: "correctly rounded"}.get(bound, f"within {bound} ulp")
    return f"{what}, {said}"


def _kernel(row: _Row) -> Kernel:
    """Return out[i] = f(x[i]) or f(x[i], y[i]) for the elements of whole work-groups."""
    b = Builder(row.name, "strict")
    extent = ("groups", _LANES)
    sources = [b.buffer(name, row.dtype.name, extent, "read") for name in row.operands]
    target = b.buffer("out", row.result.name, extent, "write")
    group, lane = b.grid(b.scalar("groups", "i32")), b.lane(_LANES)
    item = b.add(b.mul(group, b.const("i32", _LANES)), lane)
    values = [b.load(source, item) for source in sources]
    b.store(target, item, emit(b, row.function, values, row.result, BASE))
    narrow = row.function == "cast"
    return _without_unused(legalise(b.build(), _DEVICE).kernel if narrow else b.build())


def _without_unused(kernel: Kernel) -> Kernel:
    """Return the kernel without pure instructions whose results nothing reads."""
    used, kept = set[str](), list[Instr]()
    for instr in reversed(kernel.body):
        if instr.form.effect != "pure" or instr.result in used:
            used.update(instr.reads)
            kept.append(instr)
    return replace(kernel, body=tuple(reversed(kept)))


def main() -> None:
    """Write every file anew."""
    folder = Path(str(resources.files("portkit.spec.derivations")))
    for name in ROWS:
        (folder / f"{name}.pk").write_text(derivation_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
