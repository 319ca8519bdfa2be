"""What leaves of a model's outputs: each row at its level, the name of what chose it, and what a client reads."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from medward.guard.accounts.budget import starved_level
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy, ReleasePolicy
from medward.guard.release.pooling import ConfidencePools
from medward.guard.release.quantise import Prototypes
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import WITHHELD_DECISION, ReleaseSettings, Task, offers
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Answer, Array, Level, Modality, Outputs, Verdict

RADIUS_UNITS: dict[Modality, str] = {
    "image": "grey levels of 255",
    "tabular": "standard deviations of each column",
}
"""What certified radii are counted in."""


def release_settings(
    policy: Policy, codebook: Prototypes | None, pools: ConfidencePools | None = None
) -> ReleaseSettings:
    """What a site chose about the levels, with what calibration fitted for them."""
    chosen = policy.release
    return ReleaseSettings(
        decimals=chosen.decimals,
        top=chosen.top,
        temperature=chosen.temperature,
        codebook=codebook,
        pools=pools if chosen.pooled else None,
    )


def starved_reports(policy: Policy, task: Task) -> tuple[str, ...]:
    """What a budget admits no report of, though the policy lets it leave: a sentence, or none.

    Of models that write reports only, whose prices rest on no row.
    """
    if not isinstance(task, WrittenReport) or not policy.budget.limited:
        return ()
    prices = offers(task, np.zeros((1, len(task.findings))), policy.release.default, ReleaseSettings())
    told = starved_level(policy.budget, prices) if prices else ""
    return (told,) if told else ()


def check_pools(release: ReleasePolicy, pools: ConfidencePools | None) -> None:
    """Refuse a policy that pools confidences when none were fitted, or when they were for other settings."""
    if not release.pooled:
        return
    if pools is None:
        raise MedwardError(
            f"release.pooled = {release.pooled:g}: the profile has no pools of confidences; protect the model again "
            "with this policy, or set it to 0, as for a model that gives no probabilities"
        )
    if (pools.share, pools.temperature) != (release.pooled, release.temperature):
        raise MedwardError(
            f"release.pooled = {release.pooled:g} at temperature {release.temperature:g}: the profile was fitted for "
            f"{pools.share:g} at {pools.temperature:g}; protect the model again with this policy"
        )


def release_name(spec: ModelSpec, calibration: str, policy: str) -> str:
    """Names whatever an answer to the same bytes rests on; a budget forgets under another one what may be repeated.

    `calibration` and `policy` are their fingerprints.
    """
    name = f"{calibration}:{policy}"
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
    texts: tuple[str | None, ...] = (),
) -> Answer:
    """The answer in which each row has what its level shows; `default` is the level of rows nobody objects to.

    `texts` are those that leave of a model that writes reports.
    """
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
        spec=spec,
        verdicts=verdicts,
        texts=texts,
    )


def released_words(answer: Answer) -> list[Any]:
    """What was decided of each row, as its client reads it; None where withheld, not yet written, or only numbers."""
    return [None if each < 0 else answer.spec.task.word(int(each)) for each in answer.labels]


def decision_digests(answer: Answer, salt: bytes) -> list[str | None]:
    """Sixteen hex digits for what was decided of each row, keyed with `salt`; None where withheld or not yet written.

    A digest is of the answer's id, the row's number and the decision as JSON, so that equal decisions have different
    ones: without the salt a log does not tell who was found to have what.
    """
    words = released_words(answer)
    opaque = isinstance(answer.spec.task, Opaque)
    return [
        None if label < 0 else _decision_digest([answer.id, row, str(label) if opaque else words[row]], salt)
        for row, label in enumerate(answer.labels.tolist())
    ]


def _decision_digest(said: list[Any], salt: bytes) -> str:
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":")).encode("ascii")
    return hashlib.blake2b(canonical, key=salt, digest_size=8, person=b"decision").hexdigest()


def released_scores(answer: Answer) -> list[list[float | None] | None]:
    """The scores of each row as they leave, None where they do not; none of opaque outputs."""
    return [] if isinstance(answer.spec.task, Opaque) else [_shown(row) for row in answer.scores]


def answer_content(answer: Answer) -> dict[str, Any]:
    """What a client reads of `answer`, as plain data for JSON; what the defenses concluded is never in it."""
    spec, task, scores = answer.spec, answer.spec.task, answer.scores
    content: dict[str, Any] = {"id": answer.id, "model": spec.name}
    words = released_words(answer)
    if isinstance(task, Opaque):
        content |= {"outputs": [_whole(row) for row in scores], "shape": list(scores.shape[1:])}
    elif isinstance(task, WrittenReport):
        content |= {"labels": words, "texts": list(answer.texts), "findings": list(task.findings)}
    elif isinstance(task, Regression):
        values = [None if np.isnan(each) else float(each) for each in scores[:, 0]]
        content |= {"labels": words, "values": values, "unit": task.unit}
    else:
        content |= {"labels": words, "scores": [_shown(row) for row in scores], "score_kind": answer.output}
    if isinstance(task, Multilabel):
        content |= {"findings": list(task.findings), "thresholds": list(task.thresholds)}
    if isinstance(task, Classification):
        content |= {"indices": [None if each < 0 else int(each) for each in answer.labels]}
    tested = {} if answer.commissioning is None else {"commissioning": answer.commissioning.content}
    return {**content, **_proven(answer), "levels": [each.label for each in answer.levels], **tested}


def _proven(answer: Answer) -> dict[str, Any]:
    """What is certified of the rows; nothing where the policy has none certified."""
    found, task = answer.certified, answer.spec.task
    if found is None:
        return {}
    told = ~np.isnan(found.radius)
    content: dict[str, Any] = {
        "certified": [bool(holds) if each else None for holds, each in zip(found.holds, told, strict=True)],
        "certified_radius": [_finite(each) for each in found.radius],
    }
    if isinstance(task, Multilabel):
        findings = (
            found.radius[:, None].repeat(len(task.findings), axis=1) if found.findings is None else found.findings
        )
        content["certified_findings"] = [_shown(row) for row in findings]
    if isinstance(task, Regression):
        ends = np.full((len(told), 2), np.nan) if found.interval is None else found.interval
        content["certified_interval"] = [[_finite(each) for each in row] for row in ends]
    return {**content, "radius": found.asked, "radius_unit": RADIUS_UNITS[answer.spec.modality]}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _shown(row: Array) -> list[float | None] | None:
    """None for a class that is not shown, and for the row when none is."""
    return None if np.isnan(row).all() else [None if np.isnan(score) else float(score) for score in row]


def _whole(row: Array) -> Any:
    return None if np.isnan(row).all() else row.tolist()
