"""What leaves of a model's outputs: each row at its level, and the name of what chose it."""

from __future__ import annotations

import numpy as np

from medward.guard.policy import Policy
from medward.guard.release.quantise import Prototypes
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import WITHHELD_DECISION, ReleaseSettings
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.opaque import Opaque
from medward.guard.types import Answer, Level, Outputs, Verdict


def release_settings(policy: Policy, codebook: Prototypes | None) -> ReleaseSettings:
    """What a site chose about the levels, with what calibration fitted for them."""
    chosen = policy.release
    return ReleaseSettings(decimals=chosen.decimals, top=chosen.top, temperature=chosen.temperature, codebook=codebook)


def release_name(spec: ModelSpec, calibration: str, policy: Policy) -> str:
    """Names whatever an answer to the same bytes rests on; a budget forgets under another one what may be repeated."""
    name = f"{calibration}:{policy.fingerprint}"
    if spec.threshold is not None:
        return f"{name}:{spec.threshold}"  # at another one the same bytes are answered otherwise
    return name if isinstance(spec.task, Classification) else f"{name}:{spec.task}"


def released_answer(
    query_id: str,
    spec: ModelSpec,
    outputs: Outputs,
    levels: tuple[Level, ...],
    verdicts: tuple[Verdict, ...],
    default: Level,
    settings: ReleaseSettings,
) -> Answer:
    """The answer in which each row has what its level shows; `default` is the level of rows nobody objects to."""
    task = spec.task
    labels = task.decide(outputs.scores)
    whole = isinstance(task, Opaque)  # whose decision is a digest of its very bytes
    scores = np.full(outputs.scores.shape, np.nan, outputs.scores.dtype if whole else np.float64)
    for level in set(levels):
        rows = np.array([each is level for each in levels])
        scores[rows] = task.release(outputs.scores[rows], level, settings)
    labels[[level is Level.WITHHELD for level in levels]] = WITHHELD_DECISION
    return Answer(
        id=query_id,
        labels=labels,
        scores=scores,
        levels=levels,
        output=task.output if task.output == "values" or default is Level.FULL else "probabilities",
        verdicts=verdicts,
    )
