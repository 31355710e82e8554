"""Faults planted in the text that the metal backend prints; the device process imports them as `...faults:NAME`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from portkit.backends.metal import MetalBackend
from portkit.contract import Code, Device
from portkit.spec.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Fault:
    """What is written in place of what is matched, and the case that is to find it."""

    right: str
    wrong: str
    witness: str


FAULTS = {
    "threads_do_not_meet": Fault(r"threadgroup_barrier\(", "(void)(", "ops/barrier/i32/exchange"),
    "products_contracted": Fault(r"fma\((\w+), (\w+), (\w+)\)", r"\1 * \2 + \3", "ops/mul.add/f32/special"),
    "signs_ignored_by_less": Fault(r"\(int\)", "(uint)", "ops/phi.lt/i32/special"),
    "nan_lost_in_min": Fault(r"a != a \? a : b != b \? b : ", "", "ops/reduce.min/f32/nonfinite"),
    "max_is_min": Fault(r"ordered\(a\) > ordered", "ordered(a) < ordered", "ops/reduce.max/f32/special"),
    "atomic_max_is_add": Fault("fetch_max_explicit", "fetch_add_explicit", "ops/store.atomic.max/i32/bins"),
    "first_group_only": Fault(r"\+ group,", "+ 0u,", "device/launch/groups_100000"),
    "words_misplaced": Fault(r"uint\(words\[0\]\)", "uint(words[1])", "ops/add/f32/special"),
    "shared_arrays_overlap": Fault(r"\(shared \+ \d+\)", "(shared + 0)", "kernels/shared/several_arrays/32"),
    "half_square_roots": Fault(
        r"precise::sqrt\((\w+)\)", r"float(half(precise::sqrt(\1)))", "ops/mov.sqrt/f32/special"
    ),
}


class _WritesWrongly:
    """The model's compiler, after a change to the text that it compiles."""

    def __init__(self, compiler: Any, fault: Fault) -> None:
        self._compiler, self._fault = compiler, fault

    def compile(self, kernel: Kernel) -> Code:
        """Compile the changed text."""
        from portkit.backends.metal import model

        right, changed = model.print_msl, self._fault

        def print_wrongly(kernel: Kernel, dialect: Any) -> Any:
            printed = right(kernel, dialect)
            return replace_text(printed, re.sub(changed.right, changed.wrong, printed.text))

        model.print_msl = print_wrongly
        try:
            return self._compiler.compile(kernel)
        finally:
            model.print_msl = right


def replace_text(printed: Any, text: str) -> Any:
    """Return the printed kernel with another text."""
    return type(printed)(text, printed.lanes, printed.buffers, printed.shared_bytes)


class Faulty(MetalBackend):
    """The backend with one fault in all that it prints."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def open(self) -> Device:
        """Open the model with the fault in it."""
        device: Any = super().open()
        device._compiler = _WritesWrongly(device._compiler, self.fault)
        return device


globals().update({name: Faulty(fault) for name, fault in FAULTS.items()})
