from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.finding import Finding, Status
from attacks.gate import Measured, bound, collapsed, exit_code, judge, leak, rows_needed
from attacks.intervals import Interval, clopper_pearson
from guard.policy import GatePolicy

GATE = GatePolicy()
N = 400


def share(value: float, n: int = N) -> Interval:
    return clopper_pearson(round(value * n), n)


def around(value: float, half: float = 0.03) -> Interval:
    return Interval(value, value - half, value + half, N)


FAIR = {
    "evasion": Measured(
        undefended=share(0.9),
        noise=share(0.05),
        guarded=share(0.02),
        adaptive=share(0.1),
        false_refusal=share(0.01),
    ),
    "extraction": Measured(
        undefended=around(0.4), guarded=around(0.05), adaptive=around(0.15), false_refusal=share(0.01)
    ),
    "membership": Measured(
        undefended=around(0.8), guarded=around(0.52), adaptive=around(0.55), false_refusal=share(0.01)
    ),
}


@pytest.mark.parametrize("family", FAIR)
def test_a_fair_case_is_held(family):
    status, reasons = judge(family, FAIR[family], GATE)
    assert status is Status.HELD
    assert len(reasons) == 1


CASES = [
    ("evasion", {"undefended": share(0.3)}, Status.INCONCLUSIVE, "too weak"),
    ("evasion", {"undefended": share(0.52)}, Status.INCONCLUSIVE, "too weak"),
    ("evasion", {"noise": share(0.88)}, Status.INCONCLUSIVE, "random noise"),
    ("evasion", {"noise": None}, Status.INCONCLUSIVE, "no random noise"),
    ("extraction", {"undefended": around(0.06)}, Status.INCONCLUSIVE, "gains too little"),
    ("membership", {"undefended": around(0.57)}, Status.INCONCLUSIVE, "does not leak enough"),
    ("evasion", {"guarded": share(0.4)}, Status.BROKEN, "The attack passes"),
    ("evasion", {"adaptive": share(0.4)}, Status.BROKEN, "knows the guard passes"),
    ("extraction", {"adaptive": around(0.6)}, Status.BROKEN, "knows the guard passes"),
    ("membership", {"guarded": around(0.7)}, Status.BROKEN, "The attack passes"),
    ("membership", {"guarded": around(0.3)}, Status.BROKEN, "The attack passes"),
    ("membership", {"adaptive": around(0.1)}, Status.BROKEN, "knows the guard passes"),
    ("membership", {"adaptive": around(0.42)}, Status.INCONCLUSIVE, "n too small: needs about"),
    ("membership", {"undefended": around(0.2), "guarded": around(0.2)}, Status.BROKEN, "The attack passes"),
    ("evasion", {"accounts": share(0.5, 20)}, Status.BROKEN, "turns on benign accounts"),
    ("evasion", {"accounts": share(0.0, 20)}, Status.HELD, "at most"),
    ("evasion", {"adaptive": None}, Status.INCONCLUSIVE, "not validated"),
    ("evasion", {"guarded": None}, Status.INCONCLUSIVE, "not run"),
    ("evasion", {"adaptive": share(0.15, 40)}, Status.INCONCLUSIVE, "n too small: needs about"),
    ("evasion", {"false_refusal": share(0.5)}, Status.BROKEN, "refuses benign"),
    ("evasion", {"false_refusal": share(0.0, 20)}, Status.INCONCLUSIVE, "n too small: needs about"),
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
    got, reasons = judge(family, replace(FAIR[family], **change), GATE)
    assert got is status
    assert word in " ".join(reasons)
    assert all(reason.endswith(".") for reason in reasons)


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
        "noise": share(0.0),
        "guarded": share(0.0),
        "adaptive": share(0.0),
        "flags": ("zero steps",),
    },
    "an attack with zero steps, unflagged": {"undefended": share(0.0), "noise": share(0.0)},
}


@pytest.mark.parametrize("name", FAKES)
def test_no_planted_fake_is_held(name):
    status, reasons = judge("evasion", replace(FAIR["evasion"], **FAKES[name]), GATE)
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
    measured = Measured(
        undefended=undefended,
        noise=noise,
        guarded=guarded,
        adaptive=adaptive,
        false_refusal=refusal,
        flags=flags,
    )
    status, _ = judge("evasion", measured, GATE)
    fine = (
        undefended.low >= 0.5
        and undefended.low > noise.high
        and guarded.high <= GATE.evasion_success
        and adaptive.high <= GATE.evasion_success
        and refusal.high <= GATE.false_refusal
        and not flags
    )
    assert (status is Status.HELD) == fine


