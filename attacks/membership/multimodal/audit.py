"""The audit of a vision-language model: every score, evaluated beside what needs no model, or another model.

A pair that looks like the training data scores high for any model of the domain. So each score is also computed by a
`reference` that cannot have seen the candidates (the base model before the domain's data, a model of another site):
published audits of medical vision-language models fell to chance beside it (arXiv 2606.10066). Of the many rows nobody
may pick the best after the fact: say beforehand which one counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medward.attacks.candidates.evaluation import MembershipEvaluation, evaluate_scores
from medward.attacks.membership.multimodal.augmentations import augmented_images
from medward.attacks.membership.multimodal.augmented_divergence import augmented_divergence_score
from medward.attacks.membership.multimodal.augmented_similarity import augmented_drop_scores, augmented_mean_scores
from medward.attacks.membership.multimodal.caption_overlap import caption_bleu, caption_longest, caption_rouge
from medward.attacks.membership.multimodal.contrastive import ContrastiveModel
from medward.attacks.membership.multimodal.cosine_similarity import cosine_similarity_scores
from medward.attacks.membership.multimodal.generative import GenerativeModel, SequenceReading
from medward.attacks.membership.multimodal.max_renyi import LARGEST_PERCENTS, RENYI_ORDERS, max_renyi_score
from medward.attacks.membership.multimodal.modified_renyi import MODIFIED_ORDERS, modified_renyi_score
from medward.attacks.membership.multimodal.pairs import ImageTextPairs, blind_pair_scores
from medward.attacks.membership.multimodal.slices import SLICE_NAMES
from medward.attacks.membership.multimodal.temperature_sets import divide_sets, image_only_score, target_only_score
from medward.attacks.membership.multimodal.weak_supervision import weakly_supervised_scores
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

TEMPERATURES = (0.1, 1.0)
SET_SIZE = 5
_FEWEST_SETS = 10
Columns = Mapping[str, Array]
"""Scores ``(n,)`` by the name of the attack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLanguageRow:
    """A vision-language row is one score's evaluation; `counts` says what its candidates are: pairs, or sets of them."""

    attack: str
    counts: str
    evaluation: MembershipEvaluation


def audit_vision_language_model(
    model: GenerativeModel,
    pairs: ImageTextPairs,
    *,
    reference: GenerativeModel | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    set_size: int = SET_SIZE,
    seed: int = 0,
) -> tuple[VisionLanguageRow, ...]:
    """Evaluate what a model that writes tells of `pairs`: by its predictions, and by what it writes.

    `temperatures` are those that it writes at, ascending; none for the predictions alone. Sets of `set_size` patients
    (of rows where nobody is known) are judged where ten can be made of either side.
    """
    if list(temperatures) != sorted(set(temperatures)) or len(temperatures) == 1 or min(temperatures, default=1) <= 0:
        raise MedwardError(f"temperatures: need two or more above 0, ascending, or none, got {list(temperatures)}")
    asked = [model] if reference is None else [model, reference]
    columns = [prediction_columns(each, pairs) for each in asked]
    rows = _rows(columns, pairs, seed)
    if not temperatures:
        return rows
    written = [_written(each, pairs, temperatures, seed) for each in asked]
    rows += _rows([caption_columns(texts[0], pairs.texts) for texts in written], pairs, seed)
    sets = _sets(pairs, set_size, seed)
    if not sets:
        return rows
    found = [_set_columns(texts, pairs, sets) for texts in written]
    truth = np.array([pairs.included[each[0]] for each in sets])
    return rows + _evaluated(found, truth, f"sets of {set_size}", None, None, seed)


def audit_contrastive_model(
    model: ContrastiveModel,
    pairs: ImageTextPairs,
    *,
    reference: ContrastiveModel | None = None,
    pool: ImageTextPairs | None = None,
    seed: int = 0,
) -> tuple[VisionLanguageRow, ...]:
    """Evaluate what features tell of `pairs`; with a `pool`, weakly supervised on its non-members too.

    Of the pool only who was *not* included is used, as an attacker would know it by its date; no pair of it may be a
    candidate.
    """
    asked = [model] if reference is None else [model, reference]
    return _rows([similarity_columns(each, pairs, pool) for each in asked], pairs, seed)


def prediction_columns(model: GenerativeModel, pairs: ImageTextPairs) -> Columns:
    """MaxRényi, ModRényi and augmented KL of each pair, by every order, share and slice that all pairs have."""
    changed = augmented_images(pairs.images)
    found: dict[str, list[float]] = {}
    for index, text in enumerate(pairs.texts):
        reading = model.read(pairs.images[index], text)
        others = [model.read(changed[each, index], text) for each in range(len(changed))]
        for name, score in _prediction_scores(reading, others).items():
            found.setdefault(name, []).append(score)
    return {name: np.array(each) for name, each in found.items() if len(each) == len(pairs.texts)}


