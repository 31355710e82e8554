"""Kernels with parts exchanged at random: refused by a clause, or what is admitted reads back as itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from portkit.errors import VerifyError
from portkit.spec.forms import CLAUSES, FORMS
from portkit.spec.jsonform import from_json, to_json
from portkit.spec.kernel import Instr, Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.text import parse
from portkit.spec.types import BOOL, DTYPES, TOKEN, Type
from portkit.spec.uses import uses
from portkit.spec.verify import verify
from tests.spec.random_kernels import random_kernel

TYPES = [None, *(Type(d, n) for d in (*DTYPES.values(), TOKEN, BOOL) for n in (1, 4, 64, 65, 0))]
INTEGERS = (0, 1, 2, -1, 3, 64, 65, 1 << 31, 1 << 32, 1 << 64)


def corrupted(rng: Random, kernel: Kernel) -> Kernel:
    """Return a kernel with one or two instructions altered, moved, doubled or removed."""
    body = list(kernel.body)
    names = [*kernel.types, *kernel.memories, "", "nowhere", "a b"]
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(body))
        other = rng.randrange(len(body))
        match rng.randrange(6):
            case 0:
                del body[at]
            case 1:
                body[at], body[other] = body[other], body[at]
            case 2:
                body.insert(at, body[other])
            case _:
                body[at] = altered(rng, body[at], body[other], names)
    return replace(kernel, body=tuple(body))


def altered(rng: Random, instr: Instr, other: Instr, names: list[str]) -> Instr:
    part = rng.choice(("name", "result", "type", "args", "mems", "imms", "gate", "other", "carries"))
    choices = {
        "name": lambda: rng.choice([*FORMS, "mul.zz"]),
        "result": lambda: rng.choice(names),
        "type": lambda: rng.choice(TYPES),
        "args": lambda: tuple(rng.choices(names, k=rng.choice((0, 1, 2, 2, 3, 65)))),
        "mems": lambda: tuple(rng.choices(names, k=rng.choice((0, 1, 2)))),
        "imms": lambda: tuple(rng.choices(INTEGERS, k=rng.choice((0, 1, 1, 2)))),
        "gate": lambda: rng.choice(names),
        "other": lambda: rng.choice(names),
        "carries": lambda: tuple((rng.choice(names), rng.choice(names)) for _ in range(rng.randint(0, 2))),
    }
    value = getattr(other, part) if rng.random() < 0.5 else choices[part]()
    return replace(instr, **{part: value})


@pytest.fixture(scope="module")
def verdicts() -> Counter[str]:
    """How often each clause was cited over many corrupted kernels; an empty clause stands for admitted ones."""
    rng = Random("corrupted")
    kernels = [random_kernel(rng) for _ in range(60)]
    counts: Counter[str] = Counter()
    for _ in range(4000):
        kernel = corrupted(rng, rng.choice(kernels))
        try:
            verify(kernel)
        except VerifyError as error:
            counts[error.clause] += 1
            continue
        counts[""] += 1
        assert parse(format_kernel(kernel)) == kernel == from_json(to_json(kernel))
        assert uses(kernel).forms
    return counts


def test_every_refusal_cites_a_clause(verdicts: Counter[str]) -> None:
    assert verdicts.keys() <= {*CLAUSES, ""}
    assert len(verdicts) > 15


def test_some_corruptions_do_no_harm(verdicts: Counter[str]) -> None:
    assert 50 < verdicts[""] < verdicts.total() / 2
