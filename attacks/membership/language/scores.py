"""The membership scores of language models, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from medward.attacks.membership.language.camia import camia_scores
from medward.attacks.membership.language.con_recall import con_recall_scores
from medward.attacks.membership.language.dc_pdd import dc_pdd_scores
from medward.attacks.membership.language.gradient_norm import gradient_norm_scores
from medward.attacks.membership.language.likelihood import likelihood_scores
from medward.attacks.membership.language.lowercase_ratio import lowercase_scores
from medward.attacks.membership.language.min_k import min_k_scores
from medward.attacks.membership.language.min_k_plus_plus import min_k_plus_plus_scores
from medward.attacks.membership.language.mope import mope_scores
from medward.attacks.membership.language.neighbourhood import neighbourhood_scores
from medward.attacks.membership.language.noise_neighbour import noise_neighbour_scores
from medward.attacks.membership.language.petal import petal_scores
from medward.attacks.membership.language.recall import recall_scores
from medward.attacks.membership.language.reference_ratio import reference_scores
from medward.attacks.membership.language.samia import samia_scores
from medward.attacks.membership.language.spv import spv_scores
from medward.attacks.membership.language.wbc import wbc_scores
from medward.attacks.membership.language.zlib_ratio import zlib_scores
from medward.attacks.threat import Access
from medward.guard.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageScore:
    """A language score is a function of readings, larger where a text looks more like a member.

    `needs` names the readings (of `readings.LANGUAGE_READERS`) that `score` takes, in that order; `access` is what the
    target must show. Settings are those of `score`'s defaults and of `readings`, fixed beforehand.
    """

    needs: tuple[str, ...]
    score: Callable[..., Array]
    access: Access = Access.SCORES


LANGUAGE_SCORES: Mapping[str, LanguageScore] = {
    "loss": LanguageScore(needs=("target",), score=likelihood_scores),
    "zlib": LanguageScore(needs=("target", "texts"), score=zlib_scores),
    "lowercase": LanguageScore(needs=("target", "lowered"), score=lowercase_scores),
    "reference": LanguageScore(needs=("target", "reference"), score=reference_scores),
    "wbc": LanguageScore(needs=("target", "reference"), score=wbc_scores),
    "neighbourhood": LanguageScore(needs=("target", "filled"), score=neighbourhood_scores),
    "neighbourhood-swaps": LanguageScore(needs=("target", "swapped"), score=neighbourhood_scores),
    "noise-neighbour": LanguageScore(needs=("target", "noisy"), score=noise_neighbour_scores, access=Access.GRADIENTS),
    "min-k": LanguageScore(needs=("target",), score=min_k_scores),
    "min-k++": LanguageScore(needs=("target",), score=min_k_plus_plus_scores),
    "recall": LanguageScore(needs=("target", "prefixed"), score=recall_scores),
    "con-recall": LanguageScore(needs=("target", "prefixed", "member_prefixed"), score=con_recall_scores),
    "dc-pdd": LanguageScore(needs=("target", "frequencies"), score=dc_pdd_scores),
    "gradient-norm": LanguageScore(needs=("gradients",), score=gradient_norm_scores, access=Access.GRADIENTS),
    "mope": LanguageScore(needs=("target", "perturbed"), score=mope_scores, access=Access.GRADIENTS),
    "spv": LanguageScore(needs=("target", "filled", "self_reference", "self_reference_filled"), score=spv_scores),
    "spv-swaps": LanguageScore(
        needs=("target", "swapped", "self_reference", "self_reference_swapped"), score=spv_scores
    ),
    "camia": LanguageScore(needs=("features", "calibration"), score=camia_scores),
    "samia": LanguageScore(needs=("texts", "generations"), score=samia_scores, access=Access.LABELS),
    "samia-zlib": LanguageScore(
        needs=("texts", "generations"), score=partial(samia_scores, weighted=True), access=Access.LABELS
    ),
    "petal": LanguageScore(needs=("target", "reference", "embedder"), score=petal_scores, access=Access.LABELS),
}
"""Scores of single texts, by name; sets of texts, users, preferences and services have modules of their own."""
