"""Every score of every pair, computed once from what a model predicts, writes, or has as features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from medward.attacks.membership.language.min_k import LOWEST_SHARE, lowest_mean
from medward.attacks.membership.multimodal.augmentations import augmented_images
from medward.attacks.membership.multimodal.augmented_divergence import augmented_divergence_score
from medward.attacks.membership.multimodal.augmented_similarity import augmented_drop_scores, augmented_mean_scores
from medward.attacks.membership.multimodal.caption_overlap import caption_bleu, caption_longest, caption_rouge
from medward.attacks.membership.multimodal.contrastive import ContrastiveModel
from medward.attacks.membership.multimodal.cosine_similarity import cosine_similarity_scores
from medward.attacks.membership.multimodal.finding_agreement import ReadFindings, robust_agreement
from medward.attacks.membership.multimodal.generative import GenerativeModel, SequenceReading
from medward.attacks.membership.multimodal.max_renyi import (
    LARGEST_PERCENTS,
    RENYI_ORDERS,
    clamped_probabilities,
    largest_mean,
    renyi_entropies,
)
from medward.attacks.membership.multimodal.modified_renyi import MODIFIED_ORDERS, modified_renyi_score
from medward.attacks.membership.multimodal.pairs import ImageTextPairs
from medward.attacks.membership.multimodal.slices import SLICE_NAMES
from medward.attacks.membership.multimodal.temperature_sets import image_only_score, target_only_score
from medward.attacks.membership.multimodal.weak_supervision import weakly_supervised_scores
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

_LOSS = "loss"
_T = TypeVar("_T")
ScoreColumns = Mapping[str, Array]
"""Scores ``(n,)`` by the name of the attack; larger says member."""


def prediction_columns(model: GenerativeModel, pairs: ImageTextPairs) -> ScoreColumns:
    """Scores of each pair by what the model predicts, by every order, share and slice that all pairs have."""
    versions = np.concatenate([pairs.images[None], augmented_images(pairs.images)])
    found: dict[str, list[float]] = {}
    for index, text in enumerate(pairs.texts):
        for name, score in prediction_scores(*model.read(versions[:, index], text)).items():
            found.setdefault(name, []).append(score)
    return {name: np.array(each) for name, each in found.items() if len(each) == len(pairs.texts)}


def prediction_scores(reading: SequenceReading, *changed: SequenceReading) -> dict[str, float]:
    """The scores of one pair, by name, from its reading and those after each change of its image.

    Loss, Min-K % and ModRenyi are of slices that hold words, MaxRenyi and augmented KL of all that are there.
    """
    scores = {}
    for name in (each for each in SLICE_NAMES if each in reading.slices and len(reading.slices[each].rows)):
        part = reading.slices[name]
        likely = reading.probabilities[part.rows]
        for alpha in RENYI_ORDERS:
            entropies = renyi_entropies(likely, alpha)
            for percent in LARGEST_PERCENTS:
                scores[f"max-renyi-{percent}-{_order(alpha)}-{name}"] = -largest_mean(entropies, percent)
        if len(part.tokens):
            logs = np.log(clamped_probabilities(likely)[np.arange(len(likely)), part.tokens])
            scores[f"{_LOSS}-{name}"] = float(logs.mean())
            scores[f"min-k-{name}"] = lowest_mean(logs, LOWEST_SHARE)
            for alpha in MODIFIED_ORDERS:
                scores[f"modified-renyi-{_order(alpha)}-{name}"] = modified_renyi_score(
                    likely, part.tokens, alpha=alpha
                )
        after = np.stack([each.probabilities[each.slices[name].rows] for each in changed])
        scores[f"augmented-kl-{name}"] = augmented_divergence_score(likely, after)
    return scores


def calibrated_columns(columns: ScoreColumns, reference: ScoreColumns) -> tuple[ScoreColumns, ScoreColumns]:
    """How much likelier each slice of words is than to a `reference`, and what the reference alone makes of that.

    The likelihood ratio is `language.reference_ratio`'s: what is easy for every model of the domain drops out.
    """
    ratios, alone = {}, {}
    for name in SLICE_NAMES:
        if (found := columns.get(f"{_LOSS}-{name}")) is not None:
            known = reference[f"{_LOSS}-{name}"]
            ratios[f"reference-{name}"], alone[f"reference-{name}"] = found - known, -known
    return ratios, alone


def caption_columns(written: Sequence[str], texts: Sequence[str]) -> ScoreColumns:
    """How much of each candidate's own text was written about its image."""
    metrics: Mapping[str, Callable[[str, str], float]] = {
        "caption-bleu": caption_bleu,
        "caption-rouge": caption_rouge,
        "caption-longest": caption_longest,
    }
    return {
        name: np.array([metric(*each) for each in zip(written, texts, strict=True)]) for name, metric in metrics.items()
    }


def finding_columns(turns: Sequence[Sequence[str]], texts: Sequence[str], read: ReadFindings) -> ScoreColumns:
    """Whether findings are as in each candidate's own text, in the first of `turns`, and in all: one a change."""
    return {
        "findings-right": robust_agreement(turns[:1], texts, read),
        "findings-robust": robust_agreement(turns, texts, read),
    }


def set_columns(
    written: Sequence[Sequence[str]], again: Sequence[str], texts: Sequence[str], sets: Sequence[Ints]
) -> ScoreColumns:
    """Temperature sensitivity of each of `sets`, with the true `texts` and without them.

    ``written[t]`` are the texts written at temperature t, ascending, `again` those of one more turn at the middle one.
    """
    pairs = [list(zip(turn, texts, strict=True)) for turn in written]
    similar = np.array([[caption_rouge(*each) for each in turn] for turn in pairs]).T
    repeats = list(zip(middle_temperature(written), again, strict=True))
    alike = [image_only_score([repeats[row] for row in each], caption_longest) for each in sets]
    return {
        "temperature-target-only": np.array([target_only_score(similar[each]) for each in sets]),
        "temperature-image-only": np.array(alike),
    }


def middle_temperature(turns: Sequence[_T]) -> _T:
    """The turn at which repeated answers are compared: colder, all are alike; hotter, none."""
    return turns[len(turns) // 2]


def similarity_columns(
    model: ContrastiveModel, pairs: ImageTextPairs, pool: ImageTextPairs | None = None
) -> ScoreColumns:
    """Cosine similarity, with augmentations, and weakly supervised where there is a `pool`."""
    features = model.features(pairs.images, pairs.texts)
    own = cosine_similarity_scores(*features)
    changed = [model.features(each, pairs.texts) for each in augmented_images(pairs.images)]
    moved = np.stack([cosine_similarity_scores(*each) for each in changed])
    columns = {
        "cosine-similarity": own,
        "augmented-similarity-mean": augmented_mean_scores(own, moved),
        "augmented-similarity-drop": augmented_drop_scores(own, moved),
    }
    if pool is None:
        return columns
    if shared := len({each.tobytes() for each in pairs.images} & {each.tobytes() for each in pool.images}):
        raise MedwardError(f"weak supervision: {shared} images of the pool are candidates; give a pool without them")
    images, texts = model.features(pool.images, pool.texts)
    outside = ~np.asarray(pool.included, bool)
    scores = weakly_supervised_scores(features, (images, texts), (images[outside], texts[outside]))
    return {**columns, "weakly-supervised": scores}


def _order(alpha: float) -> str:
    return "inf" if math.isinf(alpha) else f"{alpha:g}"
