"""The text form: exact round trips, and errors that point at the fault."""

from __future__ import annotations

import pytest

from portkit.errors import ParseError
from portkit.spec.examples import example
from portkit.spec.forms import FORMS, Form
from portkit.spec.kernel import Instr
from portkit.spec.text import format as format_kernel
from portkit.spec.text import format_instr, parse
from portkit.spec.types import BF16, F32, Type
from tests.spec.kernels import COPIES, DOT, VECTORS, edited


@pytest.mark.parametrize("text", [DOT, COPIES, VECTORS], ids=["dot", "copies", "vectors"])
def test_canonical_text_prints_as_it_was_read(text: str) -> None:
    assert format_kernel(parse(text)) == text


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_round_trips(form: Form) -> None:
    kernel = example(form)
    assert parse(format_kernel(kernel)) == kernel


def test_blanks_comments_and_line_ends_mean_nothing() -> None:
    messy = DOT.replace(" = ", "=").replace("\n", "  # a comment = [ \N{SNOWMAN}\r\n\n").replace("mul ", "mul\t ")
    assert parse(messy) == parse(DOT)


def test_extents_are_products_of_literals_and_scalars() -> None:
    kernel = parse(edited(DOT, ("x f32[n]", "x f32[ 4*n * 0x10 ]")))
    assert kernel.buffers[0].extent.factors == (4, "n", 16)
    assert kernel.buffers[0].extent.evaluate({"n": 3}) == 192


def test_the_strict_header_is_kept_and_the_default_is_not_printed() -> None:
    strict = parse(edited(DOT, ("begin", "numeric strict\nbegin")))
    assert strict.strict
    assert parse(format_kernel(strict)) == strict
    assert parse(edited(DOT, ("begin", "numeric fast\nbegin"))) == parse(DOT)


@pytest.mark.parametrize(
    ("line", "instr"),
    [
        ("c = mov.const f32 0x1.8p+1", Instr("mov.const", "c", Type(F32), imms=(0x40400000,))),
        ("c = mov.const bf16 -0.0", Instr("mov.const", "c", Type(BF16), imms=(0x8000,))),
        ("q = reduce.max g l g", Instr("reduce.max", "q", Type(parse(DOT).types["g"].dtype), args=("g", "l", "g"))),
        ("q = load x i", Instr("load", "q", Type(F32), args=("i",), mems=("x",))),
        ("store tile l t", Instr("store", args=("l", "t"), mems=("tile",))),
    ],
)
def test_a_line_reads_as_its_instruction(line: str, instr: Instr) -> None:
    kernel = parse(edited(DOT, ("endloop k", f"{line}\nendloop k")))
    assert instr in kernel.body


def test_a_count_is_a_literal_or_a_register() -> None:
    body = parse(edited(DOT, ("barrier", "z = loop.serial -3\nendloop z\nbarrier"))).body
    serial = [(i.args, i.imms) for i in body if i.name == "loop.serial"]
    assert serial == [(("two",), ()), ((), (-3,))]


def test_an_instruction_prints_alone() -> None:
    instr = Instr("load.async", "t", None, ("di", "si"), ("tile", "x"), (8,))
    assert format_instr(instr) == "t = load.async tile di <- x si 8"


# what is wrong: (clause, line, column, a part of the message, edits)
ERRORS: dict[str, tuple[str, int, int, str, list[tuple[str, str]]]] = {
    "an unknown version": ("header_c1", 1, 9, "this reader knows 1.0-draft", [("1.0-draft", "9.9")]),
    "no version": ("header_c1", 1, 8, "the line ends where a version should stand", [(" 1.0-draft", "")]),
    "another language": ("header_c1", 1, 1, "expected `portkit`, found 'define'", [("portkit", "define")]),
    "no kernel line": ("text_c1", 2, 1, "expected `kernel`, found 'kernal'", [("kernel", "kernal")]),
    "a bad kernel name": ("header_c2", 2, 8, "is not a name", [("kernel dot", "kernel 1dot")]),
    "an unknown declaration": ("text_c1", 3, 1, "did you mean buffer?", [("buffer x", "bufer x")]),
    "an unknown access": ("text_c1", 3, 17, "did you mean read", [("] read", "] reed")]),
    "an unknown dtype": ("type_c1", 3, 8, "unknown dtype 'f31'; did you mean f32", [("x f32", "x f31")]),
    "a buffer of bool": ("header_c5", 3, 8, "bool is not possible here", [("x f32", "x bool")]),
    "a bad scalar dtype": ("header_c4", 6, 8, "expected one of i32 f32", [("n i32", "n u32")]),
    "a missing bracket": ("header_c3", 3, 17, "expected `]`, found 'read'", [("[n] read", "[n  read")]),
    "an extent of zero": ("header_c3", 5, 16, "a literal extent is 1 to", [("f32[8]", "f32[0]")]),
    "a dynamic shared extent": ("header_c3", 7, 17, "is one literal", [("f32[256]", "f32[n]")]),
    "a name declared twice": ("header_c2", 4, 8, "'x' is already defined", [("buffer y", "buffer x")]),
    "an unknown numeric mode": ("text_c1", 3, 9, "did you mean strict?", [("buffer x", "numeric stric\nbuffer x")]),
    "an unknown form": ("form_c1", 9, 9, "did you mean mov.const", [("mov.const", "mov.cons")]),
    "a constant that does not fit": ("const_c1", 9, 23, "does not fit i32", [("i32 256", "i32 2147483648")]),
    "an unknown register": ("name_c1", 19, 11, "did you mean width?", [("k width", "k widht")]),
    "memory as a register": ("name_c1", 19, 11, "it is memory", [("k width", "k x")]),
    "an unknown buffer": ("name_c2", 22, 11, "no buffer or shared array 'z'", [("load x i", "load z i")]),
    "a register as memory": ("name_c2", 22, 11, "it is a register", [("load x i", "load l i")]),
    "operands that do not fit": ("type_c3", 24, 5, "operand b is i32, expected f32", [("xv yv", "xv l")]),
    "an operand too few": ("form_c1", 24, 11, "the line ends where operand b", [("xv yv", "xv")]),
    "an operand too many": ("form_c1", 24, 15, "'xv' is more than belongs", [("xv yv", "xv yv xv")]),
    "a gate without else": ("form_c1", 22, 19, "the line ends where `else`", [("if p else zero\nyv", "if p\nyv")]),
    "a result of a store": ("form_c1", 27, 5, "store has no result", [("store tile", "q = store tile")]),
    "no result": ("form_c1", 24, 1, "mul gives a f32: name it", [("t = mul", "mul")]),
    "a result that exists": ("header_c2", 24, 6, "'xv' is already defined", [("t = mul", "xv = mul")]),
    "a result that is no name": ("header_c2", 24, 7, "is not a name", [("t = mul", "a-b = mul")]),
    "a vector constant": ("const_c2", 9, 19, "use mov.splat", [("i32 256", "i32x2 256")]),
    "an unknown type": ("type_c1", 9, 19, "unknown type 'i33'", [("i32 256", "i33 256")]),
    "too many lanes": ("type_c2", 9, 19, "outside 2..64", [("i32 256", "i32x65 256")]),
    "a literal for a register": ("name_c1", 19, 11, "no register '256'", [("k width", "k 256")]),
    "a count beyond i32": ("const_c1", 15, 15, "does not fit i32", [("grid 8", "grid 99999999999")]),
    "a carry without a value": ("form_c1", 26, 14, "the line ends where `=`", [("acc=s", "acc")]),
}  # fmt: skip


