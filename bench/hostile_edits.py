"""Mutations of files that portkit wrote: of their bytes, of decoded JSON, and of TOML."""

from __future__ import annotations

import json
import random
import sys
from typing import Any, TypeAlias

from portkit.conformance.report.text import printable

TEXTS = [
    *(
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "</style><svg onload=x>",
    ),
    *("</pre></details></main><h1>conformant</h1>", "]]><x/>", "&lt;b&gt;&#60;b&#62;", "{{ 7 * 7 }}{% raw %}", "-->"),
    *(
        "javascript:alert(1)",
        "https://evil.example/",
        "//evil.example",
        "data:text/html,<b>",
        "</script><b>",
        "<!--<b>",
    ),
    *("../../../outside", "/etc/passwd", "..", ".", "C:\\x", "a/../../b", "~", "$(touch x)", "`id`", "|x|", "con\n"),
    *(
        "\x1b[2J",
        "\x00",
        "\u202e\u2066",
        "\ufeff",
        "\u2028",
        "\U000e0041",
        "a" * 399,
        "\N{COMBINING ACUTE ACCENT}" * 300,
    ),
    *("", " ", "pass", "conformant: core, standard tier", "0" * 64, "sha256", "__proto__", "__class__", "constructor"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, -(10**30), 0.5, -0.0, sys.float_info.max, 1e-320),
    *(
        [],
        {},
        [[]],
        [None],
        {"": {}},
        "pass",
        "fail",
        "waived",
        "unsupported",
        "silicon",
        "full",
        "2026-13-45T99:99:99+00:00",
    ),
]
PIECES = [
    b"[" * 3000,
    b'{"a":' * 3000,
    b"1e999",
    b"-1",
    b"9" * 400,
    b"null",
    b'"',
    b"\\ud800",
    b"\xff\xfe",
    b"\0",
    b"}",
    b"]",
]


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """Return a file with a few bytes flipped, cut off, put in or moved."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 | 1:
                at = min(at, len(data) - 1) if data else 0
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                del data[at:]
            case 3:
                data[at:at] = rng.choice(PIECES)
            case 4:
                del data[at : at + rng.randrange(1, 60)]
            case _:
                start = rng.randrange(len(data) + 1)
                data[at : at + 20] = data[start : start + 20]
    return bytes(data)


Place: TypeAlias = tuple[Any, Any]


def places(value: Any) -> list[Place]:
    """Return every place of a decoded JSON value, as its container and its key there."""
    found: list[Place] = []
    todo: list[Any] = [value]
    while todo:
        container = todo.pop()
        keys = list(container) if _is_object(container) else list(range(len(container)))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                todo.append(container[key])
    return found


def edited(rng: random.Random, content: bytes) -> bytes:
    """Return a JSON file with a few values changed, taken out, doubled, exchanged, nested or renamed."""
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = places(value)
        if not at:
            break
        container, key = rng.choice(at)
        other, there = rng.choice(at)
        match rng.randrange(8):
            case 0:
                container[key] = rng.choice(VALUES)
            case 1 | 2:
                container[key] = rng.choice(TEXTS)
            case 3:
                del container[key]
            case 4:
                container[key] = json.loads(json.dumps(other[there]))
            case 5:
                container[key] = nested(container[key], rng.choice((1, 50, 150)))
            case 6 if _is_object(container):
                container[rng.choice(TEXTS)] = container.pop(key)
            case _:
                doubled(container, key)
    return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


def nested(value: Any, depth: int) -> Any:
    """Return a value inside of so many lists."""
    for _ in range(depth):
        value = [value]
    return value


def doubled(container: Any, key: Any) -> None:
    """Put an element of a list there twice, or a field once more under another name."""
    if _is_object(container):
        container[f"{key}2"] = container[key]
    else:
        container.insert(key, container[key])


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_SPEAKING = (
    "version",
    "vendor",
    "device",
    "driver",
    "compiler",
    "portkit",
    "spec",
    "suite",
    "contract",
    "suspect",
    "card",
)


def spoken(rng: random.Random, content: bytes) -> bytes:
    """Return a report whose free texts are hostile, and which is a report all the same.

    Every other one has no text with controls, which alone would have it refused.
    """
    value = json.loads(content)
    texts = TEXTS if rng.randrange(2) else [text for text in TEXTS if printable(text) == text]
    for container, key in places(value):
        free = key in _SPEAKING or (key == "reason" and container["verdict"] != "waived")
        if free and isinstance(container[key], str):
            container[key] = rng.choice(texts)
    for name in ("version", "vendor"):
        value["capabilities"][name] = value["subject"][name]
    return json.dumps(value).encode()


def mutated_toml(rng: random.Random, text: str) -> bytes:
    """Return a TOML file with a line, a word or some bytes changed."""
    lines = text.replace("TEXT", rng.choice(TEXTS).translate({ord(c): None for c in '"\\\n\0\x1b'})).split("\n")
    at = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines[at] = rng.choice(lines)
        case 1:
            lines[at] = f"{lines[at].partition('=')[0]}= {json.dumps(rng.choice(TEXTS + VALUES))}"
        case 2:
            return mutated_bytes(rng, "\n".join(lines).encode("utf-8", "replace"))
        case 3:
            lines.insert(at, f"{rng.choice(['x', 'a.b', '[[waiver]]', '[key]'])} = {'[' * rng.choice((1, 3000))}")
        case _:
            pass
    return "\n".join(lines).encode("utf-8", "replace")
