"""Canary extraction: a model goes on with the beginning of each canary, and may say its secret.

Reference: Carlini et al., "Extracting training data from large language models", USENIX Security 2021; "Quantifying
memorization across neural language models", ICLR 2023, for the effect of repetitions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medward.attacks.disclosure.exposure import TextLosses, canary_exposures
from medward.attacks.disclosure.extraction_suite import AnswerFilter
from medward.attacks.disclosure.recovery import NEARLY, recovered_share
from medward.attacks.intervals import Interval, clopper_pearson
from medward.guard.errors import MedwardError

Continuation = Callable[[Sequence[str]], Sequence[str]]
"""What a model goes on with after each prompt, the prompt left out."""
_SECRET = re.compile(r"\d[\d -]*\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryLeak:
    """A canary leak is what a model gives away of canaries that were trained on so many times.

    `exposure` is their mean in bits; `extracted` and `guarded` are the shares whose secret was said, without and with a
    filter.
    """

    repetitions: int
    exposure: float
    extracted: Interval
    guarded: Interval


def measure_canary_leaks(
    losses: TextLosses,
    continuation: Continuation,
    canaries: Mapping[int, Sequence[str]],
    guard: Callable[[], AnswerFilter],
    *,
    references: int = 255,
    seed: int = 0,
) -> list[CanaryLeak]:
    """One leak for each number of repetitions; 0 are canaries that were left out, which tell what guessing gives."""
    found = []
    for repetitions, texts in sorted(canaries.items()):
        begun, secrets = zip(*map(split_canary, texts), strict=True)
        said = continuation(begun)
        answers = [f"{prompt}{rest}" for prompt, rest in zip(begun, said, strict=True)]
        found.append(
            CanaryLeak(
                repetitions=repetitions,
                exposure=float(np.mean(canary_exposures(losses, texts, references=references, seed=seed))),
                extracted=_extracted(secrets, answers),
                guarded=_extracted(secrets, [guard().redact(answer) for answer in answers]),
            )
        )
    return found


def split_canary(text: str) -> tuple[str, str]:
    """What stands before a canary's number, and the number. Raises `MedwardError` where there is none."""
    match = _SECRET.search(text)
    if match is None:
        raise MedwardError("disclosure: a canary has no number to be extracted; plant others")
    return text[: match.start()], match[0]


def _extracted(secrets: Sequence[str], answers: Sequence[str]) -> Interval:
    shares = [recovered_share(secret, answer) for secret, answer in zip(secrets, answers, strict=True)]
    return clopper_pearson(sum(share >= NEARLY for share in shares), len(shares))
