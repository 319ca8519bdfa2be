from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.attacks.evasion.cell import EvasionCell
from medward.attacks.evasion.class_shares import EMPTIED, empties_class
from medward.attacks.extraction.cell import TheftCell
from medward.attacks.families import FAMILIES
from medward.attacks.intervals import Interval, clopper_pearson, worst_rate
from medward.attacks.membership.cell import MembershipCell, leak_interval
from medward.attacks.validation.cause import WAIVABLE, Cause, find_causes
from medward.attacks.validation.finding import Finding, OrdinaryCost, Status
from medward.attacks.validation.gate import GOOD, arm_statuses, exit_code, judge_cell, overall_status, rows_to_prove
from medward.guard.policy import GatePolicy

GATE = GatePolicy()
N = 400


def share(value: float, n: int = N) -> Interval:
    return clopper_pearson(round(value * n), n)


def around(value: float, half: float = 0.03) -> Interval:
    return Interval(value, value - half, value + half, N)


FAIR = {
    "evasion": EvasionCell(
        undefended=share(0.9),
        baseline=share(0.05),
        guarded=share(0.02),
        adaptive=share(0.1),
        false_refusal=share(0.01),
    ),
    "extraction": TheftCell(
        undefended=around(0.4), guarded=around(0.05), adaptive=around(0.15), false_refusal=share(0.01)
    ),
    "membership": MembershipCell(
        undefended=around(0.8), guarded=around(0.52), adaptive=around(0.55), false_refusal=share(0.01)
    ),
}


def judged(family, cell, gate=GATE):
    return judge_cell(cell, FAMILIES[family].bound(gate), gate)


@pytest.mark.parametrize("family", FAIR)
def test_a_fair_case_is_held(family):
    status, reasons = judged(family, FAIR[family], GATE)
    assert status is Status.HELD
    assert len(reasons) == 1


def looped(acted, *, forgiven=True):
    """A loop that so many of 20 accounts were acted upon for."""
    found = clopper_pearson(acted, 20)
    what = {"behaviour": "17 fixed inputs", "group": "loops", "forgiven": forgiven}
    return OrdinaryCost(**what, remedy="" if forgiven else "Stop.", acted=found, withheld=found, screened=share(0.0))


