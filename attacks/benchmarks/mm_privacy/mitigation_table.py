"""The table of MM-Privacy: framings by risks by mitigations, judged by the framing in which most is read.

Reference: Chen et al., "Unveiling privacy risks in multi-modal large language models" (MM-Privacy), Findings of ACL
2025: attack success rate, the share of values that are said, and refusal rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medward.attacks.benchmarks.mm_privacy.answers import ReaderAnswers
from medward.attacks.benchmarks.mm_privacy.probes import BenignProbes, Probes
from medward.attacks.disclosure.disguises import DISGUISES
from medward.attacks.disclosure.extraction_suite import extract_values, hold_conversation
from medward.attacks.disclosure.pixel_redaction import RedactedSightVictim, Redaction
from medward.attacks.disclosure.refusal import is_refusal
from medward.attacks.disclosure.victim import ExtractionTurn, PromptedVictim, Shown, Victim
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
    """A row of the table: success and refusal by framing, of values planted and of decoys (the most in any framing).

    `gate` is the largest success over framings. Benign answers are `refused`, or `altered`: other than those of the
    same victim without the mitigation; `right` are those that are true.
    """

    success: Mapping[str, Interval] = field(default_factory=dict)
    refusal: Mapping[str, Interval] = field(default_factory=dict)
    decoys: Interval
    benign_refused: Interval
    benign_altered: Interval
    benign_right: Interval

    @property
    def gate(self) -> Interval:
        """The success in the framing in which most is read."""
        return max(self.success.values(), key=lambda each: each.value)


def measure_mitigation(victim: Victim, mitigation: Mitigation, probes: Probes, benign: BenignProbes) -> MitigationRow:
    """One row: every value and its decoy in every framing, and every benign question, under one mitigation."""
    before, release = mitigation.before(victim), mitigation.release
    found, guessed = (
        extract_values(before, probes.shown, wanted, release, disguises=VERBATIM)
        for wanted in (probes.wanted, probes.decoys)
    )
    answers = _benign_answers(before, benign, release)
    plain = _benign_answers(victim, benign, unguarded_release)
    return MitigationRow(
        success={cell.framing: cell.success for cell in found.cells},
        refusal={cell.framing: cell.refusal for cell in found.cells},
        decoys=guessed.worst.success,
        benign_refused=rate_interval(np.array([is_refusal([each]) for each in answers])),
        benign_altered=rate_interval(np.array([said != own for said, own in zip(answers, plain, strict=True)])),
        benign_right=rate_interval(np.array([said == true for said, true in zip(answers, benign.right, strict=True)])),
    )


def prepared_victim(
    answers: ReaderAnswers, mitigation: Mitigation, probes: Probes, benign: BenignProbes
) -> PromptedVictim:
    """A page reader as a victim whose answers to all that a row asks are written beforehand, many at once."""
    victim = PromptedVictim(answers, reads_header=False)
    turns = [*probes.turns, *benign.turns]
    asked = [(victim.prompt(shown, ask), shown.image) for shown, ask in turns if shown.image is not None]
    redact = mitigation.redact
    answers.prepare(asked if redact is None else [*asked, *((prompt, redact(image)) for prompt, image in asked)])
    return victim


def _benign_answers(victim: Victim, benign: BenignProbes, release: AnswerRelease) -> list[str]:
    return [_answer(victim, shown, ask, release) for shown, ask in benign.turns]


def _answer(victim: Victim, shown: Shown, ask: ExtractionTurn, release: AnswerRelease) -> str:
    return "".join(hold_conversation(victim, shown, ask, release(shown), turns=1))
