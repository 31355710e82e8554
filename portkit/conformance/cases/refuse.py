"""Malformed kernels, which must be refused with the right clause before any device sees them.

Each row varies one thing of a kernel that is legal, which the control case accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from portkit.conformance.case import Case, CheckFailed, Level, Tier
from portkit.contract import Capabilities
from portkit.errors import SpecError
from portkit.spec.forms import VERSION
from portkit.spec.text import parse
from portkit.spec.verify import verify

if TYPE_CHECKING:
    from portkit.runtime.client import DeviceClient

_LOAD = "v = load x l"
_STORE = "store out l v"


@dataclass(frozen=True, slots=True)
class Fault:
    """The parts of a kernel's text of which one is wrong, and the clause that it breaks ("" for the control)."""

    clause: str
    body: str = f"{_LOAD}\n{_STORE}"
    header: str = ""
    before: str = ""
    first: str = f"portkit {VERSION}"
    out: str = "buffer out f32[64] write"
    grid: str = "g = loop.grid 2"
    lane: str = "l = loop.lane 64"
    end: str = "endloop l\nendloop g"

    @property
    def text(self) -> str:
        """The kernel's text."""
        head = (self.first, "kernel fault", "buffer x f32[64] read", self.out, "scalar n i32", "shared s f32[64]")
        parts = (*head, self.header, "begin", "zero = mov.const i32 0", "one = mov.const i32 1", self.before)
        return "\n".join(p for p in (*parts, self.grid, self.lane, self.body, self.end) if p) + "\n"


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the refusals and their control; they need no device."""
    del capabilities
    for name, fault in FAULTS.items():
        path = f"kernels/refuse/{fault.clause or 'control'}/{name}"
        yield Case(path, Level.KERNELS, Tier.SMOKE, check=partial(refused, fault))


def refused(fault: Fault, client: DeviceClient) -> None:
    """Raise `CheckFailed` unless the reader or the verifier refuses the kernel with the expected clause."""
    del client
    try:
        verify(parse(fault.text))
    except SpecError as error:
        if error.clause != fault.clause:
            raise CheckFailed(
                f"refused with {error.clause or 'no clause'}, expected {fault.clause}: {error}"
            ) from error
        return
    if fault.clause:
        raise CheckFailed(f"accepted a kernel that breaks {fault.clause}")


FAULTS: dict[str, Fault] = {
    "legal": Fault(""),
    "unknown_version": Fault("header_c1", first="portkit 99.0"),
    "name_declared_twice": Fault("header_c2", header="buffer x f32[8] read"),
    "register_defined_twice": Fault("header_c2", f"{_LOAD}\n{_LOAD}\n{_STORE}"),
    "name_too_long": Fault("header_c2", header=f"scalar {'a' * 65} i32"),
    "extent_of_an_unknown_scalar": Fault("header_c3", header="buffer y f32[m] read"),
    "extent_of_a_float_scalar": Fault("header_c3", header="scalar f f32\nbuffer y f32[f] read"),
    "extent_of_zero": Fault("header_c3", header="buffer y f32[0] read"),
    "scalar_of_another_dtype": Fault("header_c4", header="scalar h u32"),
    "buffer_of_bool": Fault("header_c5", header="buffer y bool[8] read"),
    "unknown_dtype": Fault("type_c1", "v = mov.const f31 1.0"),
    "vector_too_long": Fault("type_c2", f"{_LOAD}\nw = mov.splat f32x65 v\n{_STORE}"),
    "operands_of_two_types": Fault("type_c3", f"{_LOAD}\nw = add v l\n{_STORE}"),
    "stored_value_of_another_dtype": Fault("type_c3", "store out l l"),
    "index_of_another_dtype": Fault("type_c3", f"{_LOAD}\nstore out v v"),
    "lanes_differ": Fault("type_c3", f"{_LOAD}\nw = mov.splat f32x4 v\nz = add w v\n{_STORE}"),
    "bitwise_of_floats": Fault("type_c3", f"{_LOAD}\nw = reduce.and v v\n{_STORE}"),
    "constant_out_of_range": Fault("const_c1", before="c = mov.const i32 2147483648"),
    "vector_constant": Fault("const_c2", before="c = mov.const f32x4 1.0"),
    "undefined_register": Fault("name_c1", "store out l nowhere"),
    "used_before_its_definition": Fault("name_c1", f"{_STORE}\n{_LOAD}"),
    "register_of_a_finished_loop": Fault("name_c1", f"k = loop.serial 3\n{_LOAD}\nendloop k\n{_STORE}"),
    "undeclared_memory": Fault("name_c2", "v = load y l\nstore out l v"),
    "lane_loop_around_the_grid": Fault(
        "nest_c1", grid="l = loop.lane 64", lane="g = loop.grid 2", end="endloop g\nendloop l"
    ),
    "no_lane_loop": Fault("nest_c1", "", lane="", end="endloop g"),
    "loop_not_closed": Fault("nest_c1", end="endloop l"),
    "second_nest": Fault(
        "nest_c1", "", end="endloop l\nendloop g\nh = loop.grid 2\nm = loop.lane 4\nendloop m\nendloop h"
    ),
    "load_between_the_loops": Fault("nest_c2", grid="g = loop.grid 2\nw = load x zero"),
    "fence_after_the_body": Fault("nest_c2", end="endloop l\nfence.device\nendloop g"),
    "grid_count_of_an_outer_index": Fault(
        "nest_c3", grid="h = loop.grid 2\ng = loop.grid h", end="endloop l\nendloop g"
    ),
    "grid_too_large": Fault(
        "nest_c3", grid="g = loop.grid 2147483647\nh = loop.grid 2", end="endloop l\nendloop h\nendloop g"
    ),
    "lane_count_of_a_scalar": Fault("nest_c4", lane="l = loop.lane n"),
    "lane_count_of_zero": Fault("nest_c4", lane="l = loop.lane 0"),
    "endloop_of_another_loop": Fault("endloop_c1", end="endloop g\nendloop l"),
    "carry_without_a_next_value": Fault("endloop_c1", "k = loop.serial 3\nc = phi.carry zero\nendloop k"),
    "next_value_of_no_carry": Fault("endloop_c1", "k = loop.serial 3\nendloop k zero=one"),
    "carry_after_another_form": Fault(
        "carry_c1", "k = loop.serial 3\na = add k one\nc = phi.carry zero\nendloop k c=one"
    ),
    "carry_outside_of_a_loop": Fault("carry_c1", "c = phi.carry zero"),
    "next_value_of_another_type": Fault(
        "carry_c2", f"{_LOAD}\nk = loop.serial 3\nc = phi.carry zero\nendloop k c=v\n{_STORE}"
    ),
    "bits_of_another_size": Fault("bits_c1", f"{_LOAD}\nw = mov.bits f64 v\n{_STORE}"),
    "lane_outside_of_the_vector": Fault("vec_c2", "v = load.vec f32x4 x zero align 16\nw = mov.lane v 4"),
    "exp2_under_strict": Fault("numeric_c3", f"{_LOAD}\nw = mov.exp2 v\n{_STORE}", header="numeric strict"),
    "gate_with_other_lanes": Fault(
        "load_c2",
        "t = mov.const bool true\nz = mov.const f32 0.0\nzv = mov.splat f32x4 z\n"
        "v = load.vec f32x4 x zero align 16 if t else zv",
    ),
    "alignment_of_no_power_of_two": Fault("load_c3", "v = load.vec f32x4 x zero align 12"),
    "alignment_below_the_element": Fault("load_c3", "v = load.vec f32x4 x zero align 2"),
    "store_to_a_read_only_buffer": Fault("load_c5", f"{_LOAD}\nstore x l v"),
    "load_from_a_write_only_buffer": Fault("load_c5", "v = load out l\nstore out l v"),
    "token_not_waited": Fault("async_c2", "t = load.async s l <- x l 1"),
    "token_waited_twice": Fault("async_c2", "t = load.async s l <- x l 1\nwait.token t\nwait.token t"),
    "tokens_out_of_order": Fault(
        "async_c2", "t = load.async s l <- x l 1\nu = load.async s l <- x l 1\nwait.token u\nwait.token t"
    ),
    "atomic_beside_a_plain_store": Fault(
        "atomic_c1", f"{_LOAD}\nstore.atomic.add out l v\n{_STORE}", out="buffer out f32[64] readwrite"
    ),
    "barrier_in_a_divergent_loop": Fault("barrier_c2", "k = loop.serial l\nbarrier\nendloop k"),
    "reduction_in_a_divergent_loop": Fault(
        "barrier_c2", f"{_LOAD}\nk = loop.serial l\nw = reduce.group.add v\nendloop k\n{_STORE}"
    ),
    "index_below_zero": Fault("valid_c3", f"m = mov.const i32 -1\n{_LOAD}\nstore out m v"),
    "index_past_the_end": Fault("valid_c3", f"m = mov.const i32 64\n{_LOAD}\nstore out m v"),
    "vector_past_the_end": Fault("valid_c3", "m = mov.const i32 62\nv = load.vec f32x4 x m align 4"),
    "misaligned_constant_index": Fault("valid_c7", "v = load.vec f32x4 x one align 16"),
    "form_of_a_later_version": Fault("ext_c2", "barrier.grid"),
}
