"""Instruction selection: for each pure form a short template for x registers and one for v registers.

In a template `a b c` are the operands, `d` the result, `%x1` and `%v1` temporary registers; numbers are immediates, f
registers (0 to 2, for a moment only), or the mask v0. In v registers bool is a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

from portkit.backends.riscv.code import MASK, Code, Register, Value, const
from portkit.backends.riscv.isa import ENCODER, ZERO
from portkit.errors import CompileError
from portkit.spec.forms import Op
from portkit.spec.kernel import Instr
from portkit.spec.types import BOOL, DType, Type

_FLOATS = "fmv.w.x 0 a; fmv.w.x 1 b"
_LESSER = "sub %x1 zero %x1; xor %x2 a b; and %x2 %x2 %x1; xor d a %x2"
"""b where %x1 is 1, else a."""
_NAN = (
    "feq.s %x1 0 0; feq.s %x2 1 1; and %x1 %x1 %x2; addi %x1 %x1 -1; lui %x2 0x7fc00000; and %x1 %x1 %x2; or d %x3 %x1"
)
"""fmax.s and fmin.s give the number where one operand is NaN; the spec gives NaN."""
_NANS = "vmfeq.vv 0 a a; vmerge.vvm %v1 a b; vmfeq.vv 0 b b; vmerge.vvm %v2 b a"
"""Operands of which, where one is NaN, both are."""
_NUMBER, _NUMBERS = "feq.s %x2 0 0; sub %x2 zero %x2; and d %x1 %x2", "vmv.v.i d 0; vmfeq.vv 0 a a; fsrmi_rtz"
"""Conversions to integers give the largest for NaN; the spec gives 0. QEMU 7.2 dies of `vfcvt.rtz` on a new page."""
_SELECT = "sub %x1 zero a; xor %x2 b c; and %x2 %x2 %x1; xor d c %x2"
_ONE = "lui %x1 0x3f800000; fmv.w.x 0 %x1"

TEMPLATES = {
    "add/int": ("addw d a b", "vadd.vv d a b"),
    "mul/int": ("mulw d a b", "vmul.vv d a b"),
    "mul.hi/i32": ("mul %x1 a b; srai d %x1 32", "vmulh.vv d a b"),
    "mul.hi/u32": ("slli %x1 a 32; slli %x2 b 32; mulhu %x1 %x1 %x2; srai d %x1 32", "vmulhu.vv d a b"),
    "mul.shl/int": ("sllw d a b", "vsll.vv d a b"),
    "mul.shr/i32": ("sraw d a b", "vsra.vv d a b"),
    "mul.shr/u32": ("srlw d a b", "vsrl.vv d a b"),
    "reduce.max/i32": (f"slt %x1 a b; {_LESSER}", "vmax.vv d a b"),
    "reduce.max/u32": (f"sltu %x1 a b; {_LESSER}", "vmaxu.vv d a b"),
    "reduce.min/i32": (f"slt %x1 b a; {_LESSER}", "vmin.vv d a b"),
    "reduce.min/u32": (f"sltu %x1 b a; {_LESSER}", "vminu.vv d a b"),
    "reduce.and/int": ("and d a b", "vand.vv d a b"),
    "reduce.or/int": ("or d a b", "vor.vv d a b"),
    "reduce.xor/int": ("xor d a b", "vxor.vv d a b"),
    "reduce.and/bool": ("and d a b", "vmand.mm d a b"),
    "reduce.or/bool": ("or d a b", "vmor.mm d a b"),
    "reduce.xor/bool": ("xor d a b", "vmxor.mm d a b"),
    "add/f32": (f"{_FLOATS}; fadd.s 0 0 1; fmv.x.w d 0", "vfadd.vv d a b"),
    "mul/f32": (f"{_FLOATS}; fmul.s 0 0 1; fmv.x.w d 0", "vfmul.vv d a b"),
    "mul.add/f32": (f"{_FLOATS}; fmv.w.x 2 c; fmadd.s 0 0 1 2; fmv.x.w d 0", "vmv.v.v d c; vfmacc.vv d a b"),
    "reduce.max/f32": (f"{_FLOATS}; fmax.s 2 0 1; fmv.x.w %x3 2; {_NAN}", f"{_NANS}; vfmax.vv d %v1 %v2"),
    "reduce.min/f32": (f"{_FLOATS}; fmin.s 2 0 1; fmv.x.w %x3 2; {_NAN}", f"{_NANS}; vfmin.vv d %v1 %v2"),
    "mov.cast.i32/f32": ("fcvt.s.w 0 a; fmv.x.w d 0", "vfcvt.f.x.v d a"),
    "mov.cast.u32/f32": ("fcvt.s.wu 0 a; fmv.x.w d 0", "vfcvt.f.xu.v d a"),
    "mov.cast.f32/i32": (f"fmv.w.x 0 a; fcvt.w.s %x1 0; {_NUMBER}", f"{_NUMBERS}; vfcvt.x.f.v.t d a; fsrmi_rne"),
    "mov.cast.f32/u32": (f"fmv.w.x 0 a; fcvt.wu.s %x1 0; {_NUMBER}", f"{_NUMBERS}; vfcvt.xu.f.v.t d a; fsrmi_rne"),
    "mov.recip/f32": (f"{_ONE}; fmv.w.x 1 a; fdiv.s 0 0 1; fmv.x.w d 0", f"{_ONE}; vfrdiv.vf d a 0"),
    "mov.sqrt/f32": ("fmv.w.x 0 a; fsqrt.s 0 0; fmv.x.w d 0", "vfsqrt.v d a"),
    "lt/i32": ("slt d a b", "vmslt.vv d a b"),
    "lt/u32": ("sltu d a b", "vmsltu.vv d a b"),
    "lt/f32": (f"{_FLOATS}; flt.s d 0 1", "vmflt.vv d a b"),
    "lt/bool": ("sltu d a b", "vmandn.mm d b a"),
    "eq/int": ("xor %x1 a b; sltiu d %x1 1", "vmseq.vv d a b"),
    "eq/f32": (f"{_FLOATS}; feq.s d 0 1", "vmfeq.vv d a b"),
    "eq/bool": ("xor %x1 a b; sltiu d %x1 1", "vmxnor.mm d a b"),
    "store.atomic.add/int": ("amoadd.w zero b a", ""),
    "store.atomic.max/i32": ("amomax.w zero b a", ""),
    "store.atomic.max/u32": ("amomaxu.w zero b a", ""),
    "store.atomic.min/i32": ("amomin.w zero b a", ""),
    "store.atomic.min/u32": ("amominu.w zero b a", ""),
    "select/bool": (_SELECT, "vmand.mm %v1 a b; vmandn.mm %v2 c a; vmor.mm d %v1 %v2"),
}
_FMA_BY_SCALAR = "vmv.v.v d c; fmv.w.x 0 a; vfmacc.vf d 0 b"
_COMMUTE = ("add", "mul", "mul.hi", "mul.add", "eq", *(f"reduce.{kind}" for kind in ("and", "or", "xor", "max", "min")))
_TURNED = {"vmslt": "vmsgt", "vmsltu": "vmsgtu", "vmflt": "vmfgt"}
"""The comparison with its operands exchanged."""


def pure(code: Code, instr: Instr, types: Sequence[Type], args: Sequence[Value]) -> Value:
    """Write a pure instruction and return its result.

    Raises:
        CompileError: there is no template; the kernel needs more than the port declares.
    """
    dtype, name = types[0].dtype, instr.name
    if name in ("phi.lt", "phi.eq"):
        truth = operate(code, name.removeprefix("phi."), dtype, args[:2])
        return select(code, truth, args[2], args[3], types[2].dtype)
    if name in ("mov.cast", "mov.bits"):
        return _convert(code, name, dtype, instr.type.dtype if instr.type else dtype, args[0])
    if instr.form.op is not Op.REDUCE:
        return operate(code, name, dtype, args)
    result = args[0]
    for arg in args[1:]:
        result = operate(code, name, dtype, (result, arg))
    return result


def find(name: str, dtype: DType) -> tuple[str, str]:
    """Return the templates of a form on a dtype."""
    templates = TEMPLATES.get(f"{name}/{dtype}") or TEMPLATES.get(f"{name}/int" if dtype.is_int else "")
    if templates is None:
        raise CompileError(f"{name} on {dtype} has no template; legalise the kernel to the declared forms")
    return templates


def operate(code: Code, name: str, dtype: DType, args: Sequence[Value]) -> Value:
    """Write the template of an operation on a dtype."""
    templates = find(name, dtype)
    if all(arg.uniform for arg in args):
        return Value("scalar", write(code, templates[0], [code.x(arg) for arg in args]))
    if dtype == BOOL:
        return Value("mask", write(code, templates[1], [code.mask(arg) for arg in args]))
    if name in _COMMUTE and not args[0].uniform and args[1].uniform:
        args = (args[1], args[0], *args[2:])
    if name == "add" and dtype.is_int and args[0].uniform and args[1].kind == "ramp":
        return Value("ramp", code.into("addw", args[1].register, code.x(args[0])))
    if name == "mul.add" and args[0].uniform:
        return Value("vector", write(code, _FMA_BY_SCALAR, [code.x(args[0]), code.v(args[1]), code.v(args[2])]))
    result = _by_scalar(code, name, templates[1], args) or write(code, templates[1], [code.v(arg) for arg in args])
    return Value("mask" if name in ("lt", "eq") else "vector", result)


def write(code: Code, text: str, args: Sequence[Register]) -> Register:
    """Write a template with its operands."""
    return code.template(text, {"zero": ZERO, **dict(zip("abc", args, strict=False))})


def _by_scalar(code: Code, name: str, text: str, args: Sequence[Value]) -> Register | None:
    """Write the instruction whose second operand is uniform: an immediate, an x or an f register; None if none is."""
    stem, _, shape = text.partition(".")
    if shape != "vv d a b" or args[0].uniform == args[1].uniform:
        return None
    vector, scalar = args if args[1].uniform else (args[1], args[0])
    if args[0].uniform and name not in _COMMUTE:
        stem = _TURNED.get(stem, "")
    if scalar.kind == "const" and 0 <= scalar.bits < 16 and f"{stem}.vi" in ENCODER.names:
        return code.into(f"{stem}.vi", code.v(vector), scalar.bits)
    if f"{stem}.vx" in ENCODER.names:
        return code.into(f"{stem}.vx", code.v(vector), code.x(scalar))
    if f"{stem}.vf" not in ENCODER.names:
        return None
    code.emit("fmv.w.x", 0, code.x(scalar))
    return code.into(f"{stem}.vf", code.v(vector), 0)


def select(code: Code, truth: Value, x: Value, y: Value, dtype: DType) -> Value:
    """Return x where a bool holds, else y."""
    if dtype == BOOL and (x, y) == (const(1), const(0)):
        return truth
    if dtype == BOOL or (truth.uniform and x.uniform and y.uniform):
        return operate(code, "select", BOOL, (truth, x, y))
    mask, otherwise = code.mask(truth), code.v(y)
    chosen = code.x(x) if x.uniform else code.v(x)
    code.emit("vmv1r.v", MASK, mask)
    return Value("vector", code.into("vmerge.vxm" if x.uniform else "vmerge.vvm", otherwise, chosen))


def _convert(code: Code, name: str, source: DType, target: DType, x: Value) -> Value:
    """Convert where the bits change: not between integers, and a ramp is one of integers only."""
    if name == "mov.cast" and source != target and (source.is_float or target.is_float):
        return operate(code, f"mov.cast.{source}", target, (x,))
    return Value("vector", code.v(x)) if x.kind == "ramp" and target.is_float else x
