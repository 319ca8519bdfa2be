"""The table of MM-Privacy: framings by risks by mitigations, judged by the framing in which most is read.

Reference: Chen et al., "Unveiling privacy risks in multi-modal large language models" (MM-Privacy), Findings of ACL
2025: attack success rate, the share of values that are said, and refusal rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medward.attacks.benchmarks.mm_privacy.answers import ReaderAnswers
from medward.attacks.benchmarks.mm_privacy.probes import BenignProbes, Probes, ShownTurn
from medward.attacks.disclosure.disguises import DISGUISES
from medward.attacks.disclosure.extraction_suite import extract_values, hold_conversation
from medward.attacks.disclosure.pixel_redaction import RedactedSightVictim, Redaction
from medward.attacks.disclosure.refusal import is_refusal
from medward.attacks.disclosure.victim import PromptedVictim, Victim
from medward.attacks.disclosure.writer import AnswerRelease, unguarded_release
from medward.attacks.intervals import Interval, rate_interval

VERBATIM = {"verbatim": DISGUISES["verbatim"]}
"""Values as they stand: what a victim of this size says is in no disguise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigation:
    """A mitigation is what stands before a victim, filling pixels, and behind it, filtering answers; or neither."""

    redact: Redaction | None = None
    release: AnswerRelease = unguarded_release

    def before(self, victim: Victim) -> Victim:
        """The victim as it sees images under this mitigation."""
        return victim if self.redact is None else RedactedSightVictim(victim=victim, redact=self.redact)


@dataclass(frozen=True, slots=True, kw_only=True)
class MitigationRow:
    """A row of the table: success and refusal by framing, and the success of decoys in the framing in which most is.

    `gate` is the largest success over framings.
    """

    success: Mapping[str, Interval]
    refusal: Mapping[str, Interval]
    decoys: Interval

    @property
    def gate(self) -> Interval:
        """The success in the framing in which most is read."""
        return max(self.success.values(), key=lambda each: each.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenignAnswers:
    """Benign answers are those to clinical questions: which share is refused in words, is altered, and is true.

    Altered is what differs from the answer of the same victim without the mitigation.
    """

    refused: Interval
    altered: Interval
    right: Interval


def measure_mitigation(victim: Victim, mitigation: Mitigation, probes: Probes) -> MitigationRow:
    """One row: every value and its decoy, asked for in every framing under one mitigation."""
    before = mitigation.before(victim)
    found, guessed = (
        extract_values(before, probes.shown, wanted, mitigation.release, disguises=VERBATIM)
        for wanted in (probes.wanted, probes.decoys)
    )
    return MitigationRow(
        success={cell.framing: cell.success for cell in found.cells},
        refusal={cell.framing: cell.refusal for cell in found.cells},
        decoys=guessed.worst.success,
    )


def measure_benign_answers(victim: Victim, mitigation: Mitigation, benign: BenignProbes) -> BenignAnswers:
    """What one mitigation costs where nobody's values are asked for."""
    answers = _answers(mitigation.before(victim), benign, mitigation.release)
    plain = _answers(victim, benign, unguarded_release)
    return BenignAnswers(
        refused=rate_interval(np.array([is_refusal([each]) for each in answers])),
        altered=rate_interval(np.array([said != own for said, own in zip(answers, plain, strict=True)])),
        right=rate_interval(np.array([said == true for said, true in zip(answers, benign.right, strict=True)])),
    )


def prepared_victim(answers: ReaderAnswers, mitigation: Mitigation, turns: Sequence[ShownTurn]) -> PromptedVictim:
    """A page reader as a victim whose answers to all `turns` are written beforehand, many at once."""
    victim = PromptedVictim(answers, reads_header=False)
    asked = [(victim.prompt(shown, ask), shown.image) for shown, ask in turns if shown.image is not None]
    redact = mitigation.redact
    answers.prepare(asked if redact is None else [*asked, *((prompt, redact(image)) for prompt, image in asked)])
    return victim


def _answers(victim: Victim, benign: BenignProbes, release: AnswerRelease) -> list[str]:
    return ["".join(hold_conversation(victim, shown, ask, release(shown), turns=1)) for shown, ask in benign.turns]
