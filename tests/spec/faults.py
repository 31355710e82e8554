"""Texts that break one rule each, and texts right beside them that break none."""

from __future__ import annotations

from tests.spec.kernels import COPIES, DOT, VECTORS

STORE = "store out g tot if first\n"
BARRIER = "barrier\n"
EMPTY = "portkit 1.0-draft\nkernel k\nbegin\n"

Edits = list[tuple[str, str]]


def loops(depth: int) -> str:
    """Return that many serial loops, one inside the other."""
    heads = [f"z{n} = loop.serial 1" for n in range(depth)]
    ends = [f"endloop z{n}" for n in reversed(range(depth))]
    return "\n".join([*heads, *ends, ""])


# (clause, text, edits): the text verifies, the edited text breaks the clause.
TEXTS: dict[str, tuple[str, str, Edits]] = {
    "an extent names an unknown scalar": ("header_c3", DOT, [("x f32[n]", "x f32[m]")]),
    "an extent names an f32 scalar": (
        "header_c3",
        DOT,
        [("scalar n i32", "scalar n i32\nscalar m f32"), ("[n]", "[m]")],
    ),
    "no lane loop": ("nest_c1", EMPTY + "g = loop.grid 1\nendloop g\n", []),
    "no loops at all": ("nest_c1", EMPTY, []),
    "lanes outside a grid": ("nest_c1", EMPTY + "l = loop.lane 1\nendloop l\n", []),
    "a grid inside lanes": ("nest_c1", DOT, [("l = loop.lane 256", "l = loop.lane 256\nh = loop.grid 2")]),
    "a second nest": ("nest_c1", DOT, [("endloop g\n", "endloop g\nh = loop.grid 1\n")]),
    "a second lane loop beside the first": (
        "nest_c1",
        EMPTY + "g = loop.grid 1\nl = loop.lane 1\nendloop l\nm = loop.lane 1\nendloop m\nendloop g\n",
        [],
    ),
    "an open loop": ("nest_c1", DOT, [("endloop g\n", "")]),
    "a grid without lanes beside one with": ("nest_c1", DOT, [("g = loop", "h = loop.grid 1\nendloop h\ng = loop")]),
    "a load before the lanes": ("nest_c2", DOT, [("l = loop.lane", "q = load x izero\nl = loop.lane")]),
    "a serial loop before the lanes": (
        "nest_c2",
        DOT,
        [("l = loop.lane", "q = loop.serial 1\nendloop q\nl = loop.lane")],
    ),
    "a store after the lanes": ("nest_c2", DOT, [(STORE, ""), ("endloop l\n", "endloop l\nstore out g zero\n")]),
    "a barrier after the nest": ("nest_c2", DOT, [("endloop g\n", "endloop g\nbarrier\n")]),
    "lanes in a serial loop": ("nest_c2", DOT, [("acc = phi.carry zero", "acc = phi.carry zero\nm = loop.lane 2")]),
    "a grid count from another index": (
        "nest_c3",
        DOT,
        [("l = loop.lane", "h = loop.grid g\nl = loop.lane"), ("endloop g", "endloop h\nendloop g")],
    ),
    "a grid count through floats": ("nest_c3", DOT, [("g = loop.grid 8", "q = mov.cast i32 zero\ng = loop.grid q")]),
    "too many groups": (
        "nest_c3",
        DOT,
        [("g = loop.grid 8", "h = loop.grid 2147483647\ng = loop.grid 8"), ("endloop g", "endloop g\nendloop h")],
    ),
    "a lane count in a register": ("nest_c4", DOT, [("loop.lane 256", "loop.lane width")]),
    "no lanes": ("nest_c4", DOT, [("loop.lane 256", "loop.lane 0")]),
    "endloop of an outer loop": ("endloop_c1", DOT, [("endloop k acc=s", "endloop l acc=s")]),
    "a carry without a next value": ("endloop_c1", DOT, [("endloop k acc=s", "endloop k")]),
    "a carry given twice": ("endloop_c1", DOT, [("endloop k acc=s", "endloop k acc=s acc=t")]),
    "a next value for what is no carry": ("endloop_c1", DOT, [("endloop k acc=s", "endloop k acc=s t=s")]),
    "a next value for a loop without carries": ("endloop_c1", DOT, [("endloop l", "endloop l acc=acc")]),
    "a carry after another instruction": (
        "carry_c1",
        DOT,
        [("o = mul k width", "o = mul k width\nc = phi.carry zero")],
    ),
    "a carry outside serial loops": ("carry_c1", DOT, [("k = loop.serial", "c = phi.carry zero\nk = loop.serial")]),
    "a carry before the nest": ("carry_c1", DOT, [("g = loop", "c = phi.carry zero\ng = loop")]),
    "a next value of another type": ("carry_c2", DOT, [("endloop k acc=s", "endloop k acc=i")]),
    "a value of a finished loop": ("name_c1", DOT, [("store tile l acc", "store tile l s")]),
    "an index of a finished loop": ("name_c1", DOT, [("store tile l acc", "store tile k acc")]),
    "a lane index after the lanes": ("name_c1", DOT, [("endloop l\n", "endloop l\nq = add l l\n")]),
    "a gate that is no bool": ("load_c2", DOT, [("if first", "if l")]),
    "an else value of another type": ("load_c2", DOT, [("if p else zero", "if p else izero")]),
    "a scalar gate of a vector": (
        "load_c2",
        VECTORS,
        [
            ("align 16\ne", "align 16 if t else v0\ne"),
            ("i = mul", "t = phi.lt l four b b\nv0 = load.vec f32x4 x l align 4\ni = mul"),
            ("one =", "b = mov.const bool true\none ="),
        ],
    ),
    "a lane beyond the vector": ("vec_c2", VECTORS, [("mov.lane v 3", "mov.lane v 4")]),
    "a negative lane": ("vec_c2", VECTORS, [("mov.lane v 3", "mov.lane v -1")]),
    "an alignment that is no power of two": ("load_c3", VECTORS, [("x i align 16", "x i align 12")]),
    "an alignment below the element": ("load_c3", VECTORS, [("x i align 16", "x i align 2")]),
    "an alignment beyond that of buffers": ("load_c3", VECTORS, [("out i q align 16", "out i q align 128")]),
    "a negative alignment": ("load_c3", VECTORS, [("x i align 16", "x i align -16")]),
    "a load from a write-only buffer": ("load_c5", DOT, [("xv = load x", "xv = load out")]),
    "a store to a read-only buffer": ("load_c5", DOT, [("store out", "store x")]),
    "an atomic store to a write-only buffer": ("load_c5", VECTORS, [("readwrite", "write")]),
    "a copy from a write-only buffer": ("load_c5", COPIES, [("1024] read", "1024] write")]),
    "a buffer used atomically and plainly": (
        "atomic_c1",
        VECTORS,
        [("store.atomic", "h = load count one\nstore.atomic")],
    ),
    "a buffer used by two atomic forms": (
        "atomic_c1",
        VECTORS,
        [("endloop l", "store.atomic.max count one l\nendloop l")],
    ),
    "a copy of nothing": ("async_c1", COPIES, [("x z 8", "x z 0")]),
    "a copy that is never waited": ("async_c2", COPIES, [("wait.token cur\nendloop l", "endloop l")]),
    "a copy waited twice": (
        "async_c2",
        COPIES,
        [("wait.token cur\nendloop l", "wait.token cur\nwait.token cur\nendloop l")],
    ),
    "a copy waited out of order": ("async_c2", COPIES, [("wait.token cur\nendloop k", "wait.token nxt\nendloop k")]),
    "a constant index beyond the extent": ("valid_c3", DOT, [("tile izero", "tile width")]),
    "a negative index": ("valid_c3", DOT, [("izero = mov.const i32 0", "izero = mov.const i32 -1")]),
    "a negative index into a dynamic extent": (
        "valid_c3",
        DOT,
        [("tot = load tile izero", "m = mov.const i32 -1\ntot = load x m")],
    ),
    "a vector longer than the buffer": ("valid_c3", VECTORS, [("x f32[64]", "x f32[3]")]),
    "a vector that ends beyond the extent": (
        "valid_c3",
        VECTORS,
        [("four = mov.const i32 4", "four = mov.const i32 62"), ("f32x4 x i align 16", "f32x4 x four align 4")],
    ),
    "a copy beyond its source": ("valid_c3", COPIES, [("x f32[1024]", "x f32[7]")]),
    "a copy beyond its target": ("valid_c3", COPIES, [("tile f32[64]", "tile f32[7]")]),
    "an index computed from constants": (
        "valid_c3",
        DOT,
        [("tot = load tile izero", "m = mul width two\ntot = load tile m")],
    ),
    "an index beyond in a loop that runs": ("valid_c3", DOT, [("t = mul xv yv", "t = load tile width")]),
    "a gate that is always true": ("valid_c3", DOT, [("store out g tot if first", "store out width tot if true")]),
    "a constant index against the alignment": ("valid_c7", VECTORS, [("f32x4 x i align", "f32x4 x one align")]),
    "a native exp2 under strict": (
        "numeric_c3",
        VECTORS,
        [("mov.sqrt", "mov.exp2"), ("begin", "numeric strict\nbegin")],
    ),
    "a float atomic under strict": (
        "numeric_c3",
        VECTORS,
        [("count i32", "count f32"), ("count one l", "count one e"), ("begin", "numeric strict\nbegin")],
    ),
    "a barrier in a loop of differing counts": (
        "barrier_c2",
        DOT,
        [("loop.serial two", "loop.serial l"), ("t = mul", "barrier\nt = mul")],
    ),
    "a group reduction in such a loop": (
        "barrier_c2",
        DOT,
        [("loop.serial two", "loop.serial l"), ("t = mul xv yv", "t = reduce.group.add xv")],
    ),
    "a wait in such a loop": ("barrier_c2", COPIES, [("loop.serial 4", "loop.serial l")]),
    "a barrier in a loop inside such a loop": (
        "barrier_c2",
        DOT,
        [("loop.serial two", "loop.serial l"), ("t = mul", "q = loop.serial 2\nbarrier\nendloop q\nt = mul")],
    ),
    "a barrier in a loop that counts to what a lane wrote": (
        "barrier_c2",
        DOT,
        [("first = phi", "c = mov.cast i32 tot\nq = loop.serial c\nbarrier\nendloop q\nfirst = phi")],
    ),
    "a form not in use yet": ("ext_c2", DOT, [(BARRIER, "barrier.grid\n")]),
    "loops beyond 64 levels": ("limit_c2", DOT, [(BARRIER, loops(63))]),
}


