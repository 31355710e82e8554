"""portkit opens no network connection unless asked: sockets are made where a device elsewhere is reached or served."""

from __future__ import annotations

import ast
from pathlib import Path

import portkit

HOME = Path(portkit.__file__).parent
NETWORK = {"aiohttp", "asyncio", "ftplib", "http", "httpx", "requests", "smtplib", "socket", "socketserver", "ssl"}
ASKED_FOR = {"runtime/listen.py", "runtime/remote.py"}
"""`portkit serve` listens, and `--backend tcp://HOST:PORT` connects."""


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def uses_network(file: Path) -> bool:
    return any(name.partition(".")[0] in NETWORK or name == "urllib.request" for name in imported(file))


def test_only_what_reaches_a_device_elsewhere_imports_a_network_module() -> None:
    assert {f.relative_to(HOME).as_posix() for f in HOME.rglob("*.py") if uses_network(f)} == ASKED_FOR
