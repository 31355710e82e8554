"""The op and form tables, read from v1.toml, and the signatures they carry.

`Op` is closed at twelve. A *form* is an op with a suffix (`mul.hi`); everything that differs between forms is data
here, so that parser, printer, builder, verifier and documentation share one generic reading of it.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import resources
from typing import Any

from portkit.errors import SpecError
from portkit.spec.names import near, show
from portkit.spec.types import DTYPES, TOKEN, DType

_SOURCE = resources.files("portkit.spec").joinpath("v1.toml").read_bytes()
_TABLE: dict[str, Any] = tomllib.loads(_SOURCE.decode())

VERSION: str = _TABLE["version"]
CLAUSES: dict[str, str] = _TABLE["clauses"]
OPCODES: dict[str, str] = _TABLE["opcodes"]
EXTENSIONS: dict[str, str] = _TABLE["extensions"]
ACCURACY: dict[str, dict[str, float | str]] = _TABLE["accuracy"]
CLASSES: dict[str, tuple[str, ...]] = {name: tuple(members) for name, members in _TABLE["classes"].items()}


class Op(Enum):
    """The twelve opcodes; closed for good."""

    ADD = "add"
    MUL = "mul"
    REDUCE = "reduce"
    MOV = "mov"
    LOAD = "load"
    STORE = "store"
    FENCE = "fence"
    BARRIER = "barrier"
    WAIT = "wait"
    PHI = "phi"
    LOOP = "loop"
    ENDLOOP = "endloop"


class Role(Enum):
    """What stands at one place of a form's text."""

    REGISTER = "register"
    REGISTERS = "two or more registers"
    TYPE = "type"
    VALUE = "literal"
    COUNT = "count"
    INTEGER = "literal integer"
    MEMORY = "memory"
    WORD = "word"
    GATE = "gate"
    GATE_ELSE = "gate with else"
    CARRIES = "next values of the carries"


@dataclass(frozen=True, slots=True)
class Operand:
    """One place of a signature: its role, its name, and for registers the type pattern, for memory the space."""

    role: Role
    name: str
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of one op; see v1.toml for the meaning of the fields."""

    name: str
    op: Op
    operands: tuple[Operand, ...]
    result: str
    types: tuple[tuple[str, tuple[str, ...]], ...]
    effect: str
    summary: str
    clauses: tuple[str, ...]
    extension: str = ""
    kind: str = ""
    signature: str = ""
    vector: bool = False
    lanes: bool = True
    specified_only: bool = False

    @property
    def is_base(self) -> bool:
        return not self.extension

    def dtypes(self, variable: str) -> tuple[DType, ...]:
        """Return the dtypes that a type variable of the signature may take (empty if it has none)."""
        names = dict(self.types).get(variable, ())
        return tuple(TOKEN if name == "token" else DTYPES[name] for name in names)

    @property
    def has_memory(self) -> bool:
        return any(operand.role is Role.MEMORY for operand in self.operands)

    @property
    def gated(self) -> bool:
        return any(operand.role in (Role.GATE, Role.GATE_ELSE) for operand in self.operands)


_OPERAND_FORMS: tuple[tuple[str, Role], ...] = (
    (r"\*(?P<name>\w+):(?P<pattern>\w+)", Role.REGISTERS),
    (r"(?P<name>\w+):(?P<pattern>\w+)", Role.REGISTER),
    (r"%(?P<name>type)", Role.TYPE),
    (r"%(?P<name>value)", Role.VALUE),
    (r"%(?P<name>count)", Role.COUNT),
    (r"%(?P<name>\w+)", Role.INTEGER),
    (r"@(?P<name>\w+)", Role.MEMORY),
    (r"\?(?P<name>if_else)", Role.GATE_ELSE),
    (r"\?(?P<name>if)", Role.GATE),
    (r"\?(?P<name>carries)", Role.CARRIES),
    (r"(?P<name>\S+)", Role.WORD),
)


def _operand(token: str) -> Operand:
    for pattern, role in _OPERAND_FORMS:
        match = re.fullmatch(pattern, token)
        if match:
            groups = match.groupdict()
            return Operand(role, groups["name"], groups.get("pattern") or "")
    raise AssertionError(token)


def _form(name: str, entry: dict[str, Any], kind: str = "", dtype_class: str = "") -> Form:
    operands, _, result = entry["signature"].partition("->")
    classes = dict(entry.get("types", {}))
    if dtype_class:
        classes["M" if "@" in operands else "T"] = dtype_class
    return Form(
        name=name,
        op=Op(entry["op"]),
        operands=tuple(_operand(token) for token in operands.split()),
        result=result.strip(),
        types=tuple((variable, CLASSES.get(members, (members,))) for variable, members in classes.items()),
        effect=entry["effect"],
        summary=entry["summary"].replace("KIND", kind),
        clauses=tuple(entry["clauses"]),
        extension=entry.get("extension", ""),
        kind=kind,
        signature=entry["signature"],
        vector=entry.get("vector", False),
        lanes=entry.get("lanes", True),
        specified_only=entry.get("specified_only", False),
    )


def _read_forms() -> dict[str, Form]:
    forms = {name: _form(name, entry) for name, entry in _TABLE["form"].items()}
    for pattern, entry in _TABLE["family"].items():
        for kind, dtype_class in entry["kinds"].items():
            name = pattern.replace("KIND", kind)
            forms[name] = _form(name, entry, kind, dtype_class)
    order = {op: place for place, op in enumerate(Op)}
    return dict(sorted(forms.items(), key=lambda item: (order[item[1].op], bool(item[1].extension))))


FORMS: dict[str, Form] = _read_forms()


@cache
def form(name: str) -> Form:
    """Return the form called `name`; raises `SpecError` with the near names for an unknown one."""
    if name not in FORMS:
        raise SpecError(f"unknown form {show(name)}{near(name, FORMS)}", clause="form_c1")
    return FORMS[name]


def digest() -> str:
    """Return the SHA-256 of the spec file, in hexadecimal: the identity of this version of the language."""
    return hashlib.sha256(_SOURCE).hexdigest()


def counts() -> tuple[int, int, int]:
    """Return how many opcodes, base forms and extension forms the spec has."""
    base = sum(f.is_base for f in FORMS.values())
    return len(Op), base, len(FORMS) - base


def accuracy(form_name: str, dtype: DType) -> float:
    """Return the largest permitted error of a form in ulp; 0.5 means correctly rounded.

    Source: Muller, "On the definition of ulp(x)", 2005; the table `accuracy` of the spec.
    """
    entry = ACCURACY.get(form_name, {"default": "exact"})
    bound = entry.get(dtype.name, entry["default"])
    return 0.5 if bound == "exact" else float(bound)
