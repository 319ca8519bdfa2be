"""The contract of hardening: a trained network in, a sturdier one and a certificate of what was done out."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator
from torch import nn

from medward.guard.data.split import Split
from medward.guard.spec import AnyTask

_LIBRARIES = ("medward", "numpy", "torch")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(_Record):
    """Accuracy is what the certificate's `measure` names, on the selection rows.

    `clean`: as they are. `universal`: under the worst of freshly made universal changes, one for each goal of the task
    (away from the labels and towards each class; away, no finding, all findings; a number up, down). `per_input`: under
    a change made for each row. The changes are short searches by the defense itself, so the last two are estimates from
    above; what an attacker achieves, `medward validate` measures.
    """

    clean: float
    universal: float
    per_input: float


class Certificate(_Record):
    """What was done, to which model, on which data, and what it seems to have brought.

    `before` and `after` are measured on the rows that also chose the epoch, so `after` is a little flattering.
    `epsilon` is the radius asked for, in `unit`; methods may train at a larger one (see `settings`). `original` and
    `hardened` are digests of the weights, `data` of the rows (both splits), `files` of what was written beside this.
    `notes` are what a reader must know besides, such as that nothing was gained. `task` is what the network answers,
    with the operating points or the tolerance that decisions were made with in training and measuring; `measure` says
    what the accuracies count.
    """

    method: str
    guarantee: Literal["empirical, not certified"] = "empirical, not certified"
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
    before: Accuracy
    after: Accuracy
    epochs: int
    best_epoch: int
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
        task: AnyTask | None = None,
    ) -> Hardened:
        """Train a copy of `network` on `train`, keep the epoch that does best on `selection`.

        Inputs are float ``(n, *shape)`` within ``[low, high]`` (None: no bound); both splits need labels, as
        `guard.data.split.label_split` has them for `task` (None: one class of as many as the network scores). What is
        defended is the decision at its operating points, or a number within its tolerance. `network` is not touched.
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