CASES = [
    ("evasion", {"undefended": share(0.3)}, Status.INCONCLUSIVE, "too weak"),
    ("evasion", {"undefended": share(0.52)}, Status.INCONCLUSIVE, "too weak"),
    ("evasion", {"baseline": share(0.88)}, Status.INCONCLUSIVE, "random noise"),
    ("evasion", {"baseline": None}, Status.INCONCLUSIVE, "no random noise"),
    ("extraction", {"undefended": around(0.06)}, Status.INCONCLUSIVE, "gains too little"),
    ("membership", {"undefended": around(0.57)}, Status.INCONCLUSIVE, "does not leak enough"),
    ("evasion", {"guarded": share(0.4)}, Status.BROKEN, "The attack passes"),
    ("evasion", {"adaptive": share(0.4)}, Status.BROKEN, "knows the guard passes"),
    ("extraction", {"adaptive": around(0.6)}, Status.BROKEN, "knows the guard passes"),
    ("membership", {"guarded": around(0.7)}, Status.BROKEN, "The attack passes"),
    ("membership", {"guarded": around(0.3)}, Status.BROKEN, "The attack passes"),
    ("membership", {"adaptive": around(0.1)}, Status.BROKEN, "knows the guard passes"),
    ("membership", {"adaptive": around(0.42)}, Status.TOO_FEW_ROWS, "too few rows: "),
    ("membership", {"undefended": around(0.2), "guarded": around(0.2)}, Status.BROKEN, "The attack passes"),
    ("evasion", {"accounts": share(0.5, 20)}, Status.BROKEN, "turns on benign accounts"),
    ("evasion", {"accounts": share(0.0, 20)}, Status.HELD, "at most"),
    ("evasion", {"ordinary": [looped(18)]}, Status.BROKEN, "acts upon ordinary behaviour"),
    ("evasion", {"ordinary": [looped(2)]}, Status.HELD, "at most"),
    ("evasion", {"ordinary": [looped(20, forgiven=False)]}, Status.HELD, "at most"),
    ("evasion", {"sensitivity_lost": {"ill": share(0.2, 60)}}, Status.BROKEN, 'costs sensitivity for "ill"'),
    ("evasion", {"sensitivity_lost": {"ill": share(0.0, 9), "well": share(0.01)}}, Status.HELD, "at most"),
    ("evasion", {"refused": {"adaptive": share(1.0)}}, Status.HELD, "at most"),  # by default it is told, not judged
    ("evasion", {"uncertified": share(0.4)}, Status.BROKEN, "certifies too little"),
    ("evasion", {"uncertified": share(0.24)}, Status.TOO_FEW_ROWS, "Clean rows that are not certified"),
    ("evasion", {"denied": {"adaptive": share(0.7)}}, Status.BROKEN, "takes certificates away"),
    ("evasion", {"denied": {"adaptive": share(0.3)}, "uncertified": share(0.1)}, Status.HELD, "at most"),
    ("evasion", {"uncertified_classes": {"ill": share(1.0, 48)}}, Status.BROKEN, '"ill": 0 of its 48 clean rows'),
    ("evasion", {"uncertified_classes": {"ill": share(0.2, 10), "well": share(0.1)}}, Status.HELD, "at most"),
    ("evasion", {"denied_classes": {"adaptive": {"ill": share(1.0, 45)}}}, Status.BROKEN, 'of class "ill" away'),
    ("evasion", {"denied_classes": {"adaptive": {"ill": share(0.4, 10)}}}, Status.HELD, "at most"),
    ("evasion", {"denied_classes": {"undefended": {"ill": share(1.0, 45)}}}, Status.HELD, "at most"),
    ("evasion", {"adaptive": None}, Status.INCONCLUSIVE, "not validated"),
    ("evasion", {"guarded": None}, Status.INCONCLUSIVE, "not run"),
    ("evasion", {"adaptive": share(0.15, 40)}, Status.TOO_FEW_ROWS, "too few rows: 137 needed, 40 given"),
    ("evasion", {"adaptive": share(0.19)}, Status.INCONCLUSIVE, "more rows may not decide"),
    ("evasion", {"false_refusal": share(0.5)}, Status.BROKEN, "refuses benign"),
    ("evasion", {"false_refusal": share(0.0, 20)}, Status.TOO_FEW_ROWS, "too few rows: "),
    (
        "evasion",
        {"false_refusal": share(0.0, 20), "flags": ("not converged",)},
        Status.INCONCLUSIVE,
        "too few rows: ",
    ),
    ("evasion", {"false_refusal": None}, Status.INCONCLUSIVE, "benign users was not measured"),
    (
        "membership",
        {"flags": ("members and non-members differ without the model",)},
        Status.INCONCLUSIVE,
        "flagged",
    ),
    ("evasion", {"flags": ("not converged",), "guarded": share(0.6)}, Status.BROKEN, "flagged"),
]


@pytest.mark.parametrize(("family", "change", "status", "word"), CASES)
def test_each_reason_not_to_hold(family, change, status, word):
    got, reasons = judged(family, replace(FAIR[family], **change), GATE)
    assert got is status
    assert word in " ".join(reasons)
    assert all(reason.endswith(".") for reason in reasons)


@pytest.mark.parametrize(("family", "change", "status", "word"), CASES)
def test_each_reason_not_to_hold_has_a_cause(family, change, status, word):
    limit, cell = FAMILIES[family].bound(GATE), replace(FAIR[family], **change)
    causes = find_causes(cell, judge_cell(cell, limit, GATE)[0], limit, GATE)
    assert bool(causes) is (status not in GOOD)
    expected = {
        "passes": Cause.PASSED,
        "refuses benign": Cause.BENIGN_REFUSED,
        "turns on benign accounts": Cause.BENIGN_ACCOUNTS,
        "acts upon ordinary behaviour": Cause.ORDINARY_ACCOUNTS,
        "costs sensitivity": Cause.SENSITIVITY_LOST,
        "certifies too little": Cause.UNCERTIFIED,
        "takes certificates away": Cause.DENIED,
        "too weak": Cause.TOO_WEAK,
        "no random noise": Cause.NO_BASELINE,
        "not run": Cause.NO_ROW,
        "not validated": Cause.NO_KNOWING_ATTACKER,
        "was not measured": Cause.COST_UNKNOWN,
        "may not decide": Cause.NEAR_BOUND,
    }
    named = {cause for words, cause in expected.items() if words in word}
    assert named <= set(causes)


