"""The memory forms of the spec as instructions: which there are, and what a gate does to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from portkit.backends.toolkit.code import Code, Value, no_lanes
from portkit.backends.toolkit.forms import Forms
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.types import DType

C_co = TypeVar("C_co", bound=Code, covariant=True)

ATOMIC_KINDS = ("add", "max", "min")
_OF_LANES = ("load.vec", "load.gather", "store.vec", "store.scatter")


@dataclass(frozen=True, slots=True)
class Access:
    """One memory instruction with its operands as values; `other` is what a closed gate gives."""

    instr: Instr
    dtype: DType
    args: tuple[Value, ...]
    gate: Value | None
    other: Value | None

    @property
    def bytes(self) -> int:
        return self.dtype.bytes


class Memory(ABC, Generic[C_co]):
    """Writes the memory forms in one language; `bases` are the buffers and shared arrays by name.

    A closed gate makes no access: scalar accesses stand in a branch, those of lanes are `masked` lane by lane.
    """

    def __init__(self, code: C_co, forms: Forms, kernel: Kernel, bases: Mapping[str, Value]) -> None:
        self.code = code
        self.forms = forms
        self.kernel = kernel
        self.bases = bases

    def emit(self, instr: Instr, args: tuple[Value, ...], gate: Value | None, other: Value | None) -> Value | None:
        """Write a memory instruction; the result is None for a store, and for the token of a copy."""
        access = Access(instr, self.kernel.memories[instr.mems[0]].dtype, args, gate, other)
        if gate is None:
            return self._plain(access)
        if instr.name in _OF_LANES:
            return self.masked(access, gate)
        return self.code.when(gate, lambda: self._plain(access), other, instr.result or "v")

    def _plain(self, access: Access) -> Value | None:
        table: dict[str, Callable[[Access], Value | None]] = {
            "load": self.load,
            "load.vec": self.load_vec,
            "load.gather": self.gather,
            "load.async": self.copy,
            "store": self.store,
            "store.vec": self.store_vec,
            "store.scatter": self.scatter,
            **{f"store.atomic.{kind}": self.atomic for kind in ATOMIC_KINDS},
        }
        return table[access.instr.name](access)

    @abstractmethod
    def load(self, access: Access) -> Value:
        """Write a load of one element."""

    @abstractmethod
    def store(self, access: Access) -> None:
        """Write a store of one element."""

    def load_vec(self, access: Access) -> Value:
        """Write a load of neighbouring elements."""
        raise no_lanes(access.instr.name)

    def store_vec(self, access: Access) -> None:
        """Write a store of neighbouring elements."""
        raise no_lanes(access.instr.name)

    def gather(self, access: Access) -> Value:
        """Write a load with an index for each lane."""
        raise no_lanes(access.instr.name)

    def scatter(self, access: Access) -> None:
        """Write a store with an index for each lane."""
        raise no_lanes(access.instr.name)

    def masked(self, access: Access, gate: Value) -> Value | None:
        """Write a load or store of lanes, each only where its lane of the gate is open."""
        raise no_lanes(access.instr.name)

    @abstractmethod
    def copy(self, access: Access) -> None:
        """Write a copy between memories; it may be complete at once (Spec: async_c1)."""

    @abstractmethod
    def atomic(self, access: Access) -> None:
        """Write an atomic store; which element a lane meets first is open (Spec: atomic_c1)."""
