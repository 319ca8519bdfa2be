"""Every score tells the members of a model that knows them by heart, and nothing of one that saw neither side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.language import made_notes

from medward.attacks.membership.language.attack import audit_language_model, candidate_truth, named_scores, score_texts
from medward.attacks.membership.language.premia import Preference, premia_scores
from medward.attacks.membership.language.readings import LANGUAGE_READERS, LanguageHoldings
from medward.attacks.membership.language.scores import LANGUAGE_SCORES
from medward.attacks.membership.language.tokens import read_tokens
from medward.attacks.membership.language.training import fine_tuned_copy
from medward.attacks.membership.language.user_level import user_scores
from medward.guard.data.quality import auc
from medward.guard.errors import MedwardError

STRONG = {
    "loss", "zlib", "lowercase", "reference", "wbc", "noise-neighbour", "min-k", "min-k++", "recall", "con-recall",
    "spv", "spv-swaps", "camia", "petal",
}  # fmt: skip
LEAST = {"gradient-norm": 0.8, "samia": 0.65, "samia-zlib": 0.65, "dc-pdd": 0.6, "mope": 0.55}
LEAST |= {"neighbourhood": 0.6, "neighbourhood-swaps": 0.6}
"""What scores reach that are weaker on short notes; none may point the wrong way."""


def test_the_table_is_whole():
    assert {*STRONG, *LEAST} == set(LANGUAGE_SCORES)
    assert {need for score in LANGUAGE_SCORES.values() for need in score.needs} <= set(LANGUAGE_READERS)


@pytest.mark.parametrize("name", LANGUAGE_SCORES)
def test_members_of_a_memorising_model_are_told_and_of_an_unrelated_one_not(name, readings, unrelated, truth):
    found = auc(named_scores(readings, [name])[name], truth)
    assert found >= LEAST.get(name, 0.9)
    assert 0.35 <= auc(named_scores(unrelated, [name])[name], truth) <= 0.65


def test_without_holdings_the_scores_that_need_none_are_left(subject, tokenizer):
    texts = [*subject.members[:3], *subject.others[:3]]
    bare = LanguageHoldings(continuer=lambda prompts, count: [["lung"] * count for _ in prompts])
    found = score_texts(subject.target, tokenizer, texts, holdings=bare)
    assert set(found) == {
        "loss", "zlib", "lowercase", "neighbourhood-swaps", "noise-neighbour", "min-k", "min-k++", "gradient-norm",
        "mope", "samia", "samia-zlib",
    }  # fmt: skip
    assert all(values.shape == (6,) for values in found.values())
    with pytest.raises(MedwardError, match="reference needs reference; give holdings with it"):
        score_texts(subject.target, tokenizer, texts, names=["wbc"])
    with pytest.raises(MedwardError, match="no score 'los'; there are loss, zlib"):
        score_texts(subject.target, tokenizer, texts, names=["los"])


def test_what_follows_the_part_that_is_read_sways_no_score(subject, tokenizer, holdings):
    """Else a score would depend on how a long text ends, of which the model was never asked."""
    texts = [*subject.members[:3], *subject.others[:3]]
    longer = [f"{text} {tail}" for text, tail in zip(texts, made_notes(6, seed=9, sentences=2), strict=True)]
    first, second = (
        score_texts(subject.target, tokenizer, some, holdings=holdings, length=12) for some in (texts, longer)
    )
    assert set(first) == set(LANGUAGE_SCORES)
    for name in LANGUAGE_SCORES:
        np.testing.assert_allclose(first[name], second[name], atol=1e-6, err_msg=name)


def test_an_attacker_may_not_hold_a_candidate(subject, tokenizer):
    texts = [*subject.members[:3], *subject.others[:3]]
    with pytest.raises(MedwardError, match=r"1 candidate text\(s\) are among what the attacker holds"):
        score_texts(subject.target, tokenizer, texts, holdings=LanguageHoldings(nonmembers=texts[:1]))


def test_scores_that_read_seeds_repeat_with_them(subject, tokenizer):
    texts, names = subject.members[:4], ["neighbourhood-swaps", "noise-neighbour", "mope", "samia"]
    first, again = (score_texts(subject.target, tokenizer, texts, names=names, seed=3) for _ in range(2))
    other = score_texts(subject.target, tokenizer, texts, names=names, seed=4)
    for name in names:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_an_audit_has_a_row_for_each_score_with_its_baselines(subject, tokenizer, holdings):
    groups = np.repeat(np.arange(60), 2)
    names = ["loss", "reference", "wbc"]
    rows = audit_language_model(
        subject.target, tokenizer, subject.members, subject.others, groups=groups, holdings=holdings, names=names
    )
    assert list(rows) == names
    for row in rows.values():
        assert row.auc.value > 0.9
        assert row.auc.low > 0.7
        assert row.blind is not None
        assert row.without_target is not None
        assert row.blind.low < 0.5 < row.blind.high
        assert row.without_target.low < 0.5 < row.without_target.high
        assert row.flags == ()
    plain = audit_language_model(subject.target, tokenizer, subject.members, subject.others, names=["loss"])
    assert plain["loss"].without_target is None


def test_an_audit_of_an_unrelated_model_finds_nothing(subject, tokenizer, holdings):
    names = ["loss", "wbc", "camia", "recall"]
    unused = replace(holdings, reference=holdings.shadow.model)
    rows = audit_language_model(subject.base, tokenizer, subject.members, subject.others, holdings=unused, names=names)
    assert all(row.auc.low <= 0.5 for row in rows.values())


def test_an_audit_says_what_it_cut_and_where_the_texts_themselves_tell(subject, tokenizer):
    others = [text.replace("lung", "scar") for text in made_notes(60, seed=77, sentences=7)]
    rows = audit_language_model(subject.target, tokenizer, subject.members, others, names=["loss"], length=30)
    assert any("texts were read up to their first 30 tokens" in flag for flag in rows["loss"].flags)
    assert any("differ without the model" in flag for flag in rows["loss"].flags)
    assert rows["loss"].blind.value > 0.9


def test_candidates_that_cannot_be_judged_are_refused():
    with pytest.raises(MedwardError, match="needs members and nonmembers, got 0 and 1"):
        candidate_truth([], ["a"], None)
    with pytest.raises(MedwardError, match=r"1 text\(s\) are both members and nonmembers"):
        candidate_truth(["a", "b"], ["b"], None)
    with pytest.raises(MedwardError, match="one group per text, got 1 for 3"):
        candidate_truth(["a", "b"], ["c"], np.zeros(1, int))


def test_users_whose_other_texts_were_trained_on_are_told(subject, tokenizer):
    """Texts of a hand that writes of one organ only, fresh ones, under a model that was trained on that hand."""
    hands = [
        [note.replace("lung", organ).replace("heart", organ).replace("rib", organ) for note in made_notes(6, seed=seed)]
        for seed, organ in enumerate(("spine", "aorta", "liver", "stomach", "kidney", "hilum"))
    ]
    trained = fine_tuned_copy(
        subject.base, tokenizer, [text for hand in hands[:3] for text in hand[:4]], epochs=20, seed=0, rate=3e-3
    )
    fresh = [text for hand in hands for text in hand[4:]]
    own, other = (read_tokens(model, tokenizer, fresh) for model in (trained, subject.base))
    _, scores = user_scores(own, other, np.repeat(np.arange(6), 2))
    assert scores[:3].mean() > scores[3:].mean()


def test_a_preference_that_was_trained_on_is_told(subject, tokenizer):
    notes = made_notes(60, seed=40, sentences=2)
    rows = [
        Preference(prompt=a, chosen=b, rejected=c) for a, b, c in zip(notes[:20], notes[20:40], notes[40:], strict=True)
    ]
    trained = fine_tuned_copy(
        subject.base, tokenizer, [f"{row.prompt} {row.chosen}" for row in rows[:10]], epochs=25, seed=0, rate=3e-3
    )
    truth = np.arange(20) < 10
    assert auc(premia_scores(trained, subject.base, tokenizer, rows), truth) >= 0.9
    assert np.ptp(premia_scores(subject.base, subject.base, tokenizer, rows)) == 0
