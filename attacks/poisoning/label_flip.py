"""Label flip.

Reference: Tolpegin et al., "Data poisoning attacks against federated learning systems", ESORICS 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFlip:
    """Label flip teaches the client's rows with wrong labels; its images stay as they are.

    Rows of class `source` are said to be of class `target`; without both, every class k of `classes` is said to be
    class classes - 1 - k, so that with an odd number the one in the middle stays.
    """

    classes: int
    source: int | None = None
    target: int | None = None

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise MedwardError(f"label flip: needs 2 classes or more, got {self.classes}")
        given = [each for each in (self.source, self.target) if each is not None]
        if len(given) == 1 or len(set(given)) < len(given) or not all(0 <= each < self.classes for each in given):
            raise MedwardError(
                f"label flip: source and target must be two different classes of {self.classes}, or neither given; "
                f"got {self.source} and {self.target}"
            )

    def flipped(self, labels: Ints) -> Ints:
        """(n,): what the labels are said to be."""
        if self.source is None or self.target is None:
            return np.asarray(self.classes - 1 - labels)
        return np.where(labels == self.source, self.target, labels)

    def poisoned(self, rows: Split) -> Split:
        """`rows` with flipped labels."""
        return replace(rows, labels=self.flipped(np.asarray(rows.labels)))
