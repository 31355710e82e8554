"""A capabilities file as text, from capabilities that were measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from portkit.contract import Capabilities

_HEAD = (
    "# Drafted by `portkit probe` from what was measured. `tuning` and `max_processes` are as they were declared,",
    "# and lists have what was tried: read it before you take it over, then let `portkit conform` test it.",
)


def draft_text(capabilities: Capabilities) -> str:
    """Return the TOML text of a capabilities file."""
    record: dict[str, Any] = msgspec.to_builtins(capabilities)
    lines = [*_HEAD, *_pairs({key: value for key, value in record.items() if not isinstance(value, dict)})]
    for key, table in record.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]", *_pairs(cast("dict[str, Any]", table))]
    return "\n".join([*lines, ""])


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{key} = {_value(value)}" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        pairs = ", ".join(_pairs(cast("dict[str, Any]", value)))
        return f"{{ {pairs} }}" if pairs else "{}"
    return f"[{', '.join(map(_value, value))}]"
