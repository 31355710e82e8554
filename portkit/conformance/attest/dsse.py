"""DSSE: the Dead Simple Signing Envelope, version 1.0 of its protocol.

A signature is over `PAE(type, payload)`, "DSSEv1" and both with their lengths, so that no parser sees anything that
was not signed. Source: https://github.com/secure-systems-lab/dsse, `protocol.md` and `envelope.md`.

Stricter than it asks: the fields of the format and no others, base64 in one spelling, one signature a key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from portkit.conformance.attest.keys import SHOWN, PublicKey, SigningKey
from portkit.conformance.report.model import Record
from portkit.errors import SchemaError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 256 << 10
MAX_SIGNATURES = 16
_SIGNATURE_BYTES = 64

KeyId = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?(?!\n)$")]


class Signature(Record, frozen=True):
    """A signature in base64, and a hint at the key that made it."""

    sig: Annotated[str, msgspec.Meta(max_length=200)]
    keyid: KeyId = ""


class Envelope(Record, frozen=True, rename={"payload_type": "payloadType"}):
    """A payload in base64 with its type, and signatures of both."""

    payload: str
    payload_type: Annotated[str, msgspec.Meta(max_length=200)]
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=MAX_SIGNATURES)]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding, which is what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, keys: Iterable[SigningKey], payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return an envelope in JSON, signed with each key."""
    message = pae(payload_type, payload)
    signatures = tuple(Signature(_encoded(key.sign(message)), key.public.keyid) for key in keys)
    envelope = Envelope(_encoded(payload), payload_type, signatures)
    return msgspec.json.format(msgspec.json.encode(envelope), indent=1) + b"\n"


def unseal(content: bytes, name: str) -> tuple[Envelope, bytes]:
    """Read an envelope and return it with its payload, which nobody has vouched for yet.

    Raises `SchemaError` for what is no envelope of an in-toto statement, and where a key has signed twice.
    """
    try:
        envelope = msgspec.json.decode(content, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"{name}: not a DSSE envelope: {error}") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SchemaError(f"{name}: its payload is of the type {envelope.payload_type[:60]!r}, not {PAYLOAD_TYPE}")
    if not envelope.signatures:
        raise SchemaError(f"{name}: carries no signature")
    for what, values in (
        ("the same signature", [s.sig for s in envelope.signatures]),
        ("a signature of the same key", [s.keyid for s in envelope.signatures if s.keyid]),
    ):
        if len(set(values)) < len(values):
            raise SchemaError(f"{name}: carries {what} twice")
    return envelope, _decoded(envelope.payload, f"{name}: payload")


def signers(envelope: Envelope, payload: bytes, keys: Sequence[PublicKey], name: str) -> tuple[PublicKey, ...]:
    """Return the keys that signed a payload, at least one.

    Signatures of other keys are not looked at. Raises `SchemaError` where no key has signed, where a signature that
    claims to be of one of the keys is not, or names another key than the one it is of.
    """
    message = pae(envelope.payload_type, payload)
    found = [key for s in envelope.signatures if (key := _signer(s, message, keys, name)) is not None]
    if len({key.keyid for key in found}) < len(found):
        raise SchemaError(f"{name}: carries a signature of the same key twice")
    if not found:
        ids = ", ".join(s.keyid[:SHOWN] or "a key without id" for s in envelope.signatures)
        known = ", ".join(key.label for key in keys[:4]) + (" ..." if len(keys) > 4 else "")
        raise SchemaError(f"{name}: signed by {ids}, which is not trusted here; trusted: {known or 'none'}")
    return tuple(found)


def _signer(signature: Signature, message: bytes, keys: Sequence[PublicKey], name: str) -> PublicKey | None:
    """Return the key that a signature is of, None where it is none of those; its own hint does not decide."""
    content = _decoded(signature.sig, f"{name}: signature")
    if len(content) != _SIGNATURE_BYTES:
        raise SchemaError(f"{name}: a signature has {len(content)} bytes, those of Ed25519 have {_SIGNATURE_BYTES}")
    key = next((key for key in keys if key.verifies(content, message)), None)
    claimed = next((known for known in keys if known.keyid == signature.keyid), None)
    if key is None and claimed is not None:
        raise SchemaError(f"{name}: the signature of {claimed.label} is not of this payload; one of them was changed")
    if key is not None and signature.keyid not in ("", key.keyid):
        raise SchemaError(f"{name}: a signature names the key {signature.keyid[:SHOWN]} and is of {key.label}")
    return key


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decoded(text: str, what: str) -> bytes:
    """Return what base64 stands for, in the standard or the URL alphabet. Raises `SchemaError` for other text."""
    standard = text.replace("-", "+").replace("_", "/")
    try:
        content = base64.b64decode(standard, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SchemaError(f"{what} is not base64: {error}") from error
    if _encoded(content) != standard:
        raise SchemaError(f"{what} is not base64 as it is written by the standard: its last bits are not zero")
    return content