NOTHING_REACHED = {"evasion": share(0.0), "extraction": around(0.0), "membership": around(0.5)}
COSTS = [
    ("evasion", {**reached, **cost}, Status.INCONCLUSIVE, "")
    for reached in ({}, {"adaptive": share(0.4)}, {"adaptive": share(0.15, 40)})
    for cost in (
        {},
        {"false_refusal": clopper_pearson(18, 250)},
        {"false_refusal": None},
        {"uncertified": clopper_pearson(29, 100)},
        {"denied": {"adaptive": clopper_pearson(55, 100)}},
        {"flags": ("rows of train are in test",)},
    )
]


@pytest.mark.parametrize(("family", "change", "status", "word"), [*CASES, *COSTS])
def test_a_waiver_covers_a_row_only_if_it_were_good_should_the_attack_reach_nothing(family, change, status, word):
    limit, cell = FAMILIES[family].bound(GATE), replace(FAIR[family], **change)
    judged_as = judge_cell(cell, limit, GATE)[0]
    if judged_as in GOOD:
        return
    covered = set(find_causes(cell, judged_as, limit, GATE)) <= WAIVABLE
    none = NOTHING_REACHED[family]
    good = judge_cell(replace(cell, guarded=none, adaptive=none), limit, GATE)[0] in GOOD
    assert covered is (good and cell.guarded is not None and cell.adaptive is not None)


def test_how_many_rows_would_settle_it_is_a_number():
    cell = replace(FAIR["evasion"], adaptive=share(0.15, 40), labelled={"adaptive": {"ill": 40, "well": 200}})
    assert cell.rows_to_give(0.2) == {"ill": 97}
    assert replace(FAIR["membership"], adaptive=around(0.42)).rows_to_give(0.6)[""] > 0
    assert FAIR["membership"].rows_to_give(0.6) == {}


FAKES = {
    "inflated logits: gradients vanish and the attack fails": {
        "undefended": share(0.1),
        "guarded": share(0.0),
        "adaptive": share(0.0),
        "flags": ("cross-entropy gradients vanish",),
    },
    "inflated logits: the margin still finds examples": {"flags": ("cross-entropy gradients vanish",)},
    "quantiser: zero gradients": {"undefended": share(0.06), "flags": ("zero gradients",)},
    "quantiser: a surrogate is stronger": {"flags": ("weaker than transfer",)},
    "a detector that always abstains": {
        "guarded": share(0.0),
        "adaptive": share(0.0),
        "false_refusal": share(1.0),
        "flags": ("abstains",),
    },
    "a detector that always abstains, unnoticed by the attack": {
        "guarded": share(0.0),
        "adaptive": share(0.0),
        "false_refusal": share(1.0),
    },
    "an attack with zero steps": {
        "undefended": share(0.0),
        "baseline": share(0.0),
        "guarded": share(0.0),
        "adaptive": share(0.0),
        "flags": ("zero steps",),
    },
    "an attack with zero steps, unflagged": {"undefended": share(0.0), "baseline": share(0.0)},
}


@pytest.mark.parametrize("name", FAKES)
def test_no_planted_fake_is_held(name):
    status, reasons = judged("evasion", replace(FAIR["evasion"], **FAKES[name]), GATE)
    assert status in (Status.BROKEN, Status.INCONCLUSIVE)
    assert reasons


rates = st.integers(0, N).map(lambda k: clopper_pearson(k, N))


