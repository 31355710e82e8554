"""Calling the command line inside this process, as a person would type it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from portkit.cli.main import main

ESCAPE = "\x1b"


@dataclass(frozen=True, slots=True)
class Called:
    """How a command ended and what it printed."""

    status: int
    out: str
    error: str

    @property
    def told(self) -> Any:
        """What a program reads on standard output: JSON and nothing else."""
        return json.loads(self.out)


Portkit: TypeAlias = Callable[..., Called]


def caller(capsys: pytest.CaptureFixture[str]) -> Portkit:
    """Return a function that runs `portkit` with some arguments and checks what holds for every command."""

    def portkit(*arguments: object) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, error = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        assert "Traceback" not in error
        assert ESCAPE not in out + error
        return Called(ended.value.code, out, error)

    return portkit


def one_line(called: Called) -> str:
    """Return the only line that a refused command prints."""
    assert called.out == ""
    lines = called.error.splitlines()
    assert len(lines) == 1, called.error
    assert lines[0].startswith("portkit: error: ")
    return lines[0].removeprefix("portkit: error: ")
