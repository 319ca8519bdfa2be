"""Keys that sign evidence: Ed25519, or ECDSA over P-256 with SHA-256, in PEM files as OpenSSL writes them.

``openssl genpkey -algorithm ed25519 -out key.pem`` makes one, ``openssl pkey -in key.pem -pubout -out key.pub`` its
public half. A key's name is the SHA-256 of its public half (SubjectPublicKeyInfo, DER), as others that sign name it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from medward.guard.errors import MedwardError

PASSWORD_VARIABLE = "MEDWARD_KEY_PASSWORD"  # noqa: S105 (a name)
_KINDS = "Ed25519 or ECDSA P-256"
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key says whether a signature is by its private half."""

    key: Any

    @property
    def key_id(self) -> str:
        """SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(self.key.public_bytes(serialization.Encoding.DER, form)).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's over `message`; of ECDSA in DER."""
        try:
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                self.key.verify(signature, message)
            else:
                self.key.verify(signature, message, _ECDSA)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A signing key is the private half; it is never written, and no message shows any of it."""

    key: Any

    def __repr__(self) -> str:
        return f"SigningKey({self.public.key_id[:12]})"

    @property
    def public(self) -> PublicKey:
        """The half that others check with."""
        return PublicKey(self.key.public_key())

    def sign(self, message: bytes) -> bytes:
        """A signature over `message`, of ECDSA in DER."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return bytes(self.key.sign(message))
        return bytes(self.key.sign(message, _ECDSA))


def load_signing_key(path: Path | str) -> SigningKey:
    """The private key at `path`, a PEM file; its password, if it has one, is in MEDWARD_KEY_PASSWORD.

    Raises `MedwardError` where there is none, for a public one and for other kinds.
    """
    data, password = _key_file(path), os.environ.get(PASSWORD_VARIABLE)
    if b"PUBLIC KEY" in data:
        raise MedwardError(f"{path}: is a public key, and signing takes the private one; give that file")
    try:
        key = serialization.load_pem_private_key(data, password.encode() if password else None)
    except TypeError:  # encrypted without a password, or a password for what is not encrypted
        said = "is not encrypted; unset" if password else "is encrypted; put its password into"
        raise MedwardError(f"{path}: {said} {PASSWORD_VARIABLE}") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = f", or {PASSWORD_VARIABLE} is not its password" if password else ""
        raise MedwardError(f"{path}: is no private key in PEM{hint}; give an {_KINDS} key") from None
    return SigningKey(_known_kind(key, path, ed25519.Ed25519PrivateKey, ec.EllipticCurvePrivateKey))


def load_public_key(path: Path | str) -> PublicKey:
    """The public key at `path`, a PEM file.

    Raises `MedwardError` where there is none, for a private one, which whoever verifies need not have, and for other
    kinds.
    """
    data = _key_file(path)
    if b"PRIVATE KEY" in data:
        raise MedwardError(
            f"{path}: is a private key, and verifying takes the public one; make it with "
            f"`openssl pkey -in {path} -pubout`"
        )
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise MedwardError(f"{path}: is no public key in PEM; give an {_KINDS} key") from None
    return PublicKey(_known_kind(key, path, ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey))


def _key_file(path: Path | str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MedwardError(f"{path}: the key cannot be read: {error.strerror}") from None


def _known_kind(key: Any, path: Path | str, edwards: type, elliptic: type) -> Any:
    """`key`, if it is of a kind that is signed with here."""
    curve = getattr(key, "curve", None) if isinstance(key, elliptic) else None
    if isinstance(key, edwards) or isinstance(curve, ec.SECP256R1):
        return key
    raise MedwardError(f"{path}: is a key of another kind ({type(key).__name__}); give an {_KINDS} key")