BALANCED = {"undefended": share(0.5), "one_answer": 0.5}


@pytest.mark.parametrize(
    ("change", "weak"),
    [
        (BALANCED, False),
        (BALANCED | {"one_answer": None}, True),  # a targeted attack, or one image at a time
        (BALANCED | {"undefended": share(0.44)}, True),  # not all rows are gathered
        (BALANCED | {"undefended": share(0.5, 60)}, True),  # too few rows to tell from the bound
        (BALANCED | {"noise": share(0.45)}, True),
        ({"undefended": share(0.45), "one_answer": 0.45}, False),
        ({"undefended": share(0.26), "one_answer": 0.26}, True),  # so near the bound, holding would mean nothing
        ({"undefended": share(0.45), "one_answer": 0.26}, True),  # one class of 74 %: this is no collapse
        ({"undefended": share(0.45), "one_answer": 0.67}, True),  # three balanced classes
    ],
)
def test_a_model_gathered_in_one_class_is_a_strong_attack(change, weak):
    status, reasons = judge("evasion", replace(FAIR["evasion"], **change), GATE)
    assert status is (Status.INCONCLUSIVE if weak else Status.HELD)
    assert ("The attack is" in " ".join(reasons)) == weak


@given(fooled=rates, one_answer=st.floats(0, 1), limit=st.floats(0.01, 0.5))
def test_a_collapse_is_always_well_above_what_a_guard_is_held_to(fooled, one_answer, limit):
    if collapsed(fooled, one_answer, limit):
        assert fooled.low >= 2 * limit
        assert fooled.value >= 0.9 * one_answer >= 2 * limit
        assert one_answer >= 0.4


def test_a_tight_bound_does_not_make_a_small_class_a_collapse():
    fooled = clopper_pearson(130, 1000)
    assert not collapsed(fooled, 0.13, 0.05)
    assert not collapsed(clopper_pearson(58, 1000), 0.058, 0.02)
    assert collapsed(clopper_pearson(480, 1000), 0.48, 0.05)


def test_the_rows_it_asks_for_decide():
    few = clopper_pearson(1, 40)
    need = rows_needed(few, 0.05)
    assert need > 40
    assert clopper_pearson(need // 40, need).high < 0.05 * 1.15
    assert rows_needed(Interval(0.05, 0.01, 0.2, 40), 0.05) is None


def test_the_bounds_are_the_policys():
    gate = GatePolicy(evasion_success=0.01, extraction_gain=0.02, membership_auc=0.51)
    assert [bound(family, gate) for family in FAIR] == [0.01, 0.02, 0.51]
    assert all(judge(family, FAIR[family], gate)[0] is not Status.HELD for family in FAIR)


@given(st.floats(0, 1), st.floats(0, 0.2))
def test_a_signal_and_its_mirror_image_are_judged_alike(value, half):
    low, high = max(0.0, value - half), min(1.0, value + half)
    arm, mirrored = Interval(value, low, high, N), Interval(1 - value, 1 - high, 1 - low, N)
    limit = GATE.membership_auc
    status, _ = judge("membership", replace(FAIR["membership"], guarded=arm, adaptive=arm), GATE)
    for each in (arm, mirrored):
        again, _ = judge("membership", replace(FAIR["membership"], guarded=arm, adaptive=each), GATE)
        assert again is status
    assert (status is Status.HELD) == (leak(arm).high <= limit)
    assert (status is Status.BROKEN) == (arm.low > limit or 1 - arm.high > limit)


H, B, INC, NA = Status.HELD, Status.BROKEN, Status.INCONCLUSIVE, Status.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("statuses", "code"),
    [([H, H], 0), ([H, NA], 0), ([H, B], 1), ([INC, B], 1), ([H, INC], 2), ([INC], 2), ([NA], 2), ([], 2)],
)
def test_exit_codes(statuses, code):
    findings = [Finding.model_construct(status=status) for status in statuses]
    assert exit_code(findings) == code
