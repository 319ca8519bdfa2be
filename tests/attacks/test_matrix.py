import html
from dataclasses import dataclass, replace

import numpy as np
import pytest
from rich.console import Console
from validation_fakes import SPEC, SPLITS, Linear, Scripted, deployment, rows

from medward.attacks.base import AttackResult, Attempt
from medward.attacks.membership.family import Membership
from medward.attacks.report.table import print_findings
from medward.attacks.target import guarded_oracle
from medward.attacks.validation.clean_cost import ACCOUNTS, account_visits, measure_clean_cost
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.family import NotTested
from medward.attacks.validation.finding import Status
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.splits import conform_splits, share_rows
from medward.guard.accounts.stores import MemoryStore
from medward.guard.bundle.power import measure_power
from medward.guard.bundle.power_words import power_words
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import GatePolicy, Policy, ScreenPolicy
from medward.guard.profile import Profile

QUERIES = 50


@pytest.fixture(autouse=True)
def _short_accounts(monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", QUERIES)


@pytest.fixture(scope="module")
def bundle():
    return deployment()


def run(bundle, out, *attacks, splits=SPLITS, **settings):
    return run_validation(Deployment(bundle=bundle), splits, out, attacks=attacks, progress=False, **settings)


def test_each_attack_becomes_one_finding_with_three_arms(bundle, tmp_path):
    attacks = (
        Scripted(name="good"),
        Scripted(name="strong", behind=0.7),
        Scripted(name="weak", free=0.3),
        Scripted(name="flagged", flags=("zero gradients",)),
        Scripted(name="blind", blind=True),
        Scripted(name="thief", family="extraction", behind=0.08),
        Scripted(name="lira", family="membership", behind=-0.05),
    )
    report = run(bundle, tmp_path, *attacks)
    status = {finding.attack: finding.status for finding in report.findings}
    assert status == {
        "good": Status.HELD,
        "strong": Status.BROKEN,
        "weak": Status.INCONCLUSIVE,
        "flagged": Status.INCONCLUSIVE,
        "blind": Status.INCONCLUSIVE,
        "thief": Status.HELD,
        "lira": Status.HELD,
    }
    assert report.exit_code == 1
    good, thief = report.findings[0], report.findings[5]
    assert good.undefended.value == pytest.approx(0.95)
    assert good.guarded.value == good.adaptive.value == pytest.approx(0.01)
    assert good.baseline.value == pytest.approx(0.05)
    assert good.adaptive_name == "good+aware"
    assert good.clean_cost.site.n == 400
    assert "AML.T0043.002" in good.controls["MITRE ATLAS"], "without a network the attack is a transfer"
    assert "transfer" in good.threat.knowledge
    assert thief.judged_guarded.value == pytest.approx(0.03 / 0.9, abs=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "report.json", "report.html", "junit.xml"}


def test_a_detector_that_always_abstains_is_broken(tmp_path):
    report = run(deployment(abstains=True), tmp_path, Scripted(behind=0.0))
    assert report.findings[0].status is Status.BROKEN
    assert "refuses benign" in " ".join(report.findings[0].reasons)
    assert report.clean.site.false_refusal.value == 1
    assert report.clean.site.accuracy.guarded.value == 0
    assert report.clean.site.accuracy.undefended.value == 1


def test_what_each_calibration_notices_is_in_the_report_those_of_sites_too(bundle, tmp_path):
    few = Profile.fit(Linear(), rows(120, 1).inputs, risk=0.01)
    powers = {
        "": measure_power(Linear(), bundle.profile, bundle.policy, rows(50, 1).inputs),
        "clinic": measure_power(Linear(), few, bundle.policy, rows(50, 1).inputs),
        "old": None,
    }
    report = run(replace(bundle, sites={"clinic": few}, power_by_site=powers), tmp_path, Scripted())
    assert report.power == {site: power for site, power in powers.items() if power is not None}
    assert Report.load(tmp_path / "report.json") == report
    assert report.notes[0].startswith("site 'clinic': the screen is idle: 120 calibration rows")
    page = html.unescape((tmp_path / "report.html").read_text())
    own, of_site = page.index("The bundle's own calibration"), page.index("Site clinic")
    for site, start, end in (("", own, of_site), ("clinic", of_site, len(page))):
        assert all(f"{said}." in page[start:end] for said in power_words(powers[site]))
    without = run(bundle, tmp_path / "without", Scripted())
    assert without.power == {}
    assert "What the guard notices" not in (tmp_path / "without" / "report.html").read_text()


def test_a_screen_that_refuses_nothing_is_said_and_is_no_good_news(bundle, tmp_path):
    few = Profile.fit(Linear(), rows(120, 1).inputs, risk=0.01)
    report = run(replace(bundle, profile=few), tmp_path, Scripted())
    note = report.notes[0]
    assert note.startswith("the screen is idle: 120 calibration rows leave 72 for comparison")
    assert note in (tmp_path / "report.html").read_text()
    ample = run(bundle, tmp_path / "ample", Scripted()).notes
    assert not any("idle" in each for each in ample)
    assert [each.split(";")[0] for each in ample] == [
        f'too few rows labelled "{name}" to hold evasion to 20%: 137 needed, {given} given'
        for name, given in (("benign", 94), ("malignant", 106))
    ]


def test_a_guard_that_tires_of_honest_users_shows_it(tmp_path):
    """A monitor that alarms on benign accounts is a clean cost, not a success."""
    shifted = {**SPLITS, "holdout": Split(SPLITS["holdout"].inputs * 3, SPLITS["holdout"].labels)}
    report = run(deployment(), tmp_path, Scripted(behind=0.0), splits=shifted)
    assert report.findings[0].status is Status.BROKEN
    assert report.clean.site.levels["withheld"] > 0.5
    assert report.clean.site.accounts.low > 0.8
    assert "turns on benign accounts" in " ".join(report.findings[0].reasons)
    assert report.clean.drift.accounts.value < 0.2
    assert report.clean.drift.levels["withheld"] < 0.1


def test_membership_without_the_rows_for_it_is_inconclusive(bundle, tmp_path):
    report = run(bundle, tmp_path, Scripted(family="membership"), splits={"test": SPLITS["test"]})
    assert report.findings[0].status is Status.INCONCLUSIVE
    assert report.findings[0].reasons[0].startswith("not tested: ")
    assert '"train"' in report.findings[0].reasons[0]
    assert report.exit_code == 2
    assert "not tested" in (tmp_path / "report.html").read_text()
    assert report.clean.drift is None


class Failing(Scripted):
    def run(self, target, data, *, seed):
        if target._profile is None:
            return super().run(target, data, seed=seed)
        raise MedwardError("the guard answered nothing")


class OnNoRow(Scripted):
    def run(self, target, data, *, seed):
        return AttackResult(outcome=np.zeros(0, bool))


def test_an_attack_that_cannot_run_is_inconclusive_not_a_crash(bundle, tmp_path):
    report = run(bundle, tmp_path, Failing(), OnNoRow(name="empty"))
    assert [finding.status for finding in report.findings] == [Status.INCONCLUSIVE] * 2
    assert "the guard answered nothing" in " ".join(report.findings[0].reasons)
    assert "no row" in report.findings[1].reasons[0]


@dataclass(frozen=True, kw_only=True)
class Emptying(Scripted):
    """It fools every row decided malignant and none decided benign, within one radius of two; behind the guard so many.

    Rows are drawn so that malignant ones are few.
    """

    through: int = 0

    def run(self, target, data, *, seed):
        ill = np.flatnonzero(data.reference == 1)[:40]
        rows = np.sort(np.r_[ill, np.flatnonzero(data.reference == 0)[:80]])
        decided = data.reference[rows]
        fooled = decided == 1
        if target._profile is not None:
            fooled = np.isin(rows, ill[: self.through])
        none = np.zeros(len(rows), bool)
        tries = tuple(
            Attempt(radius=radius, fooled=each, noisy=none, decided=decided)
            for radius, each in ((0.1, fooled), (0.5, none))
        )
        return AttackResult(outcome=fooled, baseline=none, attempts=tries)


@pytest.mark.parametrize(
    ("through", "status", "words"),
    [
        (0, Status.HELD, 'of class "malignant", which is emptied unguarded, at most'),
        (16, Status.TOO_FEW_ROWS, 'on class "malignant" alone'),
        (40, Status.BROKEN, 'every row of class "malignant" is decided otherwise'),
    ],
)
def test_an_attack_that_empties_a_rare_class_is_judged_on_that_class(bundle, tmp_path, through, status, words):
    policy = Policy(on_error="withhold", gate=GatePolicy(evasion_success=0.45))
    (finding,) = run(replace(bundle, policy=policy), tmp_path, Emptying(through=through)).findings
    assert finding.undefended.value == pytest.approx(1 / 3), "at its worst radius"
    assert finding.judged_adaptive.high < 0.45, "within the bound on all rows"
    assert finding.status is status, finding.reasons
    assert words in " ".join(finding.reasons)


@dataclass(frozen=True, kw_only=True)
class Numberless(Scripted):
    """Its second outcome, or baseline, is NaN; behind the guard only, unless `always`."""

    part: str = "outcome"
    always: bool = False

    def run(self, target, data, *, seed):
        result = super().run(target, data, seed=seed)
        if target._profile is None and not self.always:
            return result
        return replace(result, **{self.part: np.where(np.arange(len(data.test)) == 1, np.nan, 1.0)})


@pytest.mark.parametrize("family", ["evasion", "extraction"])
@pytest.mark.parametrize("part", ["outcome", "baseline"])
@pytest.mark.parametrize("always", [False, True])
def test_an_outcome_that_is_no_number_is_inconclusive(bundle, tmp_path, family, part, always):
    report = run(bundle, tmp_path, Numberless(family=family, part=part, always=always))
    finding = report.findings[0]
    assert finding.status is Status.INCONCLUSIVE
    assert finding.guarded is None
    assert "of the guarded run are not finite numbers" in " ".join(finding.flags)


def test_a_second_validation_runs_nothing_and_finds_the_same(bundle, tmp_path):
    attack = Scripted(counter=str(tmp_path / "count"))
    first = run(bundle, tmp_path / "out", attack)
    second = run(bundle, tmp_path / "out", attack)
    assert len((tmp_path / "count").read_text().splitlines()) == 3
    assert second.findings == first.findings
    run(bundle, tmp_path / "out", attack, seed=1)
    assert len((tmp_path / "count").read_text().splitlines()) == 6


def test_one_line_per_finished_run_where_there_is_no_terminal(bundle, tmp_path, capsys):
    run_validation(Deployment(bundle=bundle), SPLITS, tmp_path, attacks=[Scripted()], progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("ordinary behaviour: 0 of ")
    assert lines[2].startswith("scripted, undefended: 0.95")
    run_validation(Deployment(bundle=bundle), SPLITS, tmp_path, attacks=[Scripted()], progress=False)
    assert capsys.readouterr().err == ""


def test_a_fresh_account_per_row_leaves_only_the_screen(bundle):
    strange = np.full((60, 6), 8, np.float32) + np.arange(60, dtype=np.float32)[:, None] / 100
    benign = rows(40, 9).inputs
    thief, visitors = (
        guarded_oracle(bundle.guard(store=MemoryStore(), ephemeral=True), fresh=fresh) for fresh in (False, True)
    )
    assert (thief(strange).labels == -1).all()
    assert (visitors(strange).labels == -1).all()
    assert (thief(benign).labels == -1).all(), "the thief's account is closed"
    assert (visitors(benign).labels >= 0).mean() > 0.9
    np.testing.assert_array_equal(visitors(benign[:5]).scores.shape, (5, 2))


def candidates(bundle, splits):
    return Membership().holdings(Deployment(bundle=bundle), share_rows(bundle.model, splits, seed=0))


def test_the_attackers_rows_never_meet_the_rows_it_is_judged_on(bundle):
    data = candidates(bundle, conform_splits(SPLITS, SPEC))
    parts = [data.members, data.nonmembers, data.shadow, data.test]
    seen = [{row.tobytes() for row in part.inputs} for part in parts]
    assert sum(map(len, seen)) == len(set().union(*seen)) == sum(map(len, parts))
    one = conform_splits({"data": SPLITS["test"]}, SPEC)
    assert isinstance(candidates(bundle, one), NotTested)
    alone = share_rows(bundle.model, one, seed=0).data
    assert not {row.tobytes() for row in alone.craft.inputs} & {row.tobytes() for row in alone.test.inputs}
    np.testing.assert_array_equal(alone.reference, bundle.model.predict(alone.test.inputs).scores.argmax(axis=1))


def test_no_patient_is_on_both_sides_of_a_cut(bundle):
    clinics = {name: Split(s.inputs, s.labels, np.arange(len(s)) // 4) for name, s in SPLITS.items()}
    data = candidates(bundle, conform_splits(clinics, SPEC))
    assert not set(data.nonmembers.patients) & set(data.shadow.patients)
    assert abs(len(data.nonmembers) - len(data.shadow)) <= 4
    alone = share_rows(bundle.model, conform_splits({"test": clinics["test"]}, SPEC), seed=0).data
    assert len(alone.craft) + len(alone.test) == len(clinics["test"])
    assert not set(alone.craft.patients) & set(alone.test.patients)
    one = {name: Split(s.inputs, s.labels, np.zeros(len(s), np.int64)) for name, s in SPLITS.items()}
    lone = {name: one[name] for name in ("train", "holdout")} | {"test": SPLITS["test"]}
    assert 'at least 20 patients in "train", got 1' in candidates(bundle, conform_splits(lone, SPEC)).reason
    with pytest.raises(MedwardError, match="several patients"):
        share_rows(bundle.model, conform_splits({"test": one["test"]}, SPEC), seed=0)


def test_named_labels_are_the_classes_they_name_in_every_split():
    names = np.array(SPEC.classes)
    last = SPLITS["test"].take(np.flatnonzero(SPLITS["test"].labels == len(names) - 1))
    splits = {**SPLITS, "test": last}
    named = {name: Split(s.inputs, names=names[s.labels], patients=s.patients) for name, s in splits.items()}
    for name, split in conform_splits(named, SPEC).items():
        np.testing.assert_array_equal(split.labels, splits[name].labels)
    turned = conform_splits(named, replace(SPEC, task=replace(SPEC.task, classes=SPEC.classes[::-1])))
    assert set(turned["test"].labels.tolist()) == {0}
    with pytest.raises(MedwardError, match="split test: labels must be names of the classes"):
        conform_splits({"test": Split(last.inputs, np.full(len(last), "benign?"))}, SPEC)


def test_benign_accounts_ask_rows_of_their_own_where_there_are_enough():
    many = np.array(account_visits(ACCOUNTS * QUERIES + 5, seed=0))
    assert many.shape == (ACCOUNTS, QUERIES)
    assert len(np.unique(many)) == many.size
    few = np.array(account_visits(30, seed=0))
    assert few.shape == (ACCOUNTS, 30)
    assert few.max() < 30
    assert len({tuple(rows) for rows in few.tolist()}) == ACCOUNTS


def test_a_monitor_that_turns_on_accounts_shows_though_no_single_row_is_refused(bundle):
    """Alarms are sticky, so rows of one account are not independent: what counts is the share of accounts."""
    policy = Policy(on_error="withhold", screen=ScreenPolicy(action="flag"))
    tired = replace(bundle, policy=policy)
    odd = Split(SPLITS["holdout"].inputs * 1.6, SPLITS["holdout"].labels)
    cost, curves = measure_clean_cost(
        tired.model, lambda: tired.guard(store=MemoryStore(), ephemeral=True), ("holdout", odd), None, seed=0
    )
    assert cost.site.false_refusal.value == 0
    assert cost.site.accounts.n == ACCOUNTS
    assert cost.site.accounts.low > 0.5
    assert len(curves["holdout"][0]) == QUERIES


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        ({"train": SPLITS["train"], "holdout": SPLITS["holdout"]}, 'needs a split "test"'),
        ({"test": rows(3, 0)}, "at least 10 rows"),
        ({"test": Split(np.zeros((20, 5), np.float32))}, "split test: .*shape"),
        ({"test": Split(rows(20, 0).inputs, np.full(20, 2))}, "labels must be 0 to 1, got 2 to 2"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_one_sentence(bundle, tmp_path, splits, sentence):
    with pytest.raises(MedwardError, match=sentence):
        run(bundle, tmp_path, Scripted(), splits=splits)


RATES: list[float | None] = []


class Recording(Scripted):
    def run(self, target, data, *, seed):
        RATES.append(self.rate)
        return super().run(target, data, seed=seed)


def test_the_attacker_who_knows_the_guard_is_told_the_policys_rate(tmp_path):
    policy = Policy(on_error="withhold", screen=ScreenPolicy(rate=0.03))
    run(deployment(policy=policy), tmp_path, Recording())
    assert RATES == [None, None, 0.03]


def copied(split, name, share=0.7):
    """SPLITS with so much of `name` copied from `split`."""
    rows, own = SPLITS[split], SPLITS[name]
    k = int(share * len(own))
    inputs = own.inputs.copy()
    inputs[:k] = rows.inputs[np.random.default_rng(0).integers(0, len(rows), k)]
    return {**SPLITS, name: Split(inputs, own.labels, own.patients)}


@pytest.mark.parametrize(
    ("name", "flagged"), [("holdout", {"evasion", "extraction", "membership"}), ("test", {"evasion", "extraction"})]
)
def test_a_split_that_copies_train_is_named_and_holds_nothing(bundle, tmp_path, name, flagged):
    attacks = [Scripted(name=family, family=family, behind=behind) for family, behind in HELD.items()]
    report = run(bundle, tmp_path, *attacks, Scripted(name="strong", behind=0.7), splits=copied("train", name))
    *held, strong = report.findings
    for finding in held:
        said = f'70% of the rows of "{name}" are copies of rows that are also in "train"' in " ".join(finding.reasons)
        assert said is (finding.family in flagged)
        assert finding.status is (Status.INCONCLUSIVE if said else Status.HELD)
    assert strong.status is Status.BROKEN


HELD = {"evasion": 0.0, "extraction": 0.08, "membership": -0.05}


def test_without_train_the_halves_of_test_are_compared(bundle, tmp_path):
    test = SPLITS["test"]
    twice = Split(np.repeat(test.inputs, 2, axis=0), np.repeat(test.labels, 2))
    attack = Scripted(name="good")
    assert run(bundle, tmp_path / "a", attack, splits={"test": test}).findings[0].flags == ()
    (flag,) = run(bundle, tmp_path / "b", attack, splits={"test": twice}).findings[0].flags
    assert "also in the half" in flag


@pytest.mark.parametrize(("names", "flagged"), [(("data",), True), (("train",), True), (("test",), False)])
def test_a_lone_split_that_may_have_trained_the_model_is_said_wherever_it_was_judged_on(
    bundle, tmp_path, caplog, capsys, names, flagged
):
    """A CSV without a column of splits: its rows may be those of the training."""
    rows = dict.fromkeys(names, SPLITS["test"])
    attacks = (Scripted(), Scripted(name="thief", family="extraction"), Scripted(name="lira", family="membership"))
    with caplog.at_level("WARNING", "medward.data"):
        report = run_validation(Deployment(bundle=bundle), rows, tmp_path, attacks=attacks, progress=False)
    print_findings(report, Console(width=200))
    said = f'there is no split "test": attacks are judged on "{names[0]}"'
    for finding in report.findings[:2]:
        assert any(flag.startswith(said) for flag in finding.flags) == flagged
        assert (finding.status is Status.HELD) <= (not flagged)
    assert report.findings[2].reasons[0].startswith("not tested: membership needs")
    assert (said in caplog.text) == (said in capsys.readouterr().out) == flagged
