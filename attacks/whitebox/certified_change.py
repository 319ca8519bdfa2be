"""Success against a certificate: another decision that is certified too, or one that no longer is.

The scores are those of `attacks.whitebox.certificate.CertifiedNetwork`. From these a criterion makes the scores that
the certificate leaves to an attacker, and hands them to another criterion, whose losses, goals and margin then count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medward.attacks.whitebox.criterion import Criterion
from medward.attacks.whitebox.losses import LossFunction


@dataclass(frozen=True, slots=True)
class CertifiedChange:
    """Certified change is won by a row that `plain` counts and whose certificate says so: lower(other) > upper(clean).

    `count` are the classes, or the findings of a model of several (`findings`). With `deny` it is won by a row whose
    clean decision the certificate no longer holds, whatever it is decided as.
    """

    plain: Criterion
    count: int
    findings: bool = False
    deny: bool = False

    @property
    def losses(self) -> Mapping[str, LossFunction]:
        """Those of the plain criterion, of what the certificate leaves."""
        return {name: self._read(loss) for name, loss in self.plain.losses.items()}

    @property
    def shared_losses(self) -> Sequence[LossFunction]:
        """Those of the plain criterion, of what the certificate leaves."""
        return tuple(self._read(loss) for loss in self.plain.shared_losses)

    @property
    def lasting(self) -> bool:
        """As of the plain criterion: a certificate is not rounded."""
        return self.plain.lasting

    def decided(self, scores: Tensor) -> Tensor:
        """What the model's own scores decide."""
        return self.plain.decided(scores[:, : self.count])

    def kept(self, scores: Tensor, decided: Tensor) -> Tensor:
        """As of the plain criterion."""
        return self.plain.kept(scores, decided)

    def decisions(self, y: Tensor) -> Tensor:
        """As of the plain criterion."""
        return self.plain.decisions(y)

    def margin(self, scores: Tensor, y: Tensor) -> Tensor:
        """How far the certificate itself is beyond the point of success."""
        return self.plain.margin(self.left(scores, y), y)

    def answered(self, scores: Tensor, decided: Tensor, y: Tensor) -> Tensor:
        """As of the plain criterion: what a target answers, and calls certified, is judged by who asked it."""
        return self.plain.answered(scores, decided, y)

    def open(self, y: Tensor, truth: Tensor | None = None) -> Tensor:
        """As of the plain criterion."""
        return self.plain.open(y, truth)

    def scale_free(self, scores: Tensor, y: Tensor, most: int) -> list[tuple[LossFunction, Tensor | None]]:
        """Those of the plain criterion, of what the certificate leaves."""
        return [(self._read(loss), goals) for loss, goals in self.plain.scale_free(self.left(scores, y), y, most)]

    def left(self, scores: Tensor, y: Tensor) -> Tensor:
        """The scores ``(n, K)`` that the certificate leaves to an attacker who started from rows decided as `y`."""
        proven = scores[:, self.count :]
        if self.findings:
            found = (y[:, None] >> torch.arange(self.count, device=y.device)) & 1 == 1
            least, most = proven.chunk(2, dim=1)
            return torch.where(found != self.deny, most, least)
        own = torch.nn.functional.one_hot(y, self.count).bool()
        return torch.where(own, proven, 0.0) if self.deny else torch.where(own, 0.0, proven)

    def _read(self, loss: LossFunction) -> LossFunction:
        """`loss` of what the certificate leaves."""

        def climbed(scores: Tensor, y: Tensor, *goals: Tensor) -> Tensor:
            return loss(self.left(scores, y), y, *goals)

        return climbed
