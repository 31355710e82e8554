"""Instruction selection: a short template of instructions for each pure form, for x registers and for v registers.

In a template `a b c` are the operands, `d` the result, names that start with t or v temporary x and v registers.
Numbers are immediates, f registers (0 to 2, for a moment only), or the mask v0. `MASKS` are the templates of bool in v.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portkit.backends.riscv.code import MASK, Code, Register, Value, const
from portkit.backends.riscv.isa import ENCODER
from portkit.errors import CompileError
from portkit.spec.forms import Op
from portkit.spec.kernel import Instr
from portkit.spec.types import BOOL, DType, Type

_NAN_UNLESS = "feq.s t2 0 0; feq.s t3 1 1; and t2 t2 t3; addi t2 t2 -1; lui t3 0x7fc00000; and t2 t2 t3; or d t1 t2"
"""fmax.s and fmin.s give the number where one operand is NaN; the spec gives NaN."""
_SATURATED = "feq.s t2 0 0; sub t2 zero t2; and d t1 t2"
"""fcvt.w.s gives the largest integer for NaN; the spec gives 0."""

SCALARS = {
    "add/int": "addw d a b",
    "mul/int": "mulw d a b",
    "mul.hi/i32": "mul t1 a b; srai d t1 32",
    "mul.hi/u32": "slli t1 a 32; slli t2 b 32; mulhu t1 t1 t2; srai d t1 32",
    "mul.shl/int": "sllw d a b",
    "mul.shr/i32": "sraw d a b",
    "mul.shr/u32": "srlw d a b",
    "reduce.max/i32": "slt t1 a b; sub t1 zero t1; xor t2 a b; and t2 t2 t1; xor d a t2",
    "reduce.max/u32": "sltu t1 a b; sub t1 zero t1; xor t2 a b; and t2 t2 t1; xor d a t2",
    "reduce.min/i32": "slt t1 b a; sub t1 zero t1; xor t2 a b; and t2 t2 t1; xor d a t2",
    "reduce.min/u32": "sltu t1 b a; sub t1 zero t1; xor t2 a b; and t2 t2 t1; xor d a t2",
    "reduce.and/int": "and d a b",
    "reduce.or/int": "or d a b",
    "reduce.xor/int": "xor d a b",
    "reduce.and/bool": "and d a b",
    "reduce.or/bool": "or d a b",
    "reduce.xor/bool": "xor d a b",
    "add/f32": "fmv.w.x 0 a; fmv.w.x 1 b; fadd.s 0 0 1; fmv.x.w d 0",
    "mul/f32": "fmv.w.x 0 a; fmv.w.x 1 b; fmul.s 0 0 1; fmv.x.w d 0",
    "mul.add/f32": "fmv.w.x 0 a; fmv.w.x 1 b; fmv.w.x 2 c; fmadd.s 0 0 1 2; fmv.x.w d 0",
    "reduce.max/f32": f"fmv.w.x 0 a; fmv.w.x 1 b; fmax.s 2 0 1; fmv.x.w t1 2; {_NAN_UNLESS}",
    "reduce.min/f32": f"fmv.w.x 0 a; fmv.w.x 1 b; fmin.s 2 0 1; fmv.x.w t1 2; {_NAN_UNLESS}",
    "mov.cast/i32/f32": "fcvt.s.w 0 a; fmv.x.w d 0",
    "mov.cast/u32/f32": "fcvt.s.wu 0 a; fmv.x.w d 0",
    "mov.cast/f32/i32": f"fmv.w.x 0 a; fcvt.w.s t1 0; {_SATURATED}",
    "mov.cast/f32/u32": f"fmv.w.x 0 a; fcvt.wu.s t1 0; {_SATURATED}",
    "mov.recip/f32": "lui t1 0x3f800000; fmv.w.x 0 t1; fmv.w.x 1 a; fdiv.s 0 0 1; fmv.x.w d 0",
    "mov.sqrt/f32": "fmv.w.x 0 a; fsqrt.s 0 0; fmv.x.w d 0",
    "lt/i32": "slt d a b",
    "lt/u32": "sltu d a b",
    "lt/bool": "sltu d a b",
    "lt/f32": "fmv.w.x 0 a; fmv.w.x 1 b; flt.s d 0 1",
    "eq/int": "xor t1 a b; sltiu d t1 1",
    "eq/bool": "xor t1 a b; sltiu d t1 1",
    "eq/f32": "fmv.w.x 0 a; fmv.w.x 1 b; feq.s d 0 1",
    "select": "sub t1 zero a; xor t2 b c; and t2 t2 t1; xor d c t2",
}

_ORDERED = "vmfeq.vv 0 a a; vmerge.vvm v1 a b; vmfeq.vv 0 b b; vmerge.vvm v2 b a"
"""Operands of which, where one is NaN, both are."""

VECTORS = {
    "add/int": "vadd.vv d a b",
    "mul/int": "vmul.vv d a b",
    "mul.hi/i32": "vmulh.vv d a b",
    "mul.hi/u32": "vmulhu.vv d a b",
    "mul.shl/int": "vsll.vv d a b",
    "mul.shr/i32": "vsra.vv d a b",
    "mul.shr/u32": "vsrl.vv d a b",
    "reduce.max/i32": "vmax.vv d a b",
    "reduce.max/u32": "vmaxu.vv d a b",
    "reduce.min/i32": "vmin.vv d a b",
    "reduce.min/u32": "vminu.vv d a b",
    "reduce.and/int": "vand.vv d a b",
    "reduce.or/int": "vor.vv d a b",
    "reduce.xor/int": "vxor.vv d a b",
    "add/f32": "vfadd.vv d a b",
    "mul/f32": "vfmul.vv d a b",
    "mul.add/f32": "vmv.v.v d c; vfmacc.vv d a b",
    "reduce.max/f32": f"{_ORDERED}; vfmax.vv d v1 v2",
    "reduce.min/f32": f"{_ORDERED}; vfmin.vv d v1 v2",
    "mov.cast/i32/f32": "vfcvt.f.x.v d a",
    "mov.cast/u32/f32": "vfcvt.f.xu.v d a",
    "mov.cast/f32/i32": "vmv.v.i d 0; vmfeq.vv 0 a a; vfcvt.rtz.x.f.v.t d a",
    "mov.cast/f32/u32": "vmv.v.i d 0; vmfeq.vv 0 a a; vfcvt.rtz.xu.f.v.t d a",
    "mov.recip/f32": "lui t1 0x3f800000; fmv.w.x 0 t1; vfrdiv.vf d a 0",
    "mov.sqrt/f32": "vfsqrt.v d a",
    "lt/i32": "vmslt.vv d a b",
    "lt/u32": "vmsltu.vv d a b",
    "lt/f32": "vmflt.vv d a b",
    "eq/int": "vmseq.vv d a b",
    "eq/f32": "vmfeq.vv d a b",
    "select": "vmv1r.v 0 a; vmerge.vvm d c b",
}

MASKS = {
    "reduce.and/bool": "vmand.mm d a b",
    "reduce.or/bool": "vmor.mm d a b",
    "reduce.xor/bool": "vmxor.mm d a b",
    "lt/bool": "vmandn.mm d b a",
    "eq/bool": "vmxnor.mm d a b",
    "select": "vmand.mm v1 a b; vmandn.mm v2 c a; vmor.mm d v1 v2",
}

_WITH_SCALAR = {"mul.add/f32": "vmv.v.v d c; fmv.w.x 0 a; vfmacc.vf d 0 b"}
"""Templates whose operand `a` is uniform."""
_COMMUTE = frozenset(
    {"add", "mul", "mul.hi", "mul.add", "eq", *(f"reduce.{k}" for k in ("and", "or", "xor", "max", "min"))}
)
_COMPARISONS = frozenset({"lt", "eq"})
_TURNED = {"vmslt": "vmsgt", "vmsltu": "vmsgtu", "vmflt": "vmfgt"}
"""The comparison with its operands exchanged."""


def pure(code: Code, instr: Instr, types: Sequence[Type], args: Sequence[Value]) -> Value:
    """Write a pure instruction and return its result.

    Raises:
        CompileError: there is no template; the kernel needs more than the port declares.
    """
    source = types[0].dtype
    if instr.name in ("phi.lt", "phi.eq"):
        truth = operate(code, instr.name.removeprefix("phi."), source, args[:2])
        return select(code, truth, args[2], args[3], types[2].dtype)
    if instr.name in ("mov.cast", "mov.bits"):
        return _convert(code, instr, source, args[0])
    if instr.form.op is Op.REDUCE:
        return fold(code, instr.name, source, args)
    return operate(code, instr.name, source, args)


def fold(code: Code, name: str, dtype: DType, args: Sequence[Value]) -> Value:
    """Fold from left to right (Spec: reduce_c1)."""
    result = args[0]
    for arg in args[1:]:
        result = operate(code, name, dtype, (result, arg))
    return result


def operate(code: Code, name: str, dtype: DType, args: Sequence[Value]) -> Value:
    """Write the template of an operation on a dtype."""
    if all(arg.uniform for arg in args):
        text = _find(SCALARS, name, dtype)
        return Value("scalar", code.template(text, dict(zip("abc", map(code.x, args), strict=False))))
    if dtype == BOOL:
        text = _find(MASKS, name, dtype)
        return Value("mask", code.template(text, dict(zip("abc", map(code.mask, args), strict=False))))
    if name in _COMMUTE and args[1].uniform and not args[0].uniform:
        args = (args[1], args[0], *args[2:])
    if name == "add" and dtype.is_int and args[0].uniform and args[1].kind == "ramp":
        return Value("ramp", code.into("x", "addw", args[1].register, code.x(args[0])))
    kind = "mask" if name in _COMPARISONS else "vector"
    return Value(kind, _vector(code, f"{name}/{dtype}", _find(VECTORS, name, dtype), args))


def _find(table: Mapping[str, str], name: str, dtype: DType) -> str:
    """Return the template of a dtype, or else of all integers."""
    keys = (f"{name}/{dtype}", f"{name}/int" if dtype.is_int else "")
    text = next((table[key] for key in keys if key in table), None)
    if text is None:
        raise CompileError(f"{name} on {dtype} has no template; legalise the kernel to the declared forms")
    return text


def _vector(code: Code, key: str, text: str, args: Sequence[Value]) -> Register:
    """Write a template for v registers, or the instruction that takes its uniform operand from an x or f register."""
    if key in _WITH_SCALAR and args[0].uniform:
        names: dict[str, Register] = {"a": code.x(args[0]), **dict(zip("bc", map(code.v, args[1:]), strict=True))}
        return code.template(_WITH_SCALAR[key], names)
    name, _, shape = text.partition(".")
    if shape == "vv d a b" and args[0].uniform != args[1].uniform:
        name, vector, scalar = (name, *args) if args[1].uniform else (_TURNED.get(name, name), args[1], args[0])
        turned = args[1].uniform or key.partition("/")[0] in _COMMUTE or name in _TURNED.values()
        operand = _scalar_operand(code, name, scalar) if turned else None
        if operand is not None:
            return code.into("v", operand[0], code.v(vector), operand[1])
    return code.template(text, dict(zip("abc", map(code.v, args), strict=False)))


def _scalar_operand(code: Code, name: str, value: Value) -> tuple[str, Register] | None:
    """Return the instruction that takes a uniform second operand, and that operand; None if there is none."""
    field = ENCODER.operands(f"{name}.vi")[2].field if f"{name}.vi" in ENCODER.names else ""
    if value.kind == "const" and field == "uimm":
        return f"{name}.vi", value.bits % 32
    if value.kind == "const" and field == "imm" and -16 <= value.bits < 16:
        return f"{name}.vi", value.bits
    if f"{name}.vx" in ENCODER.names:
        return f"{name}.vx", code.x(value)
    if f"{name}.vf" in ENCODER.names:
        code.emit("fmv.w.x", 0, code.x(value))
        return f"{name}.vf", 0
    return None


def select(code: Code, truth: Value, x: Value, y: Value, dtype: DType) -> Value:
    """Return x where a bool holds, else y."""
    names = {"a": truth, "b": x, "c": y}
    if all(value.uniform for value in names.values()):
        return Value("scalar", code.template(SCALARS["select"], {n: code.x(v) for n, v in names.items()}))
    if dtype == BOOL and (x, y) == (const(1), const(0)):
        return truth
    if dtype == BOOL:
        return Value("mask", code.template(MASKS["select"], {n: code.mask(v) for n, v in names.items()}))
    mask, otherwise = code.mask(truth), code.v(y)
    chosen = code.x(x) if x.uniform else code.v(x)
    code.emit("vmv1r.v", MASK, mask)
    return Value("vector", code.into("v", "vmerge.vxm" if x.uniform else "vmerge.vvm", otherwise, chosen))


def _convert(code: Code, instr: Instr, source: DType, x: Value) -> Value:
    """Integers of a width are the same bits; a ramp is one of integers only."""
    target = instr.type.dtype if instr.type else source
    if instr.name == "mov.cast" and source.is_float != target.is_float:
        return operate(code, f"mov.cast/{source}", target, (x,))
    return Value("vector", code.v(x)) if x.kind == "ramp" and target.is_float else x
