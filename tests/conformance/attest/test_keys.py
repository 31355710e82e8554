"""Keys: files that keep a secret, and whom a key may speak for."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portkit.conformance.attest.keys import (
    base64_line,
    generate,
    load_public_key,
    load_signing_key,
    load_trust,
    public_path,
    speakers,
)
from portkit.errors import SchemaError, UsageError
from tests.conformance.attest.published import ACME, OTHER, trusted


def private_pem(key: object, passphrase: bytes = b"") -> bytes:
    assert isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey)
    how = pem.BestAvailableEncryption(passphrase) if passphrase else pem.NoEncryption()
    return key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, how)


def public_pem(key: object) -> bytes:
    assert isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey)
    return key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)


CURVE = ec.generate_private_key(ec.SECP256R1())


def secret(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_a_new_pair_signs_and_verifies(tmp_path: Path) -> None:
    made = generate(tmp_path / "k.pem")
    signature = load_signing_key(tmp_path / "k.pem").sign(b"x")
    public = load_public_key(public_path(tmp_path / "k.pem"))
    assert public.verifies(signature, b"x")
    assert not public.verifies(signature, b"y")
    assert public.keyid == made.keyid
    assert public.name == "k.pem"


def test_two_pairs_differ(tmp_path: Path) -> None:
    assert generate(tmp_path / "a").keyid != generate(tmp_path / "b").keyid


def test_a_private_key_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    generate(tmp_path / "k.pem")
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in (tmp_path / "k.pem.pub").read_bytes()


@pytest.mark.parametrize("taken", ["k.pem", "k.pem.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UsageError, match=f"{taken} is there already"):
        generate(tmp_path / "k.pem")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "mine")]


def test_a_key_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "k.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is there already"):
        generate(tmp_path / "k.pem")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        generate(tmp_path / "missing" / "k.pem")


def test_the_id_is_the_digest_of_the_der_form() -> None:
    der = ACME.key.public_key().public_bytes(pem.Encoding.DER, pem.PublicFormat.SubjectPublicKeyInfo)
    assert ACME.public.keyid == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path / "k", private_pem(ACME.key))
    path.chmod(mode)
    with pytest.raises(UsageError, match="can be read by others"):
        load_signing_key(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a private key in PEM"),
        (b"\x00\xff" * 100, "not a private key in PEM"),
        (public_pem(ACME.key), "that is a public key"),
        (private_pem(ACME.key)[:60], "not a private key in PEM"),
        (private_pem(CURVE), "not an Ed25519 key"),
        (private_pem(ACME.key, b"pass"), "has a passphrase"),
        (b"x" * (1 << 20), "larger than"),
    ],
    ids=["empty", "noise", "public", "cut off", "another kind", "passphrase", "huge"],
)
def test_what_is_no_private_key_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        load_signing_key(secret(tmp_path / "k", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a public key in PEM"),
        (private_pem(ACME.key), "is a private key; give the public one"),
        (public_pem(CURVE), "not an Ed25519 key"),
        (public_pem(ACME.key)[:60], "not a public key in PEM"),
    ],
    ids=["empty", "private", "another kind", "cut off"],
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        load_public_key(secret(tmp_path / "k.pub", content))


def test_a_missing_key_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        load_signing_key(tmp_path / "missing")


# --- trust --------------------------------------------------------------------------------------------------------


def trust_file(folder: Path, *tables: str) -> Path:
    path = folder / "keys.toml"
    path.write_text("".join(f"[[key]]\n{table}\n" for table in tables))
    return path


def line(key: object = ACME.public, name: str = "Acme", more: str = "") -> str:
    return f'name = "{name}"\npublic = "{base64_line(key)}"\n{more}'  # pyright: ignore[reportArgumentType]


def test_keys_are_read_from_a_file_of_names(tmp_path: Path) -> None:
    path = trust_file(tmp_path, line(more='backends = ["acme-*"]'), line(OTHER.public, "Other"))
    found = load_trust(path)
    assert [(key.name, key.backends, key.keyid) for key in found] == [
        ("Acme", ("acme-*",), ACME.public.keyid),
        ("Other", (), OTHER.public.keyid),
    ]


def test_keys_are_read_from_a_folder_and_from_one_file(tmp_path: Path) -> None:
    made = generate(tmp_path / "lab.pem")
    assert [key.keyid for key in load_trust(tmp_path)] == [made.keyid]
    assert [key.label for key in load_trust(tmp_path / "lab.pem.pub")] == [f"lab.pem ({made.keyid[:16]})"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key"),
        ("[[key]]\n", "missing required field `name`"),
        ("[[key]]\nname = ''\npublic = ''\n", "not a file of keys"),
        ("[[key]]\nname = 'x'\npublic = 'AAAA'\n", "public of the key 'x' is not the base64 line"),
        ("[[key]]\nname = 'x'\npublic = '<>'\n", "public of the key 'x' is not the base64 line"),
        (f"[[key]]\n{line()}backends = ['../x']\n", "not a file of keys"),
        (f"[[key]]\n{line()}[[key]]\n{line(name='Again')}", "'Acme' and 'Again' are the same one"),
        ("key = 3", "not a file of keys"),
        ("[[[", "not a file of keys"),
    ],
)
def test_a_file_of_keys_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises((SchemaError, UsageError), match=message):
        load_trust(tmp_path / "keys.toml")


def test_a_folder_without_keys_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no key"):
        load_trust(tmp_path)


def test_a_key_speaks_for_the_names_that_it_reserves_and_nobody_else_does() -> None:
    acme, other = trusted(backends=("acme", "acme-*")), trusted(OTHER, "Other")
    assert speakers([acme, other], "acme-2") == (acme,)
    assert speakers([acme, other], "chip") == (other,)
    assert speakers([acme], "chip") == ()
