"""Checks an attestation where the bundle is deployed: no network, no torch, none of the attacks.

What is believed is the key, which came by another way than envelope and bundle did. What is checked: that it signed the
envelope, that every file of the bundle is the one that was tested and no other file is there, and that the report, if
it is at hand, is the one that was signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from medward.guard.bundle.card import sha256
from medward.guard.errors import IntegrityError, MedwardError
from medward.integrations.evidence.envelope import verified_payload
from medward.integrations.evidence.signing_keys import PublicKey
from medward.integrations.evidence.statement import (
    ACCEPTED_UNTIL,
    PAYLOAD_TYPE,
    REPORT_NAME,
    AttestationStatement,
    AttestedTests,
    ResourceDescriptor,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAttestation:
    """A verified attestation is what a key signed of a bundle that lies here unchanged.

    `report_compared` says whether the report was at hand and is the one that was signed.
    """

    tests: AttestedTests
    key_id: str
    files: tuple[str, ...]
    report_compared: bool

    @property
    def annotations(self) -> Mapping[str, str]:
        """What the signer says of the report: its status, when it was made, digests of policy and data."""
        return (self.tests.report and self.tests.report.annotations) or {}

    def passes(self, today: date) -> bool:
        """Whether every test passed, or what a person lives with is still lived with `today`."""
        until = self.annotations.get(ACCEPTED_UNTIL)
        return self.tests.result != "FAILED" and (until is None or today.isoformat() <= until)

    def sentences(self, today: date) -> list[str]:
        """What was verified, what the result is, and what it does not say."""
        said, tests = self.annotations, self.tests
        found = [
            f"signed by key {self.key_id}; all {len(self.files)} files of the bundle are those that were tested",
            f"{tests.result}: report of {said.get('created', 'no date')}, {said.get('status', 'no status')}; "
            f"{len(tests.passedTests)} attacks kept out, {len(tests.warnedTests)} lived with or not judged, "
            f"{len(tests.failedTests)} not shown to be kept out",
        ]
        found += [f"{word}: {', '.join(names)}" for word, names in self._doubts.items() if names]
        if until := said.get(ACCEPTED_UNTIL):
            over = "" if today.isoformat() <= until else ", which is over: validate again"
            found.append(f"what is lived with is lived with until {until}{over}")
        if said.get("quick") == "true":
            found.append("the report is of a quick look")
        if not self.report_compared:
            found.append("the report itself was not compared; give it with --report")
        return found

    @property
    def _doubts(self) -> dict[str, tuple[str, ...]]:
        return {"lived with or not judged": self.tests.warnedTests, "not shown to be kept out": self.tests.failedTests}


def verify_attestation(
    envelope: Path | str, key: PublicKey, bundle: Path | str, report: Path | str | None = None
) -> VerifiedAttestation:
    """Check the `envelope` file by `key` against the folder `bundle` and, where given, the `report` or its folder.

    Raises `IntegrityError`, which names the first file that is not as it was signed, and `MedwardError` for what cannot
    be read.
    """
    statement = AttestationStatement.from_bytes(
        verified_payload(_bytes(Path(envelope)), PAYLOAD_TYPE, key, name=envelope), str(envelope)
    )
    _check_files(Path(bundle), statement.subject)
    if report is not None:
        _check_report(Path(report), statement.predicate.report, envelope)
    return VerifiedAttestation(
        tests=statement.predicate,
        key_id=key.key_id,
        files=tuple(each.name for each in statement.subject),
        report_compared=report is not None,
    )


def _check_files(folder: Path, subjects: tuple[ResourceDescriptor, ...]) -> None:
    """Refuse a folder whose files are not exactly the `subjects`."""
    if not folder.is_dir():
        raise MedwardError(f"{folder}: is not a bundle folder")
    attested, there = {each.name: each for each in subjects}, {each.name for each in folder.iterdir()}
    if extra := sorted(there - attested.keys()):
        raise IntegrityError(f"{folder / extra[0]}: is not among the files that were tested; remove it")
    if missing := sorted(attested.keys() - there):
        raise IntegrityError(f"{folder}: lacks {missing[0]}, which was tested; restore the bundle from its source")
    for name, subject in sorted(attested.items()):
        file = folder / name
        if file.is_symlink() or not file.is_file():
            raise IntegrityError(f"{file}: must be a regular file, not a link or folder")
        if sha256(_bytes(file)) != subject.digest.get("sha256"):
            raise IntegrityError(
                f"{file}: is not the file that was tested; restore the bundle from its source, or validate and attest "
                "this one"
            )


def _check_report(given: Path, signed: ResourceDescriptor | None, envelope: Path | str) -> None:
    """Refuse a report that is not the one that was `signed`."""
    if signed is None:
        raise IntegrityError(f"{envelope}: names no {REPORT_NAME}, so none can be compared; leave --report out")
    file = given / REPORT_NAME if given.is_dir() else given
    if sha256(_bytes(file)) != signed.digest.get("sha256"):
        raise IntegrityError(f"{file}: is not the report that was signed; get it again from whoever signed it")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise MedwardError(f"{file}: cannot be read: {error.strerror}") from None
