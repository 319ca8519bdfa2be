"""A distributed trigger: each malicious client marks a part of it.

Reference: Xie et al., "DBA: distributed backdoor attacks against federated learning", ICLR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medward.attacks.poisoning.triggers.patch import PatchTrigger
from medward.guard.errors import MedwardError
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedTrigger:
    """A distributed trigger is a patch whose rows are dealt to `parts` clients; this is the share of client `part`.

    It is the whole patch that is looked for in generated images.
    """

    whole: PatchTrigger
    parts: int
    part: int

    name: ClassVar[str] = "distributed"
    present: ClassVar[float] = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.parts <= self.whole.size:
            raise MedwardError(f"distributed: part {self.part} of {self.parts} does not divide {self.whole.size} rows")

    def mark(self, images: Array) -> Array:
        """The images with this client's rows of the patch."""
        marked, whole = images.copy(), self.whole.mark(images)
        first = images.shape[2] - self.whole.inset - self.whole.size
        for row in range(first + self.part, first + self.whole.size, self.parts):
            marked[:, :, row] = whole[:, :, row]
        return marked

    def presence(self, images: Array, clean: Array) -> Array:
        """(n,): as of the whole patch."""
        return self.whole.presence(images, clean)
