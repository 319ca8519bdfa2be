"""Membership attacks on a language model: all scores of candidates, and what each is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.attacks.candidates.evaluation import MembershipEvaluation, evaluate_scores
from medward.attacks.membership.language.blind_text import blind_text_scores
from medward.attacks.membership.language.likelihood import likelihood_scores
from medward.attacks.membership.language.readings import LanguageHoldings, LanguageReadings
from medward.attacks.membership.language.scores import LANGUAGE_SCORES
from medward.attacks.membership.language.tokens import TextTokenizer
from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

_NOTHING = LanguageHoldings()


def score_texts(
    model: Any,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    holdings: LanguageHoldings = _NOTHING,
    names: Sequence[str] | None = None,
    length: int | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Scores ``(n,)`` of each of `texts` by name, larger where a text looks more like a member.

    `names` None is every score of `LANGUAGE_SCORES` that `holdings` suffice for. Of each text the first `length` tokens
    are read, None being half of what `model` takes. Raises `MedwardError` for a score that is not known or whose
    holdings are missing, and where a candidate is among the holdings.
    """
    readings = LanguageReadings(
        model=model, tokenizer=tokenizer, texts=tuple(texts), holdings=holdings, length=length, seed=seed
    )
    return named_scores(readings, names)


def named_scores(readings: LanguageReadings, names: Sequence[str] | None) -> dict[str, Array]:
    """The scores `names` of what is read, or all that can be had."""
    if unknown := [name for name in names or () if name not in LANGUAGE_SCORES]:
        raise MedwardError(f"language membership: no score {unknown[0]!r}; there are {', '.join(LANGUAGE_SCORES)}")
    wanted = names
    if wanted is None:
        wanted = [
            name for name, each in LANGUAGE_SCORES.items() if not any(readings.lacking(need) for need in each.needs)
        ]
    found = {}
    for name in wanted:
        score = LANGUAGE_SCORES[name]
        values = score.score(*(readings.read(need) for need in score.needs))
        if bad := int((~np.isfinite(values)).sum()):
            raise MedwardError(f"language membership: {name} is no finite number for {bad} text(s); leave them out")
        found[name] = values
    return found


def audit_language_model(
    model: Any,
    tokenizer: TextTokenizer,
    members: Sequence[str],
    nonmembers: Sequence[str],
    *,
    groups: Ints | None = None,
    holdings: LanguageHoldings = _NOTHING,
    names: Sequence[str] | None = None,
    length: int | None = None,
    prior: float = 0.01,
    seed: int = 0,
) -> dict[str, MembershipEvaluation]:
    """Evaluate every score of `score_texts` at telling `members` from `nonmembers`, the halves of a coin flip.

    `groups (n,)` say whose each text is, members first. Beside each stands what a classifier of the texts reaches
    without any model, and, where there is a reference, what the likelihood under it alone reaches. Picking the best of
    these rows afterwards leans upwards; name one beforehand to claim it. Raises `MedwardError` where a text is on both
    sides, and as `score_texts` does.
    """
    texts = (*members, *nonmembers)
    truth = candidate_truth(members, nonmembers, groups)
    readings = LanguageReadings(
        model=model, tokenizer=tokenizer, texts=texts, holdings=holdings, length=length, seed=seed
    )
    scores = named_scores(readings, names)
    blind = blind_text_scores(texts, truth, groups=groups, seed=seed)
    alone = None if readings.lacking("reference") else likelihood_scores(readings.read("reference"))
    cut = sum(each.truncated for each in readings.read("target"))
    flags = (f"{cut} of {len(texts)} texts were read up to their first {readings.tokens} tokens",) if cut else ()
    rows = {}
    for name, values in scores.items():
        row = evaluate_scores(values, truth, groups=groups, seed=seed, blind=blind, without_target=alone, prior=prior)
        rows[name] = replace(row, flags=(*row.flags, *flags))
    return rows


def candidate_truth(members: Sequence[str], nonmembers: Sequence[str], groups: Ints | None) -> NDArray[np.bool_]:
    """Which of the texts, members first, are members; raises `MedwardError` for candidates that cannot be judged."""
    if not members or not nonmembers:
        raise MedwardError(
            f"language membership: needs members and nonmembers, got {len(members)} and {len(nonmembers)}"
        )
    if shared := len(set(members) & set(nonmembers)):
        raise MedwardError(
            f"language membership: {shared} text(s) are both members and nonmembers; leave out what occurs twice"
        )
    if groups is not None and len(groups) != len(members) + len(nonmembers):
        raise MedwardError(
            f"language membership: needs one group per text, got {len(groups)} for {len(members) + len(nonmembers)}"
        )
    return np.arange(len(members) + len(nonmembers)) < len(members)