@given(
    undefended=rates,
    noise=rates,
    guarded=rates,
    adaptive=rates,
    refusal=rates,
    flags=st.sampled_from([(), ("odd",)]),
)
def test_held_means_every_bad_end_is_within_its_bound(undefended, noise, guarded, adaptive, refusal, flags):
    measured = EvasionCell(
        undefended=undefended,
        baseline=noise,
        guarded=guarded,
        adaptive=adaptive,
        false_refusal=refusal,
        flags=flags,
    )
    status, _ = judged("evasion", measured, GATE)
    fine = (
        undefended.low >= 0.5
        and undefended.low > noise.high
        and guarded.high <= GATE.evasion_success
        and adaptive.high <= GATE.evasion_success
        and refusal.high <= GATE.false_refusal
        and not flags
    )
    assert (status is Status.HELD) == fine


WEAK = {
    # The first three are of models and guards that the first release called inconclusive.
    "half of the patients": (
        {"undefended": share(0.487), "guarded": share(0.473), "adaptive": share(0.48)},
        "too weak",
    ),
    "better than unguarded": ({"undefended": share(0.268), "adaptive": share(0.462)}, "too weak"),
    "noise breaks the model too": ({"baseline": share(0.958), "adaptive": share(0.958)}, "no better than random noise"),
    "no noise": ({"baseline": None, "adaptive": share(0.3)}, "no random noise"),
    "flagged": ({"flags": ("not converged",), "adaptive": share(0.3)}, "not converged"),
    "no row unguarded": ({"undefended": None, "adaptive": share(0.3)}, "no row"),
}


@pytest.mark.parametrize("case", WEAK)
def test_a_weak_attack_that_passes_the_guard_is_broken_and_its_weakness_is_said_beside(case):
    change, weakness = WEAK[case]
    status, reasons = judged("evasion", replace(FAIR["evasion"], **change), GATE)
    assert status is Status.BROKEN
    assert "passes the guard" in reasons[0]
    assert weakness in " ".join(reasons[1:])
    harmless = change | {"guarded": share(0.02), "adaptive": share(0.1)}
    status, reasons = judged("evasion", replace(FAIR["evasion"], **harmless), GATE)
    assert status is Status.INCONCLUSIVE, "a guard that holds under a weak attack is not shown to hold"
    assert weakness in " ".join(reasons)


@given(undefended=rates, noise=rates, guarded=rates, adaptive=rates, flags=st.sampled_from([(), ("odd",)]))
def test_no_weakness_of_the_attack_hides_a_guard_that_is_passed(undefended, noise, guarded, adaptive, flags):
    measured = replace(
        FAIR["evasion"], undefended=undefended, baseline=noise, guarded=guarded, adaptive=adaptive, flags=flags
    )
    status, _ = judged("evasion", measured, GATE)
    assert (status is Status.BROKEN) == (max(guarded.low, adaptive.low) > GATE.evasion_success)


def test_a_weak_attack_on_membership_that_leaks_behind_the_guard_is_broken():
    weak = replace(FAIR["membership"], undefended=around(0.52))
    assert judged("membership", weak, GATE)[0] is Status.INCONCLUSIVE
    status, reasons = judged("membership", replace(weak, adaptive=around(0.7)), GATE)
    assert status is Status.BROKEN
    assert "does not leak enough" in " ".join(reasons)


STOLEN = [
    # gain without the guard, gain behind it, whether the guard is shown to be passed
    (around(0.02), around(0.02), False),  # the ratio is 1, of noise
    (around(0.02), around(0.3), True),
    (around(-0.02), around(0.3), True),
    (around(0.02), around(0.07), False),  # hardly a gain
    (Interval(0.2, 0.01, 0.39, 20), around(0.12), False),  # too few rows to say how much there is to steal
    (Interval(0.2, 0.01, 0.39, 20), around(0.14), True),
    (None, around(0.3), True),
]


@pytest.mark.parametrize(("free", "behind", "passed"), STOLEN)
def test_a_theft_too_weak_to_count_is_judged_by_what_is_gained_behind_the_guard(free, behind, passed):
    ratio = around(behind.value / free.value if free and free.value else 9.0)
    measured = replace(FAIR["extraction"], undefended=free, guarded=ratio, adaptive=ratio, gains={"adaptive": behind})
    status, reasons = judged("extraction", measured, GATE)
    assert status is (Status.BROKEN if passed else Status.INCONCLUSIVE)
    assert ("gains at least" in " ".join(reasons)) == passed
    assert "gains too little" in " ".join(reasons) or free is None


