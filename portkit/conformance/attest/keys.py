"""Ed25519 keys: making them, reading them, and whom they are trusted to speak for.

Private keys are PKCS #8 and public ones SubjectPublicKeyInfo, both in PEM (RFC 5958, 5280, 7468, 8410), as OpenSSL
writes them. A key is called by its id, the SHA-256 of the DER form of the public key:

openssl pkey -pubin -in acme.pem.pub -outform DER | sha256sum
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from portkit.conformance.files import writing
from portkit.conformance.report.model import Record, read_file
from portkit.errors import SchemaError, UsageError

TRUST_FILE = "keys.toml"
"""The file of a registry that says whose signatures it takes."""
PUBLIC_SUFFIX = ".pub"
MAX_KEY_BYTES = 16 << 10
MAX_TRUST_BYTES = 1 << 20
MAX_KEYS = 1000
SHOWN = 16
"""Letters of a key's id that people are shown."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key with what is said of it.

    `backends` are names or globs: the key speaks for these alone, and these take no signature of another. Without any
    it speaks for every backend that no other key has reserved.
    """

    key: Ed25519PublicKey
    name: str = ""
    backends: tuple[str, ...] = ()

    @property
    def keyid(self) -> str:
        """The SHA-256 of its DER form, in hexadecimal."""
        return hashlib.sha256(
            self.key.public_bytes(pem.Encoding.DER, pem.PublicFormat.SubjectPublicKeyInfo)
        ).hexdigest()

    @property
    def label(self) -> str:
        """What people are shown: its name, if it has one, and the start of its id."""
        short = self.keyid[:SHOWN]
        return f"{self.name} ({short})" if self.name else short

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made the signature of a message (RFC 8032)."""
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def reserves(self, backend: str) -> bool:
        """Whether a backend's name belongs to this key, however it is spelled in capitals."""
        return any(fnmatchcase(backend.lower(), pattern.lower()) for pattern in self.backends)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key."""

    key: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return PublicKey(self.key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature; the same for the same message."""
        return self.key.sign(message)


def speakers(keys: Iterable[PublicKey], backend: str) -> tuple[PublicKey, ...]:
    """Return the keys that may sign for a backend: those that reserve its name, or else those that reserve none."""
    known = tuple(keys)
    owners = tuple(key for key in known if key.reserves(backend))
    return owners or tuple(key for key in known if not key.backends)


# --- files --------------------------------------------------------------------------------------------------------


def generate(path: Path) -> PublicKey:
    """Make a key pair: the private key in `path`, which its owner alone can read, the public one in `path`.pub.

    Raises `UsageError` where either file is there already, or cannot be written.
    """
    made = SigningKey(Ed25519PrivateKey.generate())
    public = public_path(path)
    for file in (path, public):
        if file.exists() or file.is_symlink():
            raise UsageError(f"{file} is there already; a key is never overwritten, choose another name")
    secret = made.key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    shared = made.public.key.public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    _write_new(path, secret, 0o600)
    try:
        _write_new(public, shared, 0o644)
    except UsageError:
        path.unlink()
        raise
    return made.public


def public_path(path: Path) -> Path:
    """Return where the public half of a private key lies."""
    return path.with_name(path.name + PUBLIC_SUFFIX)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key.

    Raises `UsageError` for a file that cannot be read, or that others can read; `SchemaError` for one that is no
    Ed25519 key in PEM, or that has a passphrase.
    """
    content = read_file(path, MAX_KEY_BYTES)
    try:
        key = pem.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise SchemaError(f"{path} has a passphrase; portkit signs with keys that have none") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = "; that is a public key" if b"PUBLIC KEY" in content else ""
        raise SchemaError(f"{path} is not a private key in PEM{hint}; portkit keygen makes one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SchemaError(f"{path} is not an Ed25519 key; portkit keygen makes one")
    if path.stat().st_mode & _OTHERS:
        raise UsageError(f"{path} can be read by others, so it may not be a secret any more; chmod 600 {path}")
    return SigningKey(key)


def load_public_key(path: Path, name: str = "") -> PublicKey:
    """Read a public key in PEM. Raises `UsageError` and `SchemaError` as `load_signing_key` does."""
    content = read_file(path, MAX_KEY_BYTES)
    if b"PRIVATE KEY" in content:
        raise SchemaError(f"{path} is a private key; give the public one, {public_path(path)}")
    return PublicKey(_public(content, str(path)), name or path.name.removesuffix(PUBLIC_SUFFIX))


def _public(content: bytes, where: str) -> Ed25519PublicKey:
    try:
        key = pem.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SchemaError(
            f"{where} is not a public key in PEM; portkit keygen makes one beside the private key"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise SchemaError(f"{where} is not an Ed25519 key; portkit keygen makes one")
    return key


# --- trust --------------------------------------------------------------------------------------------------------

_Label = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"\S")]
_Pattern = Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9_.+*?-]+(?!\n)$")]


class _Key(Record, frozen=True):
    name: _Label
    public: Annotated[str, msgspec.Meta(max_length=200)]
    backends: Annotated[tuple[_Pattern, ...], msgspec.Meta(max_length=100)] = ()


class _Trust(Record, frozen=True):
    key: Annotated[tuple[_Key, ...], msgspec.Meta(max_length=MAX_KEYS)] = ()


def load_trust(path: Path) -> tuple[PublicKey, ...]:
    """Read the keys that are trusted: of one `.pub` file, of all in a folder, or of a TOML file.

    Raises `UsageError` where there are none, `SchemaError` for a file that does not fit or a key that is listed twice.
    """
    if path.is_dir():
        keys = [load_public_key(file) for file in sorted(path.glob(f"*{PUBLIC_SUFFIX}"))[:MAX_KEYS]]
    elif path.name.endswith(".toml"):
        keys = _listed(path)
    else:
        keys = [load_public_key(path)]
    if not keys:
        raise UsageError(f"{path} holds no key; put files {PUBLIC_SUFFIX} of portkit keygen there, or [[key]] tables")
    _check_once(path, keys)
    return tuple(keys)


def _listed(path: Path) -> list[PublicKey]:
    try:
        listed = msgspec.toml.decode(read_file(path, MAX_TRUST_BYTES), type=_Trust).key
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SchemaError(f"{path}: not a file of keys: {error}") from error
    return [PublicKey(_of_line(path, entry), entry.name, entry.backends) for entry in listed]


def _of_line(path: Path, entry: _Key) -> Ed25519PublicKey:
    """Return the key of a PEM file's one line of base64."""
    where = f"{path}: public of the key {entry.name!r}"
    try:
        der = base64.b64decode(entry.public, validate=True)
        key = pem.load_der_public_key(der)
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise SchemaError(f"{where} is not the base64 line of a {PUBLIC_SUFFIX} file") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SchemaError(f"{where} is not an Ed25519 key")
    return key


def _check_once(path: Path, keys: Iterable[PublicKey]) -> None:
    names: dict[str, str] = {}
    for key in keys:
        if key.keyid in names:
            raise SchemaError(f"{path}: the keys {names[key.keyid]!r} and {key.name!r} are the same one")
        names[key.keyid] = key.name


def base64_line(key: PublicKey) -> str:
    """Return a key as `public` of a trust file: the line between the marks of its PEM file."""
    der = key.key.public_bytes(pem.Encoding.DER, pem.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()
