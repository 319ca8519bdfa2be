"""A certificate authority of a test's own, and the certificates that it signs, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Signed:
    """A certificate and its private key, as files."""

    certificate: Path
    private_key: Path


class Authority:
    """An authority, whose own certificate is the file `path`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name, self.path = folder, name, folder / f"{name}.pem"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._built(name, self.key, issuer=name, constraints=True)
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def sign(self, name: str, *, days: int = 1) -> Signed:
        """A certificate for this machine's loopback address, for servers and clients alike."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._built(name, key, issuer=self.name, constraints=False, days=days)
        signed = Signed(self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key")
        signed.certificate.write_bytes(made.public_bytes(Encoding.PEM))
        signed.private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return signed

    def _built(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, issuer: str, constraints: bool, days: int = 1
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
        built = (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=constraints, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if constraints:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            built = built.add_extension(usage, critical=True)
        else:
            address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
            built = built.add_extension(address, critical=False).add_extension(uses, critical=False)
        return built.sign(self.key, SHA256())
