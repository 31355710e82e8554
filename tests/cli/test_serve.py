"""`portkit serve`: it says how to use what it serves, ends on Ctrl-C, and refuses what it cannot serve."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from portkit.cli.serve import _token
from portkit.errors import UsageError
from portkit.runtime.client import DeviceClient
from portkit.runtime.remote import TOKEN
from tests.cli.calls import Portkit, one_line

ROOT = Path(__file__).resolve().parents[2]
GOOD = "tests.fakes.devices:GOOD"


def test_what_it_prints_is_what_to_type_and_ctrl_c_ends_it() -> None:
    command = [sys.executable, "-c", "from portkit.cli.main import main; main()", "serve", "-b", GOOD]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}

    # not the group of this process, which may ignore Ctrl-C
    def hears() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears,
    ) as served:
        assert served.stdout is not None
        line = served.stdout.readline()
        found = re.fullmatch(r"serving \S+, \d+ at once; to use it: portkit conform --backend (tcp://\S+)\n", line)
        assert found, line
        with DeviceClient(found[1]) as client:
            assert client.name == "evaluator"
        served.send_signal(signal.SIGINT)
        _, error = served.communicate(timeout=30)
    assert (served.returncode, error) == (0, "portkit: interrupted; what was served has ended\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-b", "tcp://127.0.0.1:1"], "is served elsewhere already"),
        (["-b", GOOD, "--listen", "7770"], "is no address; write HOST:PORT"),
        (["-b", GOOD, "--listen", "0.0.0.0:0"], "can be reached from elsewhere"),
        (["-b", "no_such_backend"], "unknown backend"),
        (["-b", GOOD, "--token-file", "no/such/file"], "cannot read the token in no/such/file"),
    ],
)
def test_what_cannot_be_served_is_refused(arguments: list[str], said: str, portkit: Portkit) -> None:
    called = portkit("serve", *arguments)
    assert called.status == 2
    assert said in one_line(called)


def test_a_device_that_cannot_run_is_not_served(portkit: Portkit) -> None:
    called = portkit("serve", "-b", "tests.fakes.devices:CANNOT_RUN")
    assert called.status == 3
    assert "no such chip in this machine" in one_line(called)


def test_the_token_is_in_a_file_or_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("from the file\n", encoding="utf-8")
    monkeypatch.setenv(TOKEN, "from the environment")
    assert (_token(file), _token(None)) == ("from the file", "from the environment")


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch()
    with pytest.raises(UsageError, match="holds no token; `openssl rand"):
        _token(file)


def test_a_command_with_commas_is_one_backend(portkit: Portkit) -> None:
    called = portkit("conform", "-b", "pipe:/no/such/program a,b")
    assert one_line(called) == "'pipe:/no/such/program a,b' cannot be started: No such file or directory"
