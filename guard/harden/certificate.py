"""The contract of hardening: a trained classifier in, a sturdier one and a certificate of what was done out."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue
from torch import nn

from medward.guard.data.split import Split

_LIBRARIES = ("medward", "numpy", "torch")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(_Record):
    """Balanced accuracy (mean of the per-class recalls) on the selection rows.

    `clean`: as they are. `universal`: under the worst of freshly made universal changes, one away from the labels and
    one towards each class. `per_input`: under a change made for each row. The changes are short searches by the
    defense itself, so the last two are estimates from above; what an attacker achieves, `medward validate` measures.
    """

    clean: float
    universal: float
    per_input: float


class Certificate(_Record):
    """What was done, to which model, on which data, and what it seems to have brought.

    `before` and `after` are measured on the rows that also chose the epoch, so `after` is a little flattering.
    `epsilon` is the radius asked for, in `unit`; methods may train at a larger one (see `settings`). `original` and
    `hardened` are digests of the weights, `data` of the rows (both splits), `files` of what was written beside this.
    `notes` are what a reader must know besides, such as that nothing was gained. `threshold` is the operating point
    that decisions were made at in training and measuring, None for the largest class.
    """

    method: str
    guarantee: Literal["empirical, not certified"] = "empirical, not certified"
    notes: tuple[str, ...] = ()
    settings: dict[str, JsonValue]
    epsilon: float
    unit: Literal["input units", "standard deviations of each feature"]
    low: float | None
    high: float | None
    threshold: float | None = None
    seed: int
    classes: int
    rows: dict[str, int]
    data: str
    original: str
    hardened: str
    before: Accuracy
    after: Accuracy
    epochs: int
    best_epoch: int
    versions: dict[str, str]
    files: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Hardened:
    """The hardened network, in eval mode with frozen weights on the device it was trained on, and its certificate."""

    network: nn.Module
    certificate: Certificate


class Hardener(Protocol):
    """One method. Settings live in the object; the same seed gives the same weights on the same machine."""

    @property
    def name(self) -> str:
        """What ``--method`` and the certificate call it."""
        ...

    def harden(
        self,
        network: nn.Module,
        train: Split,
        selection: Split,
        *,
        low: float | None,
        high: float | None,
        seed: int,
        threshold: float | None = None,
    ) -> Hardened:
        """Train a copy of `network` on `train`, keep the epoch that does best on `selection`.

        Inputs are float ``(n, *shape)`` within ``[low, high]`` (None: no bound); both splits need labels.
        With a `threshold` (two classes) what is defended is the decision at it. `network` itself is not touched.
        Raises `MedwardError` for data that does not fit.
        """
        ...


def hardening_versions() -> dict[str, str]:
    """What ran, as far as it is installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