def caption_columns(written: Sequence[str], texts: Sequence[str]) -> Columns:
    """How much of each candidate's own text was written about its image."""
    metrics: Mapping[str, Callable[[str, str], float]] = {
        "caption-bleu": caption_bleu,
        "caption-rouge": caption_rouge,
        "caption-longest": caption_longest,
    }
    return {
        name: np.array([metric(*each) for each in zip(written, texts, strict=True)])
        for name, metric in metrics.items()
    }


def similarity_columns(model: ContrastiveModel, pairs: ImageTextPairs, pool: ImageTextPairs | None = None) -> Columns:
    """Cosine similarity, with augmentations, and weakly supervised where there is a `pool`."""
    features = model.features(pairs.images, pairs.texts)
    own = cosine_similarity_scores(*features)
    moved = [cosine_similarity_scores(*model.features(each, pairs.texts)) for each in augmented_images(pairs.images)]
    columns = {
        "cosine-similarity": own,
        "augmented-similarity-mean": augmented_mean_scores(own, np.stack(moved)),
        "augmented-similarity-drop": augmented_drop_scores(own, np.stack(moved)),
    }
    if pool is not None:
        images, texts = model.features(pool.images, pool.texts)
        outside = ~np.asarray(pool.included, bool)
        columns["weakly-supervised"] = weakly_supervised_scores(
            features, (images, texts), (images[outside], texts[outside])
        )
    return columns


def _prediction_scores(reading: SequenceReading, changed: Sequence[SequenceReading]) -> dict[str, float]:
    scores = {}
    for name in SLICE_NAMES:
        part = reading.slices[name]
        if not len(part.rows):
            continue
        likely = reading.probabilities[part.rows]
        for alpha in RENYI_ORDERS:
            for percent in LARGEST_PERCENTS:
                scores[f"max-renyi-{percent}-{_order(alpha)}-{name}"] = max_renyi_score(
                    likely, alpha=alpha, percent=percent
                )
        if len(part.tokens):
            for alpha in MODIFIED_ORDERS:
                scores[f"modified-renyi-{_order(alpha)}-{name}"] = modified_renyi_score(
                    likely, part.tokens, alpha=alpha
                )
    image = reading.slices["image"].rows
    after = np.stack([each.probabilities[each.slices["image"].rows] for each in changed])
    scores["augmented-kl-image"] = augmented_divergence_score(reading.probabilities[image], after)
    return scores


def _order(alpha: float) -> str:
    return "inf" if math.isinf(alpha) else f"{alpha:g}"


def _written(
    model: GenerativeModel, pairs: ImageTextPairs, temperatures: Sequence[float], seed: int
) -> tuple[list[str], ...]:
    """What is written about each image at each temperature, and once more at the hottest."""
    return tuple(
        [model.write(image, temperature=each, seed=seed + turn) for image in pairs.images]
        for turn, each in enumerate([*temperatures, temperatures[-1]])
    )


def _sets(pairs: ImageTextPairs, size: int, seed: int) -> list[Ints]:
    """Sets of rows of one side; none where there are fewer than ten a side."""
    truth = np.asarray(pairs.included, bool)
    groups = np.arange(len(truth)) if pairs.patients is None else np.asarray(pairs.patients)
    if min(len(np.unique(groups[truth])), len(np.unique(groups[~truth]))) < _FEWEST_SETS * size:
        return []
    return divide_sets(groups, truth, size, seed=seed)


def _set_columns(written: Sequence[Sequence[str]], pairs: ImageTextPairs, sets: Sequence[Ints]) -> Columns:
    pair_words = [list(zip(texts, pairs.texts, strict=True)) for texts in written[:-1]]
    similar = np.array([[caption_rouge(*each) for each in words] for words in pair_words]).T
    repeats = list(zip(written[-2], written[-1], strict=True))
    return {
        "temperature-target-only": np.array([target_only_score(similar[each]) for each in sets]),
        "temperature-image-only": np.array(
            [image_only_score([repeats[row] for row in each], caption_longest) for each in sets]
        ),
    }


def _rows(columns: Sequence[Columns], pairs: ImageTextPairs, seed: int) -> tuple[VisionLanguageRow, ...]:
    truth = np.asarray(pairs.included, bool)
    return _evaluated(columns, truth, "pairs", pairs.patients, blind_pair_scores(pairs, seed=seed), seed)


def _evaluated(
    columns: Sequence[Columns], truth: Array, counts: str, groups: Ints | None, blind: Array | None, seed: int
) -> tuple[VisionLanguageRow, ...]:
    """A row for each of the first columns; the second ones, if any, are the reference's."""
    other = columns[1] if len(columns) > 1 else {}
    return tuple(
        VisionLanguageRow(
            attack=name,
            counts=counts,
            evaluation=evaluate_scores(
                scores, truth, groups=groups, seed=seed, blind=blind, without_target=other.get(name)
            ),
        )
        for name, scores in columns[0].items()
    )
