"""`portkit serve`: lend a device of this machine to a judge elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from portkit.cli.output import print_json, say, warn
from portkit.errors import UsageError

DEFAULT = "127.0.0.1:7770"


def serve(
    backend: str = typer.Option(..., "--backend", "-b", help="An installed backend, or module:ATTRIBUTE."),
    listen: str = typer.Option(DEFAULT, "--listen", metavar="HOST:PORT", help="Where to listen; port 0 is any free."),
    stdio: bool = typer.Option(False, "--stdio", help="Serve one device on standard input and output instead."),
    token_file: Path | None = typer.Option(
        None, "--token-file", help="A file with the token that clients must show; by default that in PORTKIT_TOKEN."
    ),
    devices: int | None = typer.Option(
        None, "--devices", min=1, help="Device processes at once; by default as many as the backend declares."
    ),
    json: bool = typer.Option(False, "--json", help="Print JSON, one object once it listens."),
) -> None:
    """Lend a device to portkit elsewhere, as --backend tcp://HOST:PORT or --backend 'pipe:COMMAND'.

    Nothing is encrypted, and whoever connects runs code here: listen on this machine only and let ssh forward the port,
    or have ssh run `portkit serve --stdio`.
    """
    from portkit.runtime.client import DeviceClient
    from portkit.runtime.listen import Listener, serve_streams
    from portkit.runtime.remote import host_and_port, is_remote

    if is_remote(backend):
        raise UsageError(f"{backend} is served elsewhere already; --backend names a backend of this machine")
    if stdio:
        raise typer.Exit(serve_streams(backend))
    host, port = host_and_port(listen)
    with DeviceClient(backend) as client:
        client.require()
        most = devices or client.capabilities.limits.max_processes
    listener = Listener(backend, host, port, _token(token_file), most)
    if json:
        print_json({"backend": backend, "address": listener.address, "devices": most})
    else:
        say(f"serving {backend}, {most} at once; to use it: portkit conform --backend {listener.address}")
    sys.stdout.flush()
    try:
        listener.serve()
    except KeyboardInterrupt:
        warn("portkit: interrupted; what was served has ended")
    finally:
        listener.close()


def _token(file: Path | None) -> str:
    from portkit.runtime.remote import TOKEN

    if file is None:
        return os.environ.get(TOKEN, "")
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the token in {file}: {error}") from error
    if not token:
        raise UsageError(f"{file} holds no token; `openssl rand -hex 32 > {file}` makes one")
    return token
