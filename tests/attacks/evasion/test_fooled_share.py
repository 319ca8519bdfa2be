"""A rare class weighs little in a share of rows, a common one in a mean over classes; the larger share is judged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.base import AttackResult, Attempt
from medward.attacks.evasion.certificate_notes import certified_rows_note
from medward.attacks.evasion.class_shares import denied_by_class
from medward.attacks.evasion.family import Evasion
from medward.attacks.evasion.fooled_share import (
    changed_share,
    counted_classes,
    denied_share,
    fooled_interval,
    fooled_shares,
    larger_share,
)
from medward.attacks.intervals import balanced_rate, clopper_pearson, rate_interval, worst_rate
from medward.attacks.validation.family import Runs
from medward.attacks.validation.finding import Status
from medward.attacks.validation.gate import judge_cell
from medward.guard.policy import GatePolicy, Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.regression import Regression

TASK = Classification(classes=("benign", "malignant"), output="logits")
SPEC = ModelSpec(name="toy", modality="tabular", shape=(6,), task=TASK)
WELL, ILL = 83, 31  # 27 % of 114 patients
LIMIT = 0.25
LABELS = np.repeat([0, 1], [WELL, ILL])


def attempt(well, ill, *, classes=LABELS, noisy=0):
    """So many of either class fooled."""
    place = np.concatenate([np.arange(WELL), np.arange(ILL)])
    fooled = place < np.where(LABELS == 0, well, ill)
    return Attempt(radius=1.0, fooled=fooled, noisy=np.arange(len(LABELS)) < noisy, decided=LABELS, classes=classes)


def test_a_share_of_rows_hides_a_rare_class_and_a_mean_over_classes_a_common_one():
    collapsed, common = attempt(0, ILL), attempt(60, 0)
    assert larger_share(collapsed.fooled, LABELS) == 0.5 > collapsed.fooled.mean()
    assert larger_share(common.fooled, LABELS) == common.fooled.mean() > 0.5 * 60 / WELL
    assert larger_share(collapsed.fooled, None) == pytest.approx(ILL / 114)


def test_rows_count_as_labelled_else_as_decided_and_numbers_in_no_class():
    decided, labels = np.array([0, 1, 1]), np.array([1, 1, 0])
    assert counted_classes(TASK, decided, labels).tolist() == [1, 1, 0]
    assert counted_classes(TASK, decided, None).tolist() == [0, 1, 1]
    number = Regression(quantity="age", unit="years", tolerance=1.0)
    assert counted_classes(number, decided, np.array([0.5, 1.5, 2.5])) is None


def test_each_class_is_told_beside_the_two_shares():
    shares = fooled_shares((attempt(8, 20), attempt(0, ILL)), TASK)
    assert list(shares) == ["plain", "balanced", 'of "benign"', 'of "malignant"']
    assert shares['of "malignant"'] == worst_rate([attempt(8, 20).fooled[WELL:], np.ones(ILL, bool)])
    assert shares["balanced"].value == pytest.approx(0.5)
    assert shares["plain"].value == pytest.approx(ILL / 114)
    one_class = Attempt(radius=1.0, fooled=np.ones(9, bool), noisy=np.zeros(9, bool), decided=np.ones(9, int))
    assert fooled_shares((one_class,), TASK) == {}


def verdict(behind):
    gate = GatePolicy(evasion_success=LIMIT)
    results = {
        arm: AttackResult(outcome=each.fooled, baseline=each.noisy, attempts=(each,))
        for arm, each in (("undefended", attempt(70, ILL)), ("guarded", behind), ("adaptive", behind))
    }
    cell = Evasion().judge(Runs(attack=None, results=results, spec=SPEC, seed=0))
    status, reasons = judge_cell(cell, LIMIT, gate)
    return cell, status, reasons


def test_turning_most_of_a_rare_class_is_broken_though_few_rows_are_fooled():
    rows = attempt(0, 25)
    assert rows.fooled.mean() < LIMIT, "of rows it is within the bound"
    assert rows.fooled[WELL:].mean() < 0.9, "and no class is emptied"
    cell, status, reasons = verdict(rows)
    assert status is Status.BROKEN
    assert "passes the guard" in reasons[0]
    assert cell.guarded.value == pytest.approx(25 / 31 / 2)
    unknown = attempt(0, 25, classes=None)
    cell, status, reasons = verdict(unknown)
    assert cell.guarded.value < LIMIT, "the control: the plain share alone does not show it"
    assert status is Status.BROKEN
    assert 'of the rows of class "' in reasons[0], "and the class that rows are decided as does"


def test_one_class_alone_is_its_plain_share():
    ill = attempt(0, 20)
    only = Attempt(
        radius=1.0, fooled=ill.fooled[WELL:], noisy=ill.noisy[WELL:], decided=LABELS[WELL:], classes=LABELS[WELL:]
    )
    assert fooled_interval((only,)) == rate_interval(only.fooled)


GROUPS = [(31, 83), (5, 100), (12, 12, 12), (20, 40, 80, 3), (8,) * 14, (3, *(20,) * 6)]


@pytest.mark.parametrize("sizes", GROUPS, ids=str)
def test_a_balanced_rate_is_covered(sizes):
    """Both ends, over rates from none to all; a negative control is the interval of the pooled rows."""
    rng, draws = np.random.default_rng(3), 400
    for rates in (rng.uniform(0, 1, len(sizes)), rng.uniform(0, 0.2, len(sizes)), np.full(len(sizes), 0.02)):
        truth, above, below = rates.mean(), 0, 0
        for _ in range(draws):
            found = balanced_rate([rng.random(n) < rate for n, rate in zip(sizes, rates, strict=True)])
            assert found.low <= found.value <= found.high
            above, below = above + (found.low > truth), below + (found.high < truth)
        assert max(above, below) <= 18, "2.5 % of 400, and three standard errors"


def test_the_control_the_interval_of_pooled_rows_does_not_cover_the_mean_over_classes():
    rng, missed = np.random.default_rng(3), 0
    for _ in range(200):
        rows = [rng.random(n) < rate for n, rate in ((31, 0.8), (83, 0.02))]
        missed += not rate_interval(np.concatenate(rows)).low <= 0.41 <= rate_interval(np.concatenate(rows)).high
    assert missed > 150


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_of_one_group_a_balanced_rate_is_the_rate(case):
    n, hits = case
    found, rate = balanced_rate([np.arange(n) < hits]), clopper_pearson(hits, n)
    assert (found.value, found.n) == (rate.value, n)
    assert [found.low, found.high] == pytest.approx([rate.low, rate.high])


def test_a_balanced_rate_needs_rows():
    with pytest.raises(ValueError, match="at least one group"):
        balanced_rate([])
    with pytest.raises(ValueError, match="n >= 1"):
        balanced_rate([[]])


def certified_attempt(denied_ill, changed_ill, certified_ill):
    """Nobody fooled; of the ill so many lose their certificate, have another answer, and were certified before."""
    ill = np.where(LABELS == 1, np.cumsum(LABELS == 1), ILL + 1)
    return Attempt(
        radius=1.0,
        fooled=LABELS > 1,
        noisy=LABELS > 1,
        decided=np.zeros_like(LABELS),
        classes=LABELS,
        denied=ill <= denied_ill,
        changed=ill <= changed_ill,
        certified=(LABELS == 0) | (ill <= certified_ill),
    )


def test_denial_and_changed_answers_are_judged_plain_or_balanced_and_by_class():
    found = certified_attempt(ILL, ILL, ILL)
    assert denied_share((found,)).value == changed_share((found,)).value == 0.5
    classes = denied_by_class((found,), TASK)
    assert {name: share.value for name, share in classes.items()} == {"benign": 0, "malignant": 1}
    assert classes["malignant"].low < rate_interval(np.ones(ILL, bool)).low, "corrected for two classes"
    assert denied_share((certified_attempt(0, 0, ILL),)).value == 0
    bare = attempt(0, 0)
    assert denied_share((bare,)) is changed_share((bare,)) is None
    assert denied_by_class((bare,), TASK) == {}


def test_a_row_says_how_many_rows_were_certified_and_of_which_class_few():
    def notes(*attempts, chosen=None):
        result = AttackResult(outcome=attempts[0].fooled, attempts=attempts)
        return certified_rows_note({"undefended": result, "adaptive": result}, TASK, chosen)

    assert notes(certified_attempt(0, ILL, 0)) == (
        f'Judged on {WELL} certified of {WELL + ILL} rows; of class "malignant" on 0 of {ILL}.',
    )
    assert notes(certified_attempt(0, 0, ILL)) == (f"Judged on {WELL + ILL} certified of {WELL + ILL} rows.",)
    assert notes(attempt(0, 0)) == ()
    counted = Policy.model_validate({"on_error": "withhold", "certify": {"enabled": True, "uncertified": "label"}})
    assert notes(certified_attempt(0, ILL, 0), chosen=counted) == ()
