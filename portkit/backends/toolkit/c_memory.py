"""The memory forms in the C family: elements of arrays, and atomic stores by the dialect's table."""

from __future__ import annotations

from dataclasses import replace

from portkit.backends.toolkit.c_code import CCode
from portkit.backends.toolkit.code import Value, integer_of, memory_element_of
from portkit.backends.toolkit.memory import Access, Memory
from portkit.errors import CompileError


class CMemory(Memory[CCode]):
    """Writes the memory forms; the bases are arrays."""

    def at(self, access: Access, place: int = 0) -> str:
        """Return the element that an access means."""
        return self.code.element(self.bases[access.instr.mems[place]].text, access.args[place])

    def load(self, access: Access) -> Value:
        """Write a load into a variable."""
        return self.load_at(self.at(access), memory_element_of(access.dtype), 1, access.instr.result)

    def store(self, access: Access) -> None:
        """Write an assignment."""
        self.store_at(self.at(access), access.args[1])

    def load_at(self, at: str, element: str, lanes: int, hint: str) -> Value:
        """Write a load of an element, or of so many lanes from there on."""
        return self.code.define(at, element, lanes, hint)

    def store_at(self, at: str, value: Value) -> None:
        """Write a store to an element, or of the value's lanes from there on."""
        self.code.do(f"{at} = {value.text};")

    def copy(self, access: Access) -> None:
        """Copy at once, which async_c1 allows."""
        with self.code.loop(self.code.literal("i32", access.instr.imms[0]), hint="copied") as turn:
            indices = (Value(f"{index.text} + {turn.index.text}", index.element) for index in access.args)
            element = replace(access, args=tuple(indices))
            self.code.do(f"{self.at(element)} = {self.at(element, 1)};")

    # --- atomic stores --------------------------------------------------------------------------------------------

    def atomic(self, access: Access) -> None:
        """Fold by the dialect's own function, else by computing and swapping until nobody came between."""
        kind, atomics = access.instr.form.kind, self.code.dialect.atomics
        own = atomics.get(f"{kind}.{access.dtype}")
        if own is None:
            self._swap_until_done(access, kind)
        else:
            self.code.do(own.format(at=self.at(access), value=access.args[1].text))

    def _swap_until_done(self, access: Access, kind: str) -> None:
        code, value = self.code, access.args[1]
        integer, at = integer_of(value.element), self.at(access)
        swap = code.dialect.atomics.get(f"swap.{integer}")
        if swap is None:
            raise CompileError(f"{access.instr.name} on {access.dtype} has no text; declare the atomics that there are")
        expected, done = Value(code.fresh("expected"), integer), code.fresh("done")
        code.do(f"{code.type(integer)} {expected.text} = {code.convert('bitcast', self.load(access), integer).text};")
        code.do(f"{code.type('i1')} {done};")
        with code.block("do", f"}} while (!{done});"):
            old = code.convert("bitcast", expected, value.element)
            new = code.convert("bitcast", self.forms.step(kind, access.dtype, old, value), integer)
            code.do(f"{done} = {swap.format(at=at, expected=expected.text, new=new.text)};")
