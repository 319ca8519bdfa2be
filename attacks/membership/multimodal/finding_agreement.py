"""Finding agreement: a report about an image that was trained on names its findings rightly, and keeps to them.

It needs nothing but what every answer says, so that no paraphrase and no withheld text hides it. Agreement with what is
true of an image is asked of the image itself, and of changes of it that keep what it shows: what was learned by heart
is right for one and wrong for the others, what was learned well is right for all.

Reference: Choquette-Choo, Tramer, Carlini and Papernot, "Label-only membership inference attacks", ICML 2021, with
findings in the place of a label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medward.guard.tasks.report_reader import Mention
from medward.guard.types import Array

ReadFindings = Callable[[str], Mapping[str, Mention]]
"""Reads in a text how it means each finding that it mentions."""


def finding_agreement(written: str, truth: str, read: ReadFindings) -> float:
    """F1, 0 to 1, of the findings that are there or may be in `written`, against those in `truth`; 1 where both have
    none.
    """
    said, true = ({name for name, meant in read(text).items() if meant > Mention.ABSENT} for text in (written, truth))
    return 2 * len(said & true) / (len(said) + len(true)) if said or true else 1.0


def robust_agreement(turns: Sequence[Sequence[str]], texts: Sequence[str], read: ReadFindings) -> Array:
    """The mean agreement ``(n,)`` with the true `texts` of what was written in each of `turns`, one a change."""
    agreed = [[finding_agreement(*each, read) for each in zip(turn, texts, strict=True)] for turn in turns]
    return np.asarray(np.mean(agreed, axis=0))
