"""Throws random and mutated kernels at the text and the JSON reader: only our errors, no crash, no hang.

    python -m bench.fuzz_front_doors [COUNT] [SEED]

Half of the inputs are text, half JSON. Each starts as the example of some form and is mutated a few times, or is noise.
What a reader accepts must survive the verifier with a `SpecError` at worst, and print and read back as the same kernel.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from portkit.errors import SpecError
from portkit.spec.examples import example
from portkit.spec.forms import FORMS
from portkit.spec.jsonform import from_json, to_json
from portkit.spec.kernel import Kernel
from portkit.spec.text import format as format_kernel
from portkit.spec.text import parse
from portkit.spec.verify import verify

WORDS = [
    *FORMS,
    *("f32x8", "f32x65", "boolx2", "f64", "token", "if", "else", "align", "<-", "=", "[", "]", "*", "#"),
    *("buffer", "scalar", "shared", "numeric", "strict", "begin", "portkit", "kernel", "-1", "0", "1", "2147483648"),
    *("nan", "inf", "-inf", "nan:0x0", "0x1p99999999", "1e999999999", "-0.0", "9" * 500, "0x" + "f" * 40, "_" * 65),
    *("", "\t", "\r", "\0", "\x85", "\u2028", "\udc80"),
    *("\N{ZERO WIDTH SPACE}", "\N{RIGHT-TO-LEFT OVERRIDE}", "\N{ARABIC-INDIC DIGIT THREE}"),
]
JSON_WORDS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'""', b"null", b"true", b"1e400", b"-1", b"1.5", b'"token"', b'"f32x64"'),
    *(b'"endloop"', b'"form"', b'"\\ud800"', b'"\\u0000"', b"9" * 400, b"\xff", b"\xed\xa0\x80"),
    *(b"[" * 200, b'{"a":' * 200),
]
STRING = re.compile(rb'"[^"\\]*"(?!:)')
"""A string that is a value, not a key."""
SLOW = 1.0
"""Seconds: an input that takes longer counts as a hang."""


@dataclass
class Tally:
    """What came of the inputs."""

    inputs: int = 0
    accepted: int = 0
    valid: int = 0
    slowest: float = 0.0
    clauses: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])


def mutated_text(rng: random.Random, corpus: list[str]) -> str:
    """Return a kernel text with a few tokens, lines or characters changed, mostly below its first lines."""
    lines = rng.choice(corpus).split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = min(rng.randrange(len(lines)) + 2 * (rng.random() < 0.9), len(lines) - 1)
        words = lines[at].split(" ")
        place = rng.randrange(len(words))
        match rng.randrange(8):
            case 0:
                words[place] = rng.choice(WORDS)
            case 1:
                words.insert(place, rng.choice(WORDS))
            case 2:
                del words[place]
            case 3 | 4:
                words[place] = rng.choice(rng.choice(lines).split(" "))
            case 5:
                lines.insert(at, rng.choice(lines))
            case 6:
                words = [lines[at][: rng.randint(0, len(lines[at]))]]
            case _:
                words[place] = words[place][::-1] + chr(rng.randrange(0x110000))
        lines[at] = " ".join(words)
    return "\n".join(lines)


def mutated_json(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Return a JSON kernel with a few strings, bytes or parts changed."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 2, 3))):
        strings = [match.span() for match in STRING.finditer(data)] or [(0, 0)]
        at, end = rng.choice(strings)
        match rng.randrange(6):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at:end] = rng.choice(JSON_WORDS)
            case 2:
                data[at : at + 12] = data[end : end + rng.randint(0, 20)]
            case 3:
                data[at:end] = f'"{rng.choice(WORDS)}"'.encode("utf-8", "replace")
            case _:
                start, stop = rng.choice(strings)
                data[at:end] = data[start:stop]
    return bytes(data)


def noise(rng: random.Random) -> str:
    """Return characters and words in no order."""
    return "".join(rng.choice([rng.choice(WORDS), " ", "\n", chr(rng.randrange(0x110000))]) for _ in range(60))


def judge(read: Callable[[], Kernel], name: str, tally: Tally) -> None:
    """Feed one input to a reader and note what came of it."""
    start = time.perf_counter()
    tally.inputs += 1
    try:
        kernel = read()
        tally.accepted += 1
        if parse(format_kernel(kernel)) != kernel or from_json(to_json(kernel)) != kernel:
            tally.faults.append(f"{name}: does not round-trip")
        verify(kernel)
        tally.valid += 1
    except SpecError as error:
        tally.clauses[error.clause] += 1
        str(error).encode()
    except Exception as error:  # noqa: BLE001 (whatever escapes is what is looked for)
        tally.faults.append(f"{name}: {type(error).__name__}: {error}")
    elapsed = time.perf_counter() - start
    tally.slowest = max(tally.slowest, elapsed)
    if elapsed > SLOW:
        tally.faults.append(f"{name}: took {elapsed:.1f} s")


def fuzz(count: int, seed: int) -> Tally:
    """Feed `count` inputs to the two readers; the same seed gives the same inputs."""
    rng = random.Random(seed)
    kernels = [example(form) for form in FORMS.values()]
    texts, jsons = [format_kernel(k) for k in kernels], [to_json(k) for k in kernels]
    tally = Tally()
    for number in range(count):
        if number % 2:
            text = noise(rng) if rng.random() < 0.1 else mutated_text(rng, texts)
            judge(lambda text=text: parse(text), f"text {number}", tally)
        else:
            data = rng.randbytes(100) if rng.random() < 0.1 else mutated_json(rng, jsons)
            judge(lambda data=data: from_json(data), f"JSON {number}", tally)
    return tally


def main() -> int:
    """Run, report, and return 1 if anything but our errors came out."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    start = time.perf_counter()
    tally = fuzz(count, seed)
    elapsed = time.perf_counter() - start
    print(f"{tally.inputs} inputs in {elapsed:.1f} s, slowest {tally.slowest * 1e3:.0f} ms")
    print(f"accepted {tally.accepted}, of these verified {tally.valid}; refused by {len(tally.clauses)} clauses:")
    print("  " + " ".join(f"{clause}:{n}" for clause, n in tally.clauses.most_common()))
    print(f"faults: {len(tally.faults)}", *tally.faults[:20], sep="\n  ")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
