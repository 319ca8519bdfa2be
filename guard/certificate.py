"""What training brought a model, in writing: the certificates that a bundle's card can hold.

Plain records that need no torch, so that a serving host can read them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

PrivacyUnit = Literal["patient", "row"]
"""Whose presence differential privacy hides: all rows of one patient, or one row."""


class CanaryRecord(BaseModel):
    """A canary record says which made-up rows an audit may ask about: how many coins were flipped, and for which file.

    `digest` is the SHA-256 of the file that holds them with the truth of every coin; keep that file private.
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
    seed: int
    data: str
    original: str
    hardened: str
    versions: dict[str, str]
    files: dict[str, str] = {}