# Right next to a fault, but right: the verifier must not refuse what may be valid.
ADMITTED: dict[str, tuple[str, Edits]] = {
    "a gated access beyond the extent": (DOT, [("store out g tot if first", "store out width tot if first")]),
    "an access beyond the extent in a loop that may not run": (
        DOT,
        [("loop.serial two", "loop.serial n"), ("t = mul xv yv", "t = load tile width")],
    ),
    "the last element": (VECTORS, [("four = mov.const i32 4", "four = mov.const i32 60"), ("x i al", "x four al")]),
    "a barrier in a loop of equal counts": (
        DOT,
        [("loop.serial two", "loop.serial n"), ("t = mul", "barrier\nt = mul")],
    ),
    "a differing count without a barrier": (DOT, [("loop.serial two", "loop.serial l")]),
    "a grid count from scalars": (DOT, [("g = loop.grid 8", "q = mul.shr n two\ng = loop.grid q")]),
    "a grid of zero": (DOT, [("g = loop.grid 8", "g = loop.grid 0")]),
    "2^31-1 groups": (DOT, [("g = loop.grid 8", "g = loop.grid 2147483647")]),
    "two lane loops": (
        DOT,
        [("l = loop.lane 256", "m = loop.lane 2\nl = loop.lane 256"), ("endloop l", "endloop l\nendloop m")],
    ),
    "pure instructions between and after the loops": (
        DOT,
        [
            ("l = loop", "q = add g g\nl = loop"),
            ("endloop l\n", "endloop l\nr = add q q\n"),
            ("endloop g\n", "endloop g\nv = add two two\n"),
        ],
    ),
    "swapping carries": (
        DOT,
        [("acc = phi.carry zero", "acc = phi.carry zero\nold = phi.carry zero"), ("acc=s", "acc=old old=acc")],
    ),
    "strict square roots": (VECTORS, [("begin", "numeric strict\nbegin")]),
    "an integer atomic under strict": (VECTORS, [("begin", "numeric strict\nbegin")]),
    "62 levels of loops in the body": (
        DOT,
        [(BARRIER, loops(62))],
    ),
}