@pytest.mark.parametrize(("clause", "line", "column", "message", "edits"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_names_clause_line_column_and_what_to_do(
    clause: str, line: int, column: int, message: str, edits: list[tuple[str, str]]
) -> None:
    with pytest.raises(ParseError) as caught:
        parse(edited(DOT, *edits))
    error = caught.value
    assert message in str(error)
    assert (error.clause, error.line, error.column) == (clause, line, column)


def test_an_error_shows_the_line_with_a_caret_below_the_fault() -> None:
    with pytest.raises(ParseError) as caught:
        parse(edited(DOT, ("o = mul k width", "  o = mul k widht  # offset")))
    assert str(caught.value).splitlines()[1:] == ["      o = mul k widht  # offset", "                ^"]


@pytest.mark.parametrize(
    "text", ["", "\n\n# nothing\n", "portkit 1.0-draft", "portkit 1.0-draft\nkernel k\n", DOT.split("begin")[0]]
)
def test_a_text_that_ends_early_says_what_should_follow(text: str) -> None:
    with pytest.raises(ParseError, match=r"the text ends where `.*` should stand") as caught:
        parse(text)
    assert caught.value.clause == "text_c1"


def test_the_caret_of_a_long_line_stays_in_view() -> None:
    with pytest.raises(ParseError) as caught:
        parse(edited(DOT, ("o = mul k width", f"o = mul k {' ' * 5000}widht")))
    _, shown, caret = str(caught.value).splitlines()
    assert len(shown) < 120
    assert shown[caret.index("^") :].startswith("widht")


@pytest.mark.parametrize(
    "odd", ["\0", "\x1b[31m", "\N{RIGHT-TO-LEFT OVERRIDE}", "\udc80", "\x85", "\u2028", "\N{NO-BREAK SPACE}"]
)
def test_odd_characters_are_refused_and_shown_harmlessly(odd: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(edited(DOT, ("mul k width", f"mul k {odd}")))
    message = str(caught.value)
    assert message.replace("\n", "").isprintable()
    message.encode()


HOSTILE = {
    "a huge integer": "c = mov.const i32 " + "9" * 1_000_000,
    "a huge exponent": "c = mov.const f64 1e" + "9" * 1000,
    "a huge fraction": "c = mov.const f64 0." + "1" * 1_000_000,
    "a long name": "n" * 1_000_000 + " = barrier",
    "many operands": "q = reduce.max " + "g " * 500_000,
    "many equal signs": "= " * 500_000,
    "many brackets": "[" * 1_000_000,
    "a long line": "#" * 2_000_000,
    "many lines": "\n" * 500_000,
    "many instructions": "barrier\n" * 100_001,
    "many names alike": "".join(f"name{n} = mov.const i32 {n}\n" for n in range(50_000)) + "q = add nam name1",
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.timeout(10)
def test_hostile_text_is_refused_quickly(line: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(edited(DOT, ("barrier", line)))
    assert len(str(caught.value)) < 1000


def test_a_header_that_is_too_long_is_refused() -> None:
    scalars = "".join(f"scalar s{n} i32\n" for n in range(1100))
    with pytest.raises(ParseError, match="at most 1024 declarations") as caught:
        parse(edited(DOT, ("begin", f"{scalars}begin")))
    assert caught.value.clause == "limit_c2"


def test_a_text_of_more_than_32_mebibytes_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        parse(DOT + " " * (32 << 20))
    assert caught.value.clause == "limit_c2"
