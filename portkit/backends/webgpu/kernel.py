"""A whole kernel in WGSL.

Group 0 binds `launch`, a uniform array of words; at 1 the number in which `cut` is reported; then the kernel's buffers
in order. Of `launch`, word 0 is 0, word 1 the number of work-groups; from word 4 on follow the words of
`drivers.arguments`, where a buffer's word is the number of elements that are bound before it.
"""

from __future__ import annotations

from portkit.backends.toolkit.c_code import CCode
from portkit.backends.toolkit.code import Value, element_of, memory_element_of
from portkit.backends.toolkit.lanes import Lanes
from portkit.backends.webgpu.wgsl import PRELUDE, Wgsl, WgslCode, shift_of
from portkit.spec.kernel import Buffer, Instr, Kernel, Loop, Shared

FIRST_BUFFER = 2
"""The binding of the first buffer."""
ENTRY = "run"

_HEAD = """\
@compute @workgroup_size({lanes})
fn run(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>,
       @builtin(local_invocation_index) lane: u32) {{
    let group = id.y * size.x + id.x;
    if (group >= launch[0].y) {{ return; }}"""


def _memory(name: str) -> str:
    """Return what a buffer or shared array is called in the text: no register's name ends like this."""
    return f"m_{name}_m"


def launch_words(kernel: Kernel) -> int:
    """Return how many words `launch` has: a multiple of 4."""
    given = len(kernel.buffers) + len(kernel.scalars) + len(kernel.nest.grids)
    return 4 + (2 * given + 3) // 4 * 4


def print_wgsl(kernel: Kernel, target: Wgsl) -> str:
    """Return the text of a verified kernel that fits the declared capabilities.

    Raises `CompileError` for a form that was not declared.
    """
    return _Printer(kernel, target).text()


class _Printer(Lanes[CCode]):
    def __init__(self, kernel: Kernel, target: Wgsl) -> None:
        super().__init__(kernel, target, {name: Value(_memory(name), "ptr") for name in kernel.memories})
        self.target = target
        self.shares_counts = False

    def text(self) -> str:
        """Return the whole text."""
        self._opening()
        self.lines()
        body = [*self._closed(self.code.lines), "}", ""]
        written = "\n".join(body)
        prelude = [text for name, text in PRELUDE.items() if name == "hidden" or f"{name}(" in written]
        head = _HEAD.format(lanes=self.kernel.lanes)
        return "\n".join([*self._bindings(), *self._shared(), *prelude, head, written])

    def _closed(self, lines: list[str]) -> list[str]:
        if not (isinstance(self.code, WgslCode) and self.code.counts_turns):
            return lines
        return ["    var cut = 0u;", *lines, "    if (cut != 0u) { atomicMax(&cuts, 1u); }"]

    def _bindings(self) -> list[str]:
        lines = [f"@group(0) @binding(0) var<uniform> launch: array<vec4<u32>, {launch_words(self.kernel) // 4}>;"]
        lines.append("@group(0) @binding(1) var<storage, read_write> cuts: atomic<u32>;")
        for place, buffer in enumerate(self.kernel.buffers, FIRST_BUFFER):
            storage = f"@group(0) @binding({place}) var<storage, read_write>"
            lines.append(f"{storage} {_memory(buffer.name)}: array<{self._element(buffer)}>;")
        return lines

    def _element(self, buffer: Buffer) -> str:
        """Return the type of a buffer's elements: that of atomics where it is folded into."""
        atomic = any(i.form.extension == "atomic" and buffer.name in i.mems for i in self.kernel.body)
        return f"atomic<{buffer.dtype}>" if atomic else self._type(buffer)

    def _type(self, memory: Buffer | Shared) -> str:
        return self.code.type(memory_element_of(memory.dtype))

    def _shared(self) -> list[str]:
        lines = [f"var<workgroup> {_memory(s.name)}: array<{self._type(s)}, {s.extent}>;" for s in self.kernel.shared]
        return [*lines, "var<workgroup> turns: u32;"] if self.shares_counts else lines

    def _word(self, place: int) -> str:
        """Return the low half of an argument."""
        return f"launch[{1 + place // 2}].{'xz'[place % 2]}"

    def _opening(self) -> None:
        if self.target.shifted:
            for place, buffer in enumerate(self.kernel.buffers):
                self.code.do(f"let {shift_of(_memory(buffer.name))} = {self._word(place)};")
        for place, scalar in enumerate(self.kernel.scalars, len(self.kernel.buffers)):
            self.group[scalar.name] = self.code.define(self._word(place), element_of(scalar.dtype), hint=scalar.name)

    def group_number(self) -> Value:
        return Value("group", "i32")

    def lane_number(self) -> Value:
        return Value("lane", "i32")

    def grid_extent(self, place: int) -> Value:
        word = self._word(len(self.kernel.buffers) + len(self.kernel.scalars) + place)
        return self.code.define(word, "i32", hint="extent")

    # --- lanes that meet ------------------------------------------------------------------------------------------

    def sync(self, instr: Instr) -> Value | None:
        """Write a barrier; a copy was complete when issued, and what a fence orders nobody can see without a barrier.

        Spec: async_c1, fence_c1, valid_c1.
        """
        if instr.name == "barrier":
            self.code.do("workgroupBarrier();")
            self.code.do("storageBarrier();")
        return None

    def count(self, loop: Loop) -> Value:
        """Return the count of a loop: one around barriers is made uniform in a way that WGSL can follow.

        Source: W3C, "WebGPU Shading Language", 15.2, uniformity analysis; the spec of portkit knows more to be uniform.
        """
        count, head = super().count(loop), self.kernel.body[loop.head]
        if head.imms or head.args[0] in self._scalars or not self._meets(loop):
            return count
        self.shares_counts = True
        self.code.do(f"if (lane == 0u) {{ turns = {count.text}; }}")
        return self.code.define("workgroupUniformLoad(&turns)", "i32", hint="turns")

    @property
    def _scalars(self) -> set[str]:
        return {scalar.name for scalar in self.kernel.scalars}

    def _meets(self, loop: Loop) -> bool:
        return any(
            self._meets(item) if isinstance(item, Loop) else self.kernel.body[item].name == "barrier"
            for item in loop.body
        )