def of_class(fooled: int, n: int, *, radii: int = 5, classes: int = 2) -> Interval:
    rows = [True] * fooled + [False] * (n - fooled)
    return worst_rate([rows] * radii, among=classes)


RARE = {"undefended": share(0.2), "noise_classes": {"ill": of_class(3, 31), "well": of_class(2, 125)}}
EMPTY, FULL = {"ill": of_class(31, 31), "well": of_class(0, 125)}, {"ill": of_class(1, 31), "well": of_class(0, 125)}
HELD_ON_IT = {"ill": of_class(0, 31), "well": of_class(9, 125)}


@pytest.mark.parametrize(
    ("classes", "change", "status", "words"),
    [
        ({"undefended": EMPTY, "guarded": HELD_ON_IT, "adaptive": HELD_ON_IT}, {}, Status.HELD, 'of class "ill"'),
        ({"undefended": FULL, "guarded": HELD_ON_IT, "adaptive": HELD_ON_IT}, {}, Status.INCONCLUSIVE, "too weak"),
        ({}, {}, Status.INCONCLUSIVE, "too weak"),
        (  # noise of the same size empties it too
            {"undefended": EMPTY, "guarded": HELD_ON_IT, "adaptive": HELD_ON_IT},
            {"noise_classes": EMPTY},
            Status.INCONCLUSIVE,
            "too weak",
        ),
        (  # a handful of rows
            {"undefended": {"ill": of_class(8, 8), "well": of_class(0, 148)}, "guarded": HELD_ON_IT},
            {},
            Status.INCONCLUSIVE,
            "too weak",
        ),
        (  # the share of all rows is within the bound, that of the class which the attack empties is not
            {"undefended": EMPTY, "guarded": HELD_ON_IT, "adaptive": {"ill": of_class(15, 31)}},
            {},
            Status.TOO_FEW_ROWS,
            'on class "ill" alone',
        ),
        ({"undefended": EMPTY, "guarded": HELD_ON_IT, "adaptive": {}}, {}, Status.INCONCLUSIVE, "judged on no row"),
        ({"undefended": EMPTY, "adaptive": EMPTY}, {}, Status.BROKEN, 'every row of class "ill" is decided otherwise'),
        ({"guarded": EMPTY}, {"undefended": share(0.9)}, Status.BROKEN, "(31 rows, so at least 82.4%)"),
        (  # a strong attack that leaves one row of a rare class through its screen, and it is the only one there
            {"undefended": EMPTY, "guarded": {"ill": of_class(1, 1)}, "adaptive": {"ill": of_class(3, 3)}},
            {"undefended": share(0.9)},
            Status.HELD,
            "at most",
        ),
        (  # of a class of many that the attack does not empty more than half is fooled all the same
            {"adaptive": {"ill": of_class(80, 90), "well": of_class(0, 900)}},
            {"undefended": share(0.9)},
            Status.BROKEN,
            '88.9% of the rows of class "ill" are decided otherwise',
        ),
        (  # about half of it
            {"adaptive": {"ill": of_class(16, 30), "well": of_class(0, 900)}},
            {"undefended": share(0.9)},
            Status.TOO_FEW_ROWS,
            "that half of the class is fooled cannot be excluded",
        ),
        (  # less
            {"adaptive": {"ill": of_class(110, 300), "well": of_class(0, 900)}},
            {"undefended": share(0.9)},
            Status.HELD,
            "at most",
        ),
        (  # every row of a rare class passes its screen, on too few rows to call that BROKEN
            {"undefended": EMPTY, "guarded": {"ill": of_class(6, 6)}, "adaptive": {"ill": of_class(6, 6)}},
            {"undefended": share(0.9)},
            Status.TOO_FEW_ROWS,
            'fools 100.0% of the 6 rows of class "ill"',
        ),
    ],
)
def test_a_class_that_is_emptied_counts_however_rare_it_is(classes, change, status, words):
    got, reasons = judged("evasion", replace(FAIR["evasion"], **(RARE | {"classes": classes} | change)), GATE)
    assert got is status, reasons
    assert words in " ".join(reasons)


