"""The audit of a vision-language model: every score, evaluated beside what needs no model, or another model.

A pair that looks like the training data scores high for any model of the domain. So each score is also computed by a
`reference` that cannot have seen the candidates (the base model before the domain's data, a model of another site):
a published audit of medical vision-language models fell to chance beside one (arXiv 2606.10066). Of the many rows
nobody may pick the best after the fact: say beforehand which one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.attacks.candidates.evaluation import MembershipEvaluation, evaluate_scores
from medward.attacks.membership.multimodal.augmentations import augmented_images
from medward.attacks.membership.multimodal.columns import (
    ScoreColumns,
    calibrated_columns,
    caption_columns,
    finding_columns,
    middle_temperature,
    prediction_columns,
    set_columns,
    similarity_columns,
)
from medward.attacks.membership.multimodal.contrastive import ContrastiveModel
from medward.attacks.membership.multimodal.finding_agreement import ReadFindings
from medward.attacks.membership.multimodal.generative import GenerativeModel
from medward.attacks.membership.multimodal.pairs import ImageTextPairs, blind_pair_scores
from medward.attacks.membership.multimodal.temperature_sets import divide_sets
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

TEMPERATURES = (0.1, 1.0, 1.8)
SET_SIZE = 5
_FEWEST_SETS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLanguageRow:
    """A vision-language row is the evaluation of one score; `counts` says of what: pairs, or sets of them."""

    attack: str
    counts: str
    evaluation: MembershipEvaluation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisionLanguageScores:
    """Vision-language scores are the columns of the model, then those of its reference where there is one.

    `pairs` are of single pairs, `sets` of the sets of rows that `divided` holds; there may be none.
    """

    pairs: tuple[ScoreColumns, ...]
    sets: tuple[ScoreColumns, ...] = ()
    divided: tuple[Ints, ...] = ()


def audit_vision_language_model(
    model: GenerativeModel,
    pairs: ImageTextPairs,
    *,
    reference: GenerativeModel | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    set_size: int = SET_SIZE,
    read: ReadFindings | None = None,
    seed: int = 0,
) -> tuple[VisionLanguageRow, ...]:
    """Evaluate every score of `score_vision_language_model`, whose settings these are."""
    scores = score_vision_language_model(
        model, pairs, reference=reference, temperatures=temperatures, set_size=set_size, read=read, seed=seed
    )
    return evaluate_vision_language_scores(scores, pairs, seed=seed)


def score_vision_language_model(
    model: GenerativeModel,
    pairs: ImageTextPairs,
    *,
    reference: GenerativeModel | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    set_size: int = SET_SIZE,
    read: ReadFindings | None = None,
    seed: int = 0,
) -> VisionLanguageScores:
    """Score `pairs` by what a model that writes predicts, and by what it writes.

    `temperatures` are those that it writes at, ascending; none for the predictions alone. Sets of `set_size` patients
    (of rows where nobody is known) are scored where ten can be made of either side. With `read`, which finds findings
    in a text, reports are also scored by these alone.
    Raises `MedwardError` for temperatures that are not so.
    """
    if list(temperatures) != sorted(set(temperatures)) or len(temperatures) == 1 or min(temperatures, default=1) <= 0:
        raise MedwardError(f"temperatures: need two or more above 0, ascending, or none, got {list(temperatures)}")
    asked = [model] if reference is None else [model, reference]
    columns = [dict(prediction_columns(each, pairs)) for each in asked]
    if reference is not None:
        for mine, calibrated in zip(columns, calibrated_columns(*columns), strict=True):
            mine.update(calibrated)
    if not temperatures:
        return VisionLanguageScores(pairs=tuple(columns))
    turns = [*temperatures, middle_temperature(temperatures)]
    written = [_write_all(each, pairs, turns, seed) for each in asked]
    for each, found, texts in zip(asked, columns, written, strict=True):
        found.update(caption_columns(texts[0], pairs.texts))
        if read is not None:
            changes = [each.write(some, temperature=turns[0], seed=seed) for some in augmented_images(pairs.images)]
            found.update(finding_columns([texts[0], *changes], pairs.texts, read))
    sets = _divided(pairs, set_size, seed)
    grouped = [set_columns(texts[:-1], texts[-1], pairs.texts, sets) for texts in written] if sets else []
    return VisionLanguageScores(pairs=tuple(columns), sets=tuple(grouped), divided=tuple(sets))


def evaluate_vision_language_scores(
    scores: VisionLanguageScores, pairs: ImageTextPairs, *, seed: int = 0
) -> tuple[VisionLanguageRow, ...]:
    """A row for each of the model's columns, beside a guesser who has the `pairs` alone, and the reference."""
    truth, blind = np.asarray(pairs.included, bool), blind_pair_scores(pairs, seed=seed)
    rows = _evaluated(scores.pairs, truth, "pairs", pairs.patients, blind, seed)
    if not scores.divided:
        return rows
    sides, unseen = (np.array([each[rows].mean() for rows in scores.divided]) for each in (truth, blind))
    sizes = {len(np.unique(_owners(pairs)[each])) for each in scores.divided}
    return rows + _evaluated(scores.sets, sides > 0, f"sets of {max(sizes)}", None, unseen, seed)


def audit_contrastive_model(
    model: ContrastiveModel,
    pairs: ImageTextPairs,
    *,
    reference: ContrastiveModel | None = None,
    pool: ImageTextPairs | None = None,
    seed: int = 0,
) -> tuple[VisionLanguageRow, ...]:
    """Evaluate what features tell of `pairs`; with a `pool`, weakly supervised on its non-members too.

    Of the truths of the pool only who was *not* included is used, as an attacker would know it by a record's date.
    Raises `MedwardError` when the pool holds a candidate.
    """
    asked = [model] if reference is None else [model, reference]
    columns = [similarity_columns(each, pairs, pool) for each in asked]
    blind = blind_pair_scores(pairs, seed=seed)
    return _evaluated(columns, np.asarray(pairs.included, bool), "pairs", pairs.patients, blind, seed)


def _write_all(model: GenerativeModel, pairs: ImageTextPairs, turns: Sequence[float], seed: int) -> list[list[str]]:
    """What is written about each image in turns of these temperatures, each with a seed of its own."""
    return [model.write(pairs.images, temperature=each, seed=seed + turn) for turn, each in enumerate(turns)]


def _divided(pairs: ImageTextPairs, size: int, seed: int) -> list[Ints]:
    """Sets of rows of one side; none where there are fewer than ten a side."""
    owners, truth = _owners(pairs), np.asarray(pairs.included, bool)
    enough = min(len(np.unique(owners[side])) for side in (truth, ~truth)) >= _FEWEST_SETS * size
    return divide_sets(owners, truth, size, seed=seed) if enough else []


def _owners(pairs: ImageTextPairs) -> Ints:
    """Whose each row is; its own where nobody is known."""
    return np.arange(len(pairs.texts)) if pairs.patients is None else np.asarray(pairs.patients)


def _evaluated(
    columns: Sequence[ScoreColumns], truth: NDArray[np.bool_], counts: str, groups: Ints | None, blind: Array, seed: int
) -> tuple[VisionLanguageRow, ...]:
    """A row for each of the first columns; the second ones, if any, are the reference's."""
    other = columns[1] if len(columns) > 1 else {}
    rows = []
    for name, scores in columns[0].items():
        found = evaluate_scores(scores, truth, groups=groups, seed=seed, blind=blind, without_target=other.get(name))
        rows.append(VisionLanguageRow(attack=name, counts=counts, evaluation=found))
    return tuple(rows)
