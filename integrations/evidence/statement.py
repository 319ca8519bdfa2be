"""What an attestation says: which tests a bundle's files passed, as an in-toto Statement of a test result.

Subjects are the bundle's files, each by its SHA-256, so that any in-toto verifier can match them. What the tests were
is the report, bound by its SHA-256 as the configuration of the run: it names policy, data, code, seed and libraries.
Source: github.com/in-toto/attestation, spec/v1/statement.md and spec/predicates/test-result.md (0.1.0).
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medward.guard.errors import IntegrityError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
TEST_RESULT_TYPE: Final = "https://in-toto.io/attestation/test-result/v0.1"
REPORT_NAME = "report.json"
ACCEPTED_UNTIL = "accepted until"
"""The annotation of the report that says when the first of the waivers ends that its result rests on."""
Outcome = Literal["PASSED", "WARNED", "FAILED"]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)  # in-toto: pass over the unknown


class ResourceDescriptor(_Said):
    """A resource descriptor names a file and its digests, by algorithm; `annotations` are what else is said of it."""

    name: str
    digest: dict[str, str]
    annotations: dict[str, str] | None = None


class AttestedTests(_Said):
    """The tests of one run, by outcome: attacks that were kept out, are in doubt or lived with, and got through."""

    result: Outcome
    configuration: tuple[ResourceDescriptor, ...]
    passedTests: tuple[str, ...] = ()
    warnedTests: tuple[str, ...] = ()
    failedTests: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every test, those that passed first."""
        return (*self.passedTests, *self.warnedTests, *self.failedTests)

    @property
    def report(self) -> ResourceDescriptor | None:
        """The report that says all of it; None where the run's configuration names none."""
        return next((each for each in self.configuration if each.name == REPORT_NAME), None)


class AttestationStatement(_Said):
    """A statement says of its subjects, files by digest, what the predicate says; members are spelled as in-toto's."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: tuple[ResourceDescriptor, ...] = Field(min_length=1)
    predicateType: Literal["https://in-toto.io/attestation/test-result/v0.1"] = TEST_RESULT_TYPE
    predicate: AttestedTests

    def to_bytes(self) -> bytes:
        """The statement as JSON."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> AttestationStatement:
        """Read a statement; raises `IntegrityError`, which calls it `name`, for any other kind of statement."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "statement"
            raise IntegrityError(
                f"{name}: is signed, and no in-toto statement of test results: {where}: {first['msg']}; "
                "give one that `medward attest` wrote"
            ) from None
