"""The contract of hardening: a trained network in, a sturdier one and a certificate of what was done out."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from medward.guard.certificate import AnyCertificate
from medward.guard.data.split import Split
from medward.guard.spec import AnyTask

_LIBRARIES = ("medward", "numpy", "torch")


@dataclass(frozen=True, slots=True)
class Hardened:
    """The hardened network, in eval mode with frozen weights on the device it was trained on, and its certificate."""

    network: nn.Module
    certificate: AnyCertificate


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


def hardening_versions(*besides: str) -> dict[str, str]:
    """The versions of what ran, and of the libraries `besides`, as far as they are installed."""
    found = {}
    for name in (*_LIBRARIES, *besides):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
