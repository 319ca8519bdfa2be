"""Which certificate goes into a bundle's card: the one of the model file that was handed in, and no other.

A bundle holds the model as Medward exported it, whose bytes may differ from the file that was handed in. What binds a
certificate is therefore the SHA-256 of that file: training wrote it into the certificate, `protect` compares it, and
the card keeps both, under the card's own digest. That the exported model decides as the file does is checked when it is
exported. None of this shows who wrote a certificate: whoever can edit ``certificate.json`` before a model is protected
can make it say anything, and only the digest of a bundle that was kept elsewhere tells it from another.
"""

from __future__ import annotations

from pathlib import Path

from medward.guard.bundle.card import sha256
from medward.guard.certificate import (
    CERTIFICATE,
    CERTIFIED,
    HARDENED_MARK,
    AnyCertificate,
    certificate_sentence,
    read_certificate,
)
from medward.guard.data.split import log
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec


def model_file_digest(model: object) -> str | None:
    """The SHA-256 of the file that `model` names; None where it names none."""
    path = Path(model) if isinstance(model, str | Path) else None
    try:
        return sha256(path.read_bytes()) if path is not None and path.is_file() else None
    except OSError:
        return None  # who reads the model says so


def find_certificate(model: object, said: Path | str | None) -> AnyCertificate | None:
    """The certificate of the file `model`: at `said`, else the ``certificate.json`` beside it; None without one.

    One that lies beside the file and is of another is not carried over, which is logged, as is that a hardened file
    came without one. Raises `MedwardError` where one that was `said` cannot be read or is of another file.
    """
    digest = model_file_digest(model)
    beside = Path(model).with_name(CERTIFICATE) if digest is not None and isinstance(model, str | Path) else None
    place = Path(said) if said is not None else beside
    if place is None or (said is None and not place.is_file()):
        if is_hardened(model):
            log.warning(
                "%s: was hardened, and no %s lies beside it: what training claims is not in the bundle; "
                "give --certificate",
                model,
                CERTIFICATE,
            )
        return None
    try:
        if digest is None:
            raise MedwardError(
                f"{place}: binds the file {CERTIFIED} and the model was not given as a file; protect the {CERTIFIED} "
                "that medward harden wrote"
            )
        found = _read(place)
        _check_same(found, digest, place)
    except MedwardError as error:
        if said is not None:
            raise
        log.warning("%s; it is not carried over", error)
        return None
    log.info("certificate: %s", certificate_sentence(found))
    return found


def check_range(certificate: AnyCertificate | None, spec: ModelSpec) -> None:
    """Refuse a range of inputs that is not the one a model was trained for, as its certificate says; `MedwardError`."""
    if certificate is None or certificate.low is None or certificate.high is None or spec.low is None:
        return
    trained, said = (certificate.low, certificate.high), (spec.low, spec.high)
    if trained != said:
        raise MedwardError(
            f"range: inputs are said to lie within {spec.low:g} and {spec.high:g}, and its certificate says that the "
            f"model was trained for {trained[0]:g} to {trained[1]:g}; say --low {trained[0]:g} --high {trained[1]:g}, "
            "and give images whose values lie there"
        )


def is_hardened(model: object) -> bool:
    """Whether `model` names an ONNX file that `medward harden` wrote as hardened; weights alone do not say it."""
    path = Path(model) if isinstance(model, str | Path) else None
    try:
        return path is not None and path.is_file() and HARDENED_MARK.encode() in path.read_bytes()
    except OSError:
        return False  # who reads the model says so


def _read(place: Path) -> AnyCertificate:
    try:
        return read_certificate(place.read_bytes())
    except OSError as error:
        raise MedwardError(f"{place}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise MedwardError(f"{place}: is no certificate of medward harden, or damaged") from None


def _check_same(certificate: AnyCertificate, digest: str, place: Path) -> None:
    """Refuse a certificate of another file than the one of `digest`."""
    named = next((name for name, known in certificate.files.items() if known == digest), None)
    if named == CERTIFIED:
        return
    if named is not None:
        raise MedwardError(f"{place}: certifies {CERTIFIED}, and the model given is {named}; protect {CERTIFIED}")
    other = certificate.files.get(CERTIFIED, "none")[:12]
    raise MedwardError(
        f"{place}: is of another model: it certifies a file of SHA-256 {other}, the model given is {digest[:12]}"
    )
