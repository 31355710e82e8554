"""Every rule that the verifier cites: a kernel that is right, and the same kernel with one fault."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import portkit.spec
from portkit.errors import VerifyError
from portkit.spec.forms import CLAUSES, FORMS
from portkit.spec.kernel import Buffer, Extent, Instr, Kernel, Scalar, Shared
from portkit.spec.text import parse
from portkit.spec.types import BOOL, F32, I32, TOKEN, U32, Type
from portkit.spec.verify import verify
from tests.spec.faults import ADMITTED, TEXTS
from tests.spec.kernels import COPIES, DOT, VECTORS, edited


def changed(text: str, line: int, **parts: object) -> Kernel:
    """Return the kernel of a text with one instruction altered in ways that text cannot say."""
    kernel = parse(text)
    body = list(kernel.body)
    body[line] = replace(body[line], **parts)
    return replace(kernel, body=tuple(body))


def with_header(**parts: object) -> Kernel:
    return replace(parse(DOT), **parts)


def place(text: str, start: str) -> int:
    """Return the position in the body of the line that starts so."""
    return next(i for i, line in enumerate(text.split("begin\n")[1].splitlines()) if line.startswith(start))


def at(start: str, **parts: object) -> Callable[[], Kernel]:
    return lambda: changed(DOT, place(DOT, start), **parts)


def header(**parts: object) -> Callable[[], Kernel]:
    return lambda: with_header(**parts)


N = Scalar("n", I32)
OUT = Buffer("out", F32, Extent((8,)), "write")
MANY = tuple(Scalar(f"s{i}", I32) for i in range(1025))

# (clause, kernel): faults that the text reader would already refuse.
BUILT: dict[str, tuple[str, Callable[[], Kernel]]] = {
    "an unknown form": ("form_c1", at("t = mul", name="mul.zz")),
    "an operand too many": ("form_c1", at("t = mul", args=("xv", "yv", "xv"))),
    "an operand too few": ("form_c1", at("t = mul", args=("xv",))),
    "a literal too many": ("form_c1", at("t = mul", imms=(1,))),
    "a count and a register": ("form_c1", at("k = loop", imms=(1,))),
    "no memory": ("form_c1", at("xv = load", mems=())),
    "a gate on an addition": ("form_c1", at("t = mul", gate="p")),
    "a gate without an else value": ("form_c1", at("xv = load", other="")),
    "an else value without a gate": ("form_c1", at("xv = load", gate="")),
    "carries on an addition": ("form_c1", at("t = mul", carries=(("acc", "s"),))),
    "a result of a store": ("form_c1", at("store out", result="q")),
    "no result": ("form_c1", at("t = mul", result="")),
    "no result type": ("form_c1", at("t = mul", type=None)),
    "a wrong result type": ("type_c3", at("t = mul", type=Type(I32))),
    "an operand of another type": ("type_c3", at("t = mul", args=("xv", "i"))),
    "a constant token": ("type_c3", at("zero = mov", type=Type(TOKEN))),
    "bits of another size": ("bits_c1", at("t = mul", name="mov.bits", args=("xv",), type=Type(I32, 2))),
    "an unknown dtype": ("type_c1", at("zero = mov", type=Type(replace(F32, name="f31")))),
    "too many lanes": ("type_c2", at("t = mul", type=Type(F32, 65))),
    "a vector constant": ("const_c2", at("zero = mov", type=Type(F32, 2))),
    "a constant beyond its dtype": ("const_c1", at("true = mov", imms=(2,))),
    "a negative pattern": ("const_c1", at("zero = mov", imms=(-1,))),
    "a count beyond i32": ("const_c1", at("g = loop", imms=(2**31,))),
    "an unknown register": ("name_c1", at("t = mul", args=("xv", "zz"))),
    "memory as a register": ("name_c1", at("t = mul", args=("xv", "x"))),
    "an unknown buffer": ("name_c2", at("xv = load", mems=("zz",))),
    "a copy to global memory": ("name_c2", lambda: changed(COPIES, place(COPIES, "t0"), mems=("x", "tile"))),
    "a name defined twice": ("header_c2", at("t = mul", result="xv")),
    "a result that is no name": ("header_c2", at("t = mul", result="a b")),
    "a name of 65 characters": ("header_c2", header(name="n" * 65)),
    "two declarations of a name": ("header_c2", header(scalars=(N, N))),
    "another version": ("header_c1", header(version="2.0")),
    "an extent of zero": ("header_c3", header(buffers=(replace(OUT, extent=Extent((0,))),))),
    "no extent": ("header_c3", header(buffers=(replace(OUT, extent=Extent(())),))),
    "too many factors": ("header_c3", header(buffers=(replace(OUT, extent=Extent((1,) * 17)),))),
    "a shared extent of zero": ("header_c3", header(shared=(Shared("tile", F32, 0),))),
    "a u32 scalar": ("header_c4", header(scalars=(N, Scalar("m", U32)))),
    "a buffer of bool": ("header_c5", header(buffers=(replace(OUT, dtype=BOOL),))),
    "shared memory of bool": ("header_c5", header(shared=(Shared("tile", BOOL, 1),))),
    "too many declarations": ("limit_c2", header(scalars=MANY)),
    "too many instructions": ("limit_c2", header(body=(Instr("barrier"),) * 100_001)),
}


def clause_of(kernel: Kernel) -> str:
    with pytest.raises(VerifyError) as caught:
        verify(kernel)
    return caught.value.clause


@pytest.mark.parametrize("text", [DOT, COPIES, VECTORS], ids=["dot", "copies", "vectors"])
def test_the_unchanged_kernels_verify(text: str) -> None:
    verify(parse(text))


@pytest.mark.parametrize(("clause", "text", "edits"), TEXTS.values(), ids=TEXTS.keys())
def test_a_faulty_text_is_refused_by_the_right_clause(clause: str, text: str, edits: list[tuple[str, str]]) -> None:
    assert clause_of(parse(edited(text, *edits))) == clause


@pytest.mark.parametrize(("clause", "build"), BUILT.values(), ids=BUILT.keys())
def test_a_faulty_kernel_is_refused_by_the_right_clause(clause: str, build: Callable[[], Kernel]) -> None:
    assert clause_of(build()) == clause


VERIFIER = ["verify", "rules", "tokens", "shape", "infer", "assemble"]


def cited_by_the_verifier() -> set[str]:
    """Every clause that stands as a string of its own in the modules that verify a kernel."""
    folder = Path(portkit.spec.__path__[0])
    trees = (ast.parse((folder / f"{name}.py").read_text()) for name in VERIFIER)
    strings = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in strings if isinstance(value, str) and value in CLAUSES}


def test_every_clause_that_the_verifier_cites_has_a_kernel_that_breaks_it() -> None:
    tested = {clause for clause, _, _ in TEXTS.values()} | {clause for clause, _ in BUILT.values()}
    assert cited_by_the_verifier() == tested


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.specified_only])
def test_a_form_that_is_only_specified_is_refused_by_name(name: str) -> None:
    from portkit.spec.examples import example

    with pytest.raises(VerifyError, match=f"{name} is specified, but not in use") as caught:
        verify(example(FORMS[name]))
    assert caught.value.clause == "ext_c2"


def test_an_error_names_the_instruction_by_place_and_text() -> None:
    kernel = parse(edited(DOT, ("store tile l acc", "store tile l s")))
    with pytest.raises(VerifyError, match=r"instruction 18 `store tile l s`: s belongs to a finished loop") as caught:
        verify(kernel)
    assert kernel.body[caught.value.instruction].name == "store"


@pytest.mark.parametrize(("text", "edits"), ADMITTED.values(), ids=ADMITTED.keys())
def test_what_may_be_valid_is_admitted(text: str, edits: list[tuple[str, str]]) -> None:
    verify(parse(edited(text, *edits)))