@given(fooled=st.integers(0, 60), rest=st.integers(0, 60), radii=st.integers(1, 5), classes=st.integers(1, 12))
def test_no_class_of_a_handful_of_rows_is_ever_emptied(fooled, rest, radii, classes):
    n = fooled + rest
    if n:
        found = empties_class(of_class(fooled, n, radii=radii, classes=classes))
        assert not found or (n >= 13 and fooled >= EMPTIED * n)


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        ({"adaptive": share(0.4)}, Status.BROKEN),
        ({"guarded": share(0.4)}, Status.BROKEN),
        ({"adaptive": share(0.2, 30)}, Status.TOO_FEW_ROWS),
        ({"adaptive": share(0.1), "guarded": share(0.0)}, Status.HELD),
        ({"undefended": share(0.9)}, Status.HELD),
    ],
)
def test_an_attacker_who_has_answers_refused_is_held_to_a_bound_where_there_is_one(refused, status):
    cell, gate = replace(FAIR["evasion"], refused=refused), GatePolicy(attack_refusal=0.3)
    found, reasons = judged("evasion", cell, gate)
    assert found is status, reasons
    assert (found is Status.HELD) or "has answers refused" in reasons[0]
    alone = arm_statuses(cell, 0.2, gate)
    assert alone == {arm: status if arm in refused and status is not Status.HELD else Status.HELD for arm in alone}


