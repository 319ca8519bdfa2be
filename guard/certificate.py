"""What training brought a model, in writing: the certificates that a bundle's card can hold.

Plain records that need no torch, so that a serving host can read them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, TypeAdapter, model_validator

from medward.guard.spec import AnyTask

CERTIFICATE, CERTIFIED, ORIGINAL = "certificate.json", "model.onnx", "original.onnx"
"""What a certificate's file is called, and among its `files` the model that it speaks of and the model before."""
HARDENED_MARK = "medward.hardened"
"""The name in a model file of the method that hardened it: such a file has a certificate somewhere."""
PrivacyUnit = Literal["patient", "row"]
"""Whose presence differential privacy hides: all rows of one patient, or one row."""


Guarantee = Literal[
    "empirical, not certified",
    "certified answer by answer: no change within the radius alters a decision whose bound holds",
]
"""What a hardened model promises: estimates of attacks, or bounds that hold for some answers and show for which."""
EMPIRICAL: Guarantee = "empirical, not certified"
PER_ANSWER: Guarantee = "certified answer by answer: no change within the radius alters a decision whose bound holds"


class CanaryRecord(BaseModel):
    """A canary record says which made-up rows an audit may ask about: how many coins were flipped, and for which rows.

    `digest` is the SHA-256 of the rows with the truth of every coin (`guard.data.canaries.CanarySet.digest`); keep the
    file that holds them private.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    included: int
    digest: str


class PrivacyCertificate(BaseModel):
    """A privacy certificate states what differential privacy a training had, and what that does not cover.

    (`epsilon`, `delta`) are what was spent, never what was asked for, by `accountant`, for adding or removing one
    `unit`; they follow from `steps` of the Gaussian mechanism with `noise_multiplier` on a Poisson sample of `unit`s
    drawn with `sample_rate`, each clipped to the norm `clip`. `other_mechanisms` are the noise multipliers of what else
    looked at the rows once (a noisy count of classes). `start` says where weights came from: drawn anew, or from a
    training that its owner states has not seen these rows. `trained` are the parameters that moved, `part` which those
    are in a word. `not_covered` are sentences a reader must know; `measured` what was measured without privacy, on rows
    kept apart. `original` and `hardened` are digests of weights, `data` of rows, `files` of what was written beside.
    `manifest` is the digest of the coin flip that held candidates out (`guard.data.coin_flip`). `task` is what the
    network answers, for rows within `low` and `high`, where training was told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: Literal["privacy"] = "privacy"
    method: str = "dp"
    epsilon: float = Field(ge=0)
    delta: float = Field(gt=0, lt=1)
    target_epsilon: float = Field(gt=0)
    unit: PrivacyUnit
    units: int
    rows: dict[str, int]
    accountant: str
    sampling: Literal["Poisson"] = "Poisson"
    noise_multiplier: float = Field(gt=0)
    sample_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    clip: float = Field(gt=0)
    other_mechanisms: tuple[float, ...] = ()
    start: Literal["fresh", "pretrained"]
    part: Literal["all", "head", "lora"]
    trained: int
    settings: dict[str, JsonValue]
    not_covered: tuple[str, ...]
    notes: tuple[str, ...] = ()
    measure: str
    measured: dict[str, float]
    canaries: CanaryRecord | None = None
    manifest: str | None = None
    task: AnyTask | None = None
    low: float | None = None
    high: float | None = None
    seed: int
    data: str
    original: str
    hardened: str
    versions: dict[str, str]
    files: dict[str, str] = {}


class Accuracy(BaseModel):
    """Accuracy is what the certificate's `measure` names, on the selection rows.

    `clean`: as they are. `universal`: under the worst of freshly made universal changes, one for each goal of the task
    (away from the labels and towards each class; away, no finding, all findings; a number up, down). `per_input`: under
    a change made for each row. The changes are short searches by the defense itself, so these two are estimates from
    above; what an attacker achieves, `medward validate` measures. `certified`: what no change whatever can take away,
    by interval bounds, from below; None where none were computed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean: float
    universal: float
    per_input: float
    certified: float | None = None


class CertifiedShare(BaseModel):
    """A certified share says of how many selection rows no change within `radius` alters the decision, right or wrong.

    By interval bounds in float32 that are not rounded outwards; None where the original has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: float
    before: float | None
    after: float


