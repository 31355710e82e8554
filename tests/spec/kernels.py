"""The kernel texts that the tests of the spec vary."""

from __future__ import annotations

DOT = """\
portkit 1.0-draft
kernel dot
buffer x f32[n] read
buffer y f32[n] read
buffer out f32[8] write
scalar n i32
shared tile f32[256]
begin
width = mov.const i32 256
two = mov.const i32 2
izero = mov.const i32 0
zero = mov.const f32 0.0
true = mov.const bool true
false = mov.const bool false
g = loop.grid 8
l = loop.lane 256
k = loop.serial two
acc = phi.carry zero
o = mul k width
i = add o l
p = phi.lt i n true false
xv = load x i if p else zero
yv = load y i if p else zero
t = mul xv yv
s = add acc t
endloop k acc=s
store tile l acc
barrier
tot = load tile izero
first = phi.eq l izero true false
store out g tot if first
endloop l
endloop g
"""
"""A valid kernel with a carry, gates, shared memory and a barrier; base forms only."""

COPIES = """\
portkit 1.0-draft
kernel copies
buffer x f32[1024] read
shared tile f32[64]
begin
z = mov.const i32 0
g = loop.grid 1
l = loop.lane 1
t0 = load.async tile z <- x z 8
k = loop.serial 4
cur = phi.carry t0
nxt = load.async tile z <- x z 8
wait.token cur
endloop k cur=nxt
wait.token cur
endloop l
endloop g
"""
"""Double buffering: a token goes round the loop."""

VECTORS = """\
portkit 1.0-draft
kernel vectors
buffer x f32[64] read
buffer out f32[64] write
buffer count i32[4] readwrite
begin
one = mov.const i32 1
four = mov.const i32 4
g = loop.grid 1
l = loop.lane 16
i = mul l four
v = load.vec f32x4 x i align 16
e = mov.lane v 3
q = mov.sqrt v
store.vec out i q align 16
store.atomic.add count one l
endloop l
endloop g
"""
"""Extension forms: vectors, a native square root, an atomic store."""


def edited(text: str, *edits: tuple[str, str]) -> str:
    """Return a text with parts replaced, each of which must occur."""
    for old, new in edits:
        assert old in text, f"{old!r} is not in the text"
        text = text.replace(old, new, 1)
    return text
