"""LLVM IR text of the loops that bound what a processor can do; lanes, accumulators and steps are filled in here."""

from __future__ import annotations

CHAIN_STEPS = 64
"""Dependent additions in one turn of the clock loop; each takes one cycle on every processor that portkit knows."""

TRIAD_GROUP = 8_192
"""Elements of one work-group of the triad."""

_LOOP = """
define void @{name}(ptr %args, i64 %begin, i64 %end, ptr %scratch) {{
start:
{setup}
  br label %group
group:
  %g = phi i64 [ %begin, %start ], [ %g.next, %group.end ]
{group}
  br label %turn
turn:
  %k = phi i64 [ 0, %group ], [ %k.next, %turn ]
{turn}
  %k.next = add i64 %k, 1
  %more = icmp ult i64 %k.next, %turns
  br i1 %more, label %turn, label %group.end
group.end:
{finish}
  %g.next = add i64 %g, 1
  %again = icmp slt i64 %g.next, %end
  br i1 %again, label %group, label %stop
stop:
  ret void
}}
"""


def _lines(template: str, count: int) -> str:
    return "\n".join(template.format(i=i, next=i + 1, at=i + 4) for i in range(count))


def clock_text() -> str:
    """A loop of `CHAIN_STEPS` dependent one-cycle operations; args: i64 turns, i64 operand, i64 sink."""
    chain = "\n".join(f"  %x{i + 1} = {'add' if i % 2 else 'xor'} i64 %x{i}, %operand" for i in range(CHAIN_STEPS))
    return _LOOP.format(
        name="clock",
        setup="""  %turns = load i64, ptr %args
  %operand.p = getelementptr i64, ptr %args, i64 1
  %operand = load i64, ptr %operand.p
  %sink = getelementptr i64, ptr %args, i64 2""",
        group="",
        turn=f"  %x0 = phi i64 [ %g, %group ], [ %x{CHAIN_STEPS}, %turn ]\n{chain}",
        finish=f"  store i64 %x{CHAIN_STEPS}, ptr %sink",
    )


def fma_text(lanes: int, accumulators: int) -> str:
    """Independent chains of fused multiply-adds in registers; args: i64 turns, f32 factor, f32 term, f32 sinks."""
    vector = f"<{lanes} x float>"
    splat = f"""  %{{0}}.p = getelementptr float, ptr %args, i64 {{1}}
  %{{0}}.scalar = load float, ptr %{{0}}.p
  %{{0}}.one = insertelement {vector} poison, float %{{0}}.scalar, i32 0
  %{{0}} = shufflevector {vector} %{{0}}.one, {vector} poison, <{lanes} x i32> zeroinitializer"""
    turn = _lines(f"  %a{{i}} = phi {vector} [ %term, %group ], [ %b{{i}}, %turn ]", accumulators)
    fma = f"call {vector} @llvm.fma.v{lanes}f32({vector} %a{{i}}, {vector} %factor, {vector} %term)"
    sink = f"""  %s{{i}} = getelementptr float, ptr %args, i64 {{at}}
  %e{{i}} = extractelement {vector} %b{{i}}, i32 0
  store float %e{{i}}, ptr %s{{i}}"""
    declare = f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})\n"
    return declare + _LOOP.format(
        name="fma",
        setup="  %turns = load i64, ptr %args\n" + splat.format("factor", 2) + "\n" + splat.format("term", 3),
        group="",
        turn=turn + "\n" + _lines(f"  %b{{i}} = {fma}", accumulators),
        finish=_lines(sink, accumulators),
    )


def triad_text(lanes: int, *, streaming: bool) -> str:
    """Stream a[i] = b[i] + s * c[i], one group being `TRIAD_GROUP` elements; args: pointers a, b, c and f32 s.

    With *streaming* the stores bypass the caches, which saves reading `a` before it is overwritten.
    """
    vector = f"<{lanes} x float>"
    hint = ", !nontemporal !0" if streaming else ""
    return "!0 = !{i32 1}\n" + _LOOP.format(
        name="triad",
        setup=f"""  %a = load ptr, ptr %args
  %b.p = getelementptr ptr, ptr %args, i64 1
  %b = load ptr, ptr %b.p
  %c.p = getelementptr ptr, ptr %args, i64 2
  %c = load ptr, ptr %c.p
  %s.p = getelementptr ptr, ptr %args, i64 3
  %s.scalar = load float, ptr %s.p
  %s.one = insertelement {vector} poison, float %s.scalar, i32 0
  %s = shufflevector {vector} %s.one, {vector} poison, <{lanes} x i32> zeroinitializer
  %turns = add i64 0, {TRIAD_GROUP // lanes}""",
        group=f"  %base = mul i64 %g, {TRIAD_GROUP}",
        turn=f"""  %offset = mul i64 %k, {lanes}
  %i = add i64 %base, %offset
  %pa = getelementptr inbounds float, ptr %a, i64 %i
  %pb = getelementptr inbounds float, ptr %b, i64 %i
  %pc = getelementptr inbounds float, ptr %c, i64 %i
  %vb = load {vector}, ptr %pb, align 64
  %vc = load {vector}, ptr %pc, align 64
  %product = fmul {vector} %s, %vc
  %va = fadd {vector} %vb, %product
  store {vector} %va, ptr %pa, align 64{hint}""",
        finish="",
    )