class RobustnessCertificate(BaseModel):
    """A robustness certificate states what a training did against small changes, and what that seems to have brought.

    `before` and `after` are measured on the rows that also chose the epoch, so `after` is a little flattering. Where
    these rows were set apart from those trained on, the original may have learned them: `before` is None, and a note
    says so.
    `epsilon` is the radius asked for, in `unit`; methods may train at a larger one (see `settings`). `original` and
    `hardened` are digests of the weights, `data` of the rows (both splits), `files` of what was written beside this.
    `certified_shares` are of methods that train with bounds. `changes` says how those of the accuracies were made:
    searched for, or drawn at random and the same for all rows, the worst of which is counted as one change for each.
    `best_epoch` is None where there were no epochs of which one was kept.
    `notes` are what a reader must know besides, such as that nothing was gained. `task` is what the network answers,
    with the operating points or the tolerance that decisions were made with in training and measuring; `measure` says
    what the accuracies count. Certificates from before there were several claims are of this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: Literal["robustness"] = "robustness"
    method: str
    guarantee: Guarantee = EMPIRICAL
    notes: tuple[str, ...] = ()
    settings: dict[str, JsonValue]
    epsilon: float
    unit: Literal["input units", "standard deviations of each feature"]
    low: float | None
    high: float | None
    task: AnyTask
    measure: str
    seed: int
    rows: dict[str, int]
    data: str
    original: str
    hardened: str
    before: Accuracy | None
    after: Accuracy
    changes: Literal["searched", "random"] = "searched"
    certified_shares: tuple[CertifiedShare, ...] = ()
    epochs: int
    best_epoch: int | None
    versions: dict[str, str]
    files: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _says_its_task(cls, record: Any) -> Any:
        """Refuse a certificate from before tasks, which did not say what the scores mean."""
        if isinstance(record, dict) and "classes" in record and "task" not in record:
            raise ValueError(
                "certificate: was written before certificates said the model's task; run medward harden again, or read "
                "the file as plain JSON"
            )
        return record


def _claim_of(record: Any) -> str:
    """What a certificate claims; the first ones did not say it."""
    found = record.get("claim", "robustness") if isinstance(record, dict) else getattr(record, "claim", "")
    return str(found)


AnyCertificate = Annotated[
    Annotated[RobustnessCertificate, Tag("robustness")] | Annotated[PrivacyCertificate, Tag("privacy")],
    Discriminator(_claim_of),
]
"""A certificate of any claim."""
_READ: TypeAdapter[AnyCertificate] = TypeAdapter(AnyCertificate)


def read_certificate(data: bytes) -> AnyCertificate:
    """The certificate that the JSON `data` is. Raises `ValueError` for anything else."""
    return _READ.validate_json(data)


_UNIVERSAL_WORDS = {
    "searched": "one change for all rows",
    "random": "the worst of a few random changes, each the same for all rows, no attack:",
}


def certificate_sentence(certificate: AnyCertificate) -> str:
    """What training brought, in one sentence; of privacy also how many matters are not covered."""
    c = certificate
    if isinstance(c, RobustnessCertificate):
        was = "" if c.before is None else f"{c.before.universal:.3f} before and "
        proven = "" if c.after.certified is None else f", of which no change takes away {c.after.certified:.3f}"
        return (
            f"hardened by {c.method} against changes within {c.epsilon:.4g} {c.unit}: {c.measure} under "
            f"{_UNIVERSAL_WORDS[c.changes]} {was}{c.after.universal:.3f} after{proven}; {c.guarantee}"
        )
    besides = f"; {len(c.not_covered)} matters are not covered, see not_covered" if c.not_covered else ""
    began = ", from weights that are taken never to have seen these rows" if c.start == "pretrained" else ""
    return (
        f"trained with differential privacy{began}: epsilon {c.epsilon:.3g} at delta {c.delta:.3g} per {c.unit}, by "
        f"{c.accountant}{besides}"
    )
