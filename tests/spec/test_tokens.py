"""Copies in flight through loops: every token waited once, in issue order, on every path (Spec: async_c2)."""

from __future__ import annotations

import pytest

from portkit.errors import VerifyError
from portkit.spec.text import parse
from portkit.spec.verify import verify

HEAD = """\
portkit 1.0-draft
kernel k
buffer x f32[1024] read
scalar n i32
shared tile f32[64]
begin
z = mov.const i32 0
g = loop.grid 1
l = loop.lane 1
"""
TAIL = "endloop l\nendloop g\n"


def program(script: str) -> str:
    """Return the kernel of a script such as `issue a; loop c=a; wait c; issue d; end c=d; wait c`."""
    lines: list[str] = []
    loops: list[str] = []
    for statement in filter(None, script.split("; ")):
        word, *names = statement.split()
        match word:
            case "issue":
                lines.append(f"{names[0]} = load.async tile z <- x z 1")
            case "wait":
                lines.append(f"wait.token {names[0]}")
            case "end":
                lines.append(f"endloop {loops.pop()} {' '.join(names)}")
            case _:
                loops.append(f"k{len(lines)}")
                lines.append(f"{loops[-1]} = loop.serial {'1' if word == 'once' else 'n'}")
                lines += [name.replace("=", " = phi.carry ") for name in names]
    return "\n".join([HEAD, *lines, TAIL])


RIGHT = {
    "nothing in flight": "",
    "issue and wait": "issue a; wait a",
    "several at once": "issue a; issue b; wait a; issue c; wait b; wait c",
    "inside one iteration": "loop; issue a; wait a; end",
    "around a loop that leaves them alone": "issue a; loop; end; wait a",
    "carried once round": "issue a; loop c=a; wait c; issue d; end c=d; wait c",
    "carried, the next issued first": "issue a; loop c=a; issue d; wait c; end c=d; wait c",
    "carried and left alone": "issue a; loop c=a; end c=c; wait c",
    "three deep": "issue a; issue b; loop c=a d=b; issue e; wait c; end c=d d=e; wait c; wait d",
    "two issued per iteration": "issue a; issue b; loop c=a d=b; wait c; wait d; issue e; issue f; end c=e d=f; "
    "wait c; wait d",
    "through two loops": "issue a; loop c=a; loop d=c; wait d; issue e; end d=e; end c=d; wait c",
}

WRONG = {
    "never waited": "issue a",
    "waited twice": "issue a; wait a; wait a",
    "out of order": "issue a; issue b; wait b; wait a",
    "issued in a loop, never waited": "loop; issue a; end",
    "issued in a loop beside one in flight": "issue a; loop; issue b; wait b; end; wait a",
    "waited in a loop that does not carry it": "issue a; loop; wait a; end",
    "waited in a loop of one iteration": "issue a; once; wait a; end",
    "waited though handed over": "issue a; loop c=a; wait a; end c=c; wait c",
    "waited after being carried": "issue a; loop c=a; end c=c; wait a",
    "carried by two": "issue a; loop c=a d=a; end c=c d=d; wait c; wait d",
    "given to two": "issue a; issue b; loop c=a d=b; end c=c d=c; wait c; wait d",
    "swapped": "issue a; issue b; loop c=a d=b; end c=d d=c; wait c; wait d",
    "waited and given on": "issue a; loop c=a; wait c; end c=c",
    "one fewer per iteration": "issue a; issue b; loop c=a d=b; wait c; end c=d d=d",
    "one more per iteration": "issue a; loop c=a; issue d; end c=c; wait c",
    "the older one not carried": "issue a; issue b; loop c=b; wait c; issue d; end c=d; wait a; wait c",
    "the younger one not carried": "issue a; issue b; loop c=a; wait c; issue d; end c=d; wait b; wait c",
    "an inner loop that takes from two levels out": "issue a; loop; loop c=a; end c=c; end; wait a",
    "the carry not waited after the loop": "issue a; loop c=a; wait c; issue d; end c=d",
}


@pytest.mark.parametrize("script", RIGHT.values(), ids=RIGHT.keys())
def test_tokens_waited_once_in_order_are_admitted(script: str) -> None:
    verify(parse(program(script)))


@pytest.mark.parametrize("script", WRONG.values(), ids=WRONG.keys())
def test_tokens_waited_otherwise_are_refused(script: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify(parse(program(script)))
    assert caught.value.clause == "async_c2"