def test_the_rows_it_asks_for_decide():
    few = clopper_pearson(1, 40)
    need = rows_to_prove(few, 0.05)
    assert need > 40
    assert clopper_pearson(need // 40, need).high < 0.05 * 1.15
    assert rows_to_prove(Interval(0.05, 0.01, 0.2, 40), 0.05) is None


def test_the_bounds_are_the_policys():
    gate = GatePolicy(evasion_success=0.01, extraction_gain=0.02, membership_auc=0.51)
    assert [FAMILIES[family].bound(gate) for family in FAIR] == [0.01, 0.02, 0.51]
    assert all(judged(family, FAIR[family], gate)[0] is not Status.HELD for family in FAIR)


@given(st.floats(0, 1), st.floats(0, 0.2))
def test_a_signal_and_its_mirror_image_are_judged_alike(value, half):
    low, high = max(0.0, value - half), min(1.0, value + half)
    arm, mirrored = Interval(value, low, high, N), Interval(1 - value, 1 - high, 1 - low, N)
    limit = GATE.membership_auc
    status, _ = judged("membership", replace(FAIR["membership"], guarded=arm, adaptive=arm), GATE)
    for each in (arm, mirrored):
        again, _ = judged("membership", replace(FAIR["membership"], guarded=arm, adaptive=each), GATE)
        assert again is status
    assert (status is Status.HELD) == (leak_interval(arm).high <= limit)
    assert (status is Status.BROKEN) == (arm.low > limit or 1 - arm.high > limit)


STRONG_CONTROL = {"control": share(0.9), "control_noise": share(0.1)}
HARMLESS = {"undefended": share(0.05), "guarded": share(0.03), "adaptive": share(0.04), "baseline": share(0.01)}


def test_a_model_that_keeps_the_bound_by_itself_needs_no_defense_once_a_control_shows_the_attack_at_work():
    status, reasons = judged("evasion", replace(FAIR["evasion"], **HARMLESS, **STRONG_CONTROL))
    assert status is Status.NOT_NEEDED
    assert "even without the guard at most" in reasons[0]
    assert "fools at least 86" in reasons[0]


def test_a_control_that_wins_one_class_alone_is_at_work():
    """One change moves the rows of two classes one way: of 62 % of one class it can win no more."""
    won, noise = (
        {"well": of_class(110, 125), "ill": of_class(0, 31)},
        {"well": of_class(8, 125), "ill": of_class(2, 31)},
    )
    weak = HARMLESS | {"control": share(0.45), "control_noise": share(0.1), "control_classes": won}
    status, reasons = judged("evasion", replace(FAIR["evasion"], **weak, control_noise_classes=noise))
    assert status is Status.NOT_NEEDED
    assert f'{won["well"].low:.1%} of class "well"' in reasons[0], "what is said is what was asked for"
    status, _ = judged("evasion", replace(FAIR["evasion"], **weak, control_noise_classes=won))
    assert status is Status.INCONCLUSIVE, "noise wins as much of it"


NO_CONTROL = {
    "none": {},
    "weak": {"control": share(0.4), "control_noise": share(0.1)},
    "no better than noise": {"control": share(0.9), "control_noise": share(0.88)},
    "no noise": {"control": share(0.9)},
}


@pytest.mark.parametrize("name", NO_CONTROL)
def test_without_a_control_at_work_nothing_says_that_no_defense_is_needed(name):
    status, reasons = judged("evasion", replace(FAIR["evasion"], **HARMLESS, **NO_CONTROL[name]))
    assert status is Status.INCONCLUSIVE
    assert "not shown either" in " ".join(reasons)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"undefended": share(0.1, 30), "control": None}, Status.INCONCLUSIVE),
        ({"flags": ("zero gradients",)}, Status.INCONCLUSIVE),
        ({"adaptive": share(0.4)}, Status.BROKEN),
        ({"adaptive": None}, Status.INCONCLUSIVE),
        ({"adaptive": share(0.1, 30)}, Status.TOO_FEW_ROWS),
        ({"undefended": share(0.1, 30)}, Status.HELD),  # whether it is needed cannot be told; that the guard holds can
        ({"undefended": share(0.1, 30), "guarded": share(0.1, 30)}, Status.TOO_FEW_ROWS),
        ({"undefended": share(0.19)}, Status.HELD),
        ({"undefended": share(0.19), "guarded": share(0.19)}, Status.INCONCLUSIVE),  # enough rows, on the bound
        ({"undefended": share(0.19), "control": share(0.4)}, Status.INCONCLUSIVE),  # nothing shows the attack at work
        ({"undefended": share(0.4)}, Status.HELD),  # passes the bound unguarded, and the control is strong
        ({"undefended": share(0.4), "baseline": share(0.38)}, Status.INCONCLUSIVE),
        ({"false_refusal": share(0.5)}, Status.BROKEN),
    ],
)
def test_not_needed_asks_as_much_as_held(change, status):
    got, reasons = judged("evasion", replace(FAIR["evasion"], **(HARMLESS | STRONG_CONTROL | change)))
    assert got is status, reasons


@given(undefended=rates, noise=rates, control=rates, control_noise=rates, flags=st.sampled_from([(), ("odd",)]))
def test_nothing_good_is_said_of_a_weak_attack_without_a_control(undefended, noise, control, control_noise, flags):
    measured = replace(
        FAIR["evasion"],
        undefended=undefended,
        baseline=noise,
        control=control,
        control_noise=control_noise,
        flags=flags,
    )
    status, _ = judged("evasion", measured)
    works = control.low >= 0.5 and control.low > control_noise.high
    strong = undefended.low >= 0.5 and undefended.low > noise.high
    if status in (Status.HELD, Status.NOT_NEEDED):
        assert strong or works
        assert not flags
        assert (status is Status.NOT_NEEDED) <= (undefended.high <= GATE.evasion_success)


@pytest.mark.parametrize(
    ("change", "blind", "knowing"),
    [
        ({}, Status.HELD, Status.HELD),
        ({"adaptive": share(0.4)}, Status.HELD, Status.BROKEN),
        ({"guarded": share(0.4)}, Status.BROKEN, Status.HELD),
        ({"adaptive": share(0.15, 40)}, Status.HELD, Status.TOO_FEW_ROWS),
        ({"adaptive": None}, Status.HELD, None),
    ],
)
@pytest.mark.parametrize("family", FAIR)
def test_each_attacker_has_a_verdict(family, change, blind, knowing):
    if family != "evasion":
        change = {arm: value and around({0.4: 0.7, 0.15: 0.27}[round(value.value, 2)]) for arm, value in change.items()}
    if family == "membership" and knowing is Status.TOO_FEW_ROWS:
        change = {"adaptive": around(0.59)}
    cell = replace(FAIR[family], **change)
    found = arm_statuses(cell, FAMILIES[family].bound(GATE), GATE)
    assert found == {arm: status for arm, status in (("guarded", blind), ("adaptive", knowing)) if status}


