"""Pixel redaction before a victim: text in an image is filled before anybody who answers sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from medward.attacks.disclosure.victim import ExtractionTurn, Shown, Victim
from medward.guard.intake.deidentify.burned_in import fill_burned_in_text
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.reading import TextReader
from medward.guard.types import Array

Redaction = Callable[[Array], Array]
"""An image ``(C, H, W)`` in, the same without what it must not show out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedSightVictim:
    """A victim of redacted sight is one that sees every image as `redact` leaves it; all else it is shown as it is."""

    victim: Victim
    redact: Redaction

    def answer(self, shown: Shown, ask: ExtractionTurn) -> str:
        """What the `victim` answers about the redacted image."""
        if shown.image is None:
            return self.victim.answer(shown, ask)
        return self.victim.answer(replace(shown, image=self.redact(shown.image)), ask)


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnedInRedaction:
    """Burned-in redaction fills the text of grey images ``(1, H, W)`` from 0 to 1, as `medward deidentify` does.

    With `everywhere` all pixels are read and not only where there are strokes. An image is redacted once, however often
    it is shown. Raises `MedwardError` where text can still be read.
    """

    reader: TextReader
    everywhere: bool = False
    _done: dict[bytes, Array] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, image: Array) -> Array:
        """The image at 8 bits with its text filled."""
        values = np.rint(image * 255).clip(0, 255).astype(np.uint8)
        key = values.tobytes()
        if key not in self._done:
            frames = StoredFrames(values=values, photometric="MONOCHROME2")
            fill_burned_in_text(frames, self.reader, everywhere=self.everywhere)
            self._done[key] = (frames.values / np.float32(255)).astype(np.float32)
        return self._done[key]
