"""A signed envelope is a payload with a signature over its type and its bytes, as DSSE has it.

What is signed is not JSON but the pre-authentication encoding, so nothing is re-serialised before it is checked, and
the bytes that were checked are the bytes that are read.
Source: github.com/secure-systems-lab/dsse, protocol.md and envelope.md, version 1.0.2.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

from medward.guard.errors import IntegrityError
from medward.integrations.evidence.signing_keys import PublicKey, SigningKey

_REMEDY = "get it again from whoever signed it"


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that DSSE signs: both parts, each after its length in bytes, so that no two pairs read alike."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """The file of an envelope around `payload`, signed by `key`."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return _envelope_file(payload_type, payload, key.public.key_id, signature)


def verified_payload(envelope: bytes, payload_type: str, key: PublicKey, *, name: Path | str = "envelope") -> bytes:
    """The payload of an `envelope` that `key` signed, of the type asked for.

    Besides the signature the file itself must be as `sign_envelope` writes it, byte for byte: what the signature does
    not cover (spaces, the name of the key, members that DSSE would have readers pass over) is held too. So any byte
    that is another is found. Raises `IntegrityError`, which calls the file `name`.
    """
    try:
        content = json.loads(envelope)
        [signed] = content["signatures"]
        kind, key_id = str(content["payloadType"]), str(signed["keyid"])
        payload, signature = (base64.b64decode(each, validate=True) for each in (content["payload"], signed["sig"]))
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise IntegrityError(f"{name}: is no DSSE envelope with one signature, or is damaged; {_REMEDY}") from None
    if kind != payload_type:
        raise IntegrityError(f"{name}: holds {kind!r:.80}, expected {payload_type!r}; {_REMEDY}")
    if not key.verifies(signature, pre_authentication_encoding(kind, payload)):
        raise IntegrityError(
            f"{name}: its signature is not by key {key.key_id[:12]} over this content: it was changed, or another key "
            f"signed it ({key_id[:12]!r}); {_REMEDY}, or give the key it was signed with"
        )
    if envelope != _envelope_file(kind, payload, key.key_id, signature):
        raise IntegrityError(
            f"{name}: what it says is signed, and the file is not as it was written (spaces, the key's name, or "
            f"members that nobody signed); {_REMEDY}"
        )
    return payload


def _envelope_file(payload_type: str, payload: bytes, key_id: str, signature: bytes) -> bytes:
    payload64, signature64 = (base64.b64encode(each).decode() for each in (payload, signature))
    signatures = [{"keyid": key_id, "sig": signature64}]
    content = {"payload": payload64, "payloadType": payload_type, "signatures": signatures}
    return (json.dumps(content, indent=1) + "\n").encode()