H, B, INC, NA = Status.HELD, Status.BROKEN, Status.INCONCLUSIVE, Status.NOT_APPLICABLE
NN, FEW = Status.NOT_NEEDED, Status.TOO_FEW_ROWS


@pytest.mark.parametrize(
    ("statuses", "code", "overall"),
    [
        ([H, H], 0, H),
        ([H, NA], 0, H),
        ([H, NN], 0, H),
        ([NN, NN], 0, NN),
        ([H, B], 1, B),
        ([INC, B], 1, B),
        ([FEW, B], 1, B),
        ([H, INC], 2, INC),
        ([H, FEW], 2, FEW),
        ([INC, FEW], 2, INC),
        ([INC], 2, INC),
        ([NA], 2, INC),
        ([], 2, INC),
    ],
)
def test_exit_codes(statuses, code, overall):
    findings = [Finding.model_construct(status=status) for status in statuses]
    assert exit_code(findings) == code
    assert overall_status(findings) is overall


CERTIFIED = replace(FAIR["evasion"], uncertified=share(0.1), denied={"adaptive": share(0.2)})


def test_what_is_not_certified_and_what_is_denied_have_bounds_of_their_own():
    assert judged("evasion", CERTIFIED)[0] is Status.HELD
    few = replace(CERTIFIED, uncertified=share(0.22, 60))
    status, reasons = judged("evasion", few)
    assert status is Status.TOO_FEW_ROWS
    assert "Clean rows that are not certified" in reasons[0]
    status, reasons = judged("evasion", replace(CERTIFIED, uncertified=share(0.4)))
    assert status is Status.BROKEN
    assert "certifies too little: at least 35.2% of clean rows" in reasons[0]
    status, reasons = judged("evasion", replace(CERTIFIED, denied={"adaptive": share(0.7)}))
    assert status is Status.BROKEN
    assert "The attacker who knows the guard takes certificates away" in reasons[0]
    assert judged("evasion", replace(CERTIFIED, denied={"undefended": share(0.9)}))[0] is Status.HELD


def test_a_denial_counts_against_the_arm_that_does_it():
    found = replace(CERTIFIED, denied={"guarded": share(0.1), "adaptive": share(0.7)})
    verdicts = arm_statuses(found, FAMILIES["evasion"].bound(GATE), GATE)
    assert verdicts["guarded"] is Status.HELD
    assert verdicts["adaptive"] is Status.BROKEN


def test_what_befalls_one_class_has_its_cause_and_counts_against_the_arm_that_does_it():
    limit = FAMILIES["evasion"].bound(GATE)
    bare = replace(CERTIFIED, uncertified_classes={"ill": share(1.0, 48)})
    assert find_causes(bare, Status.BROKEN, limit, GATE) == (Cause.UNCERTIFIED,)
    taken = replace(
        CERTIFIED, denied={"adaptive": share(0.43, 300)}, denied_classes={"adaptive": {"ill": share(1, 45)}}
    )
    assert judged("evasion", replace(taken, denied_classes={}))[0] is Status.HELD
    assert find_causes(taken, Status.BROKEN, limit, GATE) == (Cause.DENIED,)
    verdicts = arm_statuses(taken, limit, GATE)
    assert (verdicts["guarded"], verdicts["adaptive"]) == (Status.HELD, Status.BROKEN)


def test_no_policy_lets_an_attacker_take_every_certificate_away():
    assert GatePolicy(denied=0.75).denied == 0.75
    with pytest.raises(ValueError, match=r"less than or equal to 0\.75"):
        GatePolicy(denied=0.76)
