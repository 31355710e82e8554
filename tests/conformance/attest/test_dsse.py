"""The envelope: what is signed, and everything about one that is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from portkit.conformance.attest.dsse import PAYLOAD_TYPE, pae, seal, signers, unseal
from portkit.conformance.attest.keys import SigningKey
from portkit.errors import SchemaError
from tests.conformance.attest.published import ACME, OTHER, signing_key, trusted

PAYLOAD = b'{"a": 1}'


def envelope(**changes: Any) -> dict[str, Any]:
    return {**json.loads(seal(PAYLOAD, [ACME])), **changes}


def opened(content: dict[str, Any] | bytes, *keys: Any) -> list[str]:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    found, payload = unseal(raw, "x.json")
    return [key.name for key in signers(found, payload, keys or (trusted(),), "x.json")]


def test_the_encoding_is_that_of_the_protocols_example() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_lengths_are_of_bytes_and_not_of_letters() -> None:
    assert pae("\N{LATIN SMALL LETTER E WITH ACUTE}", b"") == b"DSSEv1 2 \xc3\xa9 0 "


@given(st.tuples(st.text(), st.binary()), st.tuples(st.text(), st.binary()))
def test_two_messages_never_have_one_encoding(a: tuple[str, bytes], b: tuple[str, bytes]) -> None:
    assert (pae(*a) == pae(*b)) == (a == b)


def test_signatures_are_those_of_the_standards_first_vector() -> None:
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signature = SigningKey(Ed25519PrivateKey.from_private_bytes(secret)).sign(b"")
    assert signature.hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
        "24655141438e7a100b"
    )


def test_the_signature_is_over_type_and_payload() -> None:
    [signature] = envelope()["signatures"]
    message = b"DSSEv1 28 application/vnd.in-toto+json 8 " + PAYLOAD
    ACME.key.public_key().verify(base64.b64decode(signature["sig"]), message)
    assert signature["keyid"] == ACME.public.keyid


def test_an_envelope_is_opened_by_the_key_that_closed_it() -> None:
    assert opened(envelope()) == ["Acme"]


def test_of_several_signatures_those_of_trusted_keys_count() -> None:
    content = seal(PAYLOAD, [OTHER, ACME])
    assert opened(content) == ["Acme"]
    assert opened(content, trusted(), trusted(OTHER, "Other")) == ["Other", "Acme"]


def test_the_key_is_found_without_a_hint() -> None:
    signature = {"sig": envelope()["signatures"][0]["sig"]}
    assert opened(envelope(signatures=[signature]), trusted(OTHER), trusted()) == ["Acme"]


def test_both_alphabets_of_base64_are_read() -> None:
    key = next(
        k for k in map(signing_key, range(1, 60)) if "/" in json.loads(seal(PAYLOAD, [k]))["signatures"][0]["sig"]
    )
    content = json.loads(seal(PAYLOAD, [key]))
    content["signatures"][0]["sig"] = content["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
    assert opened(content, trusted(key)) == ["Acme"]


SIGNATURE = envelope()["signatures"][0]
LAST_BITS = envelope()["payload"].replace("X0=", "X1=")
WRONG: dict[str, tuple[Any, str]] = {
    "cut off": (json.dumps(envelope()).encode()[:200], "not a DSSE envelope: Input data was truncated"),
    "empty": (b"", "not a DSSE envelope"),
    "not JSON": (b"\xff\xfe", "not a DSSE envelope"),
    "deeply nested": (b'{"payload":' + b"[" * 100_000, "not a DSSE envelope"),
    "a list": (b"[]", "not a DSSE envelope: Expected `object`"),
    "a field more": (envelope(note="x"), "unknown field `note`"),
    "a field less": ({"payload": "", "signatures": []}, "missing required field `payloadType`"),
    "another type": (
        envelope(payloadType="text/html"),
        r"is of the type 'text/html', not application/vnd\.in-toto\+json",
    ),
    "no signature": (envelope(signatures=[]), "carries no signature"),
    "signed twice": (envelope(signatures=[SIGNATURE, SIGNATURE]), "carries the same signature twice"),
    "one key twice": (
        envelope(signatures=[SIGNATURE, {**SIGNATURE, "sig": "AAAA"}]),
        "carries a signature of the same key twice",
    ),
    "one key twice without hint": (
        envelope(signatures=[SIGNATURE, {"sig": SIGNATURE["sig"].replace("+", "-").replace("/", "_")}]),
        "twice",
    ),
    "a thousand signatures": (envelope(signatures=[{"sig": str(n)} for n in range(1000)]), "length <= 16"),
    "no base64": (envelope(payload="<script>"), "payload is not base64"),
    "base64 with a line feed": (envelope(payload=envelope()["payload"] + "\n"), "payload is not base64"),
    "other last bits": (envelope(payload=LAST_BITS), "its last bits are not zero"),
    "a short signature": (envelope(signatures=[{"sig": "AAAA"}]), "has 3 bytes, those of Ed25519 have 64"),
    "another payload": (
        envelope(payload=base64.b64encode(b"{}").decode()),
        r"the signature of Acme \([0-9a-f]{16}\) is not of this payload",
    ),
    "another key": (
        seal(PAYLOAD, [OTHER]),
        f"signed by {OTHER.public.keyid[:16]}, which is not trusted here; trusted: Ac",
    ),
    "a wrong hint": (
        envelope(signatures=[{**SIGNATURE, "keyid": OTHER.public.keyid}]),
        f"names the key {OTHER.public.keyid[:16]} and is of Acme",
    ),
    "a hint that is no id": (envelope(signatures=[{**SIGNATURE, "keyid": "../x"}]), "keyid"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG.keys())
def test_an_envelope_that_is_wrong_is_refused_in_words(content: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message) as caught:
        opened(content)
    assert str(caught.value).startswith("x.json")


def test_a_signature_of_another_type_does_not_count() -> None:
    content = json.loads(seal(PAYLOAD, [ACME], "text/plain"))
    with pytest.raises(SchemaError, match="is not of this payload"):
        opened({**content, "payloadType": PAYLOAD_TYPE})


@given(st.data())
def test_an_envelope_with_any_one_byte_changed_is_refused_or_means_the_same(data: st.DataObject) -> None:
    content = bytearray(seal(PAYLOAD, [ACME]))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    try:
        found, payload = unseal(bytes(content), "x")
        names = signers(found, payload, [trusted()], "x")
    except SchemaError:
        return
    assert payload == PAYLOAD
    assert [key.name for key in names] == ["Acme"]
