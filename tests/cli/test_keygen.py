"""`portkit keygen`."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from portkit.conformance.attest.keys import load_trust
from tests.cli.calls import Portkit, one_line


def test_a_key_pair_is_made_and_both_halves_are_named(portkit: Portkit) -> None:
    called = portkit("keygen", "acme.pem", "--name", 'The "Acme" lab')
    assert (called.status, called.error) == (0, "")
    assert "private   acme.pem" in called.out
    assert "public    acme.pem.pub" in called.out
    assert stat.S_IMODE(Path("acme.pem").stat().st_mode) == 0o600
    assert "PRIVATE" not in called.out


def test_what_is_printed_for_a_registry_is_a_file_of_keys(portkit: Portkit) -> None:
    out = portkit("keygen", "acme.pem", "--name", 'The "Acme" lab').out
    text = out[out.index("[[key]]") : out.index("\nnext")]
    assert tomllib.loads(text)["key"][0]["name"] == 'The "Acme" lab'
    Path("keys.toml").write_text(text)
    [key] = load_trust(Path("keys.toml"))
    assert key.keyid == load_trust(Path("acme.pem.pub"))[0].keyid


def test_a_key_pair_as_json(portkit: Portkit) -> None:
    told = portkit("keygen", "acme.pem", "--json").told
    assert (told["private"], told["public"], len(told["keyid"])) == ("acme.pem", "acme.pem.pub", 64)
    assert told["public_base64"] in Path("acme.pem.pub").read_text()


@pytest.mark.parametrize("taken", ["acme.pem", "acme.pem.pub"])
def test_a_file_that_is_there_is_kept(portkit: Portkit, taken: str) -> None:
    Path(taken).write_text("mine")
    called = portkit("keygen", "acme.pem")
    assert called.status == 2
    assert f"{taken} is there already; a key is never overwritten" in one_line(called)
    assert [path.read_text() for path in Path().iterdir()] == ["mine"]


def test_a_folder_that_is_not_there_is_refused_in_one_line(portkit: Portkit) -> None:
    called = portkit("keygen", "missing/acme.pem")
    assert called.status == 2
    assert "cannot write missing/acme.pem" in one_line(called)
