"""What training changed: every attack on both bare models, one table, and a sentence where one became stronger."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.certificates import privacy_certificate
from validation_fakes import SPEC, SPLITS, WEIGHTS, Scripted, deployment

from medward.attacks.base import AttackData, AttackResult
from medward.attacks.families import find_family
from medward.attacks.intervals import auc_interval, clopper_pearson
from medward.attacks.report.table import print_findings
from medward.attacks.validation.deployment import PRIVACY, ROBUSTNESS, Deployment, ModelBefore
from medward.attacks.validation.family import Runs
from medward.attacks.validation.interaction import UNPAIRED, compare_models, unpaired_difference
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.guard.data.split import Split
from medward.guard.policy import GatePolicy
from medward.guard.types import Outputs

RNG = np.random.default_rng(0)
TRUTH = np.repeat([True, False], 150)
ROWS = 200


@dataclass(frozen=True)
class Shifted:
    """Another model that decides as the deployed one nearly always."""

    spec = SPEC

    def predict(self, inputs):
        return Outputs(inputs @ WEIGHTS + np.array([0.05, 0.0], np.float32))


@dataclass(frozen=True, kw_only=True)
class TellTale(Scripted):
    """As strong on the model before as `free`, on the bare deployed one as `after`."""

    after: float = 0.5

    def run(self, target, data, *, seed):
        power = self.after if target._network is DEPLOYED else self.free
        return Scripted.run(replace(self, free=power), target, data, seed=seed)


DEPLOYED, EARLIER = (torch.nn.Linear(6, 2).eval().requires_grad_(False) for _ in range(2))


def before(claim=ROBUSTNESS, **settings):
    return ModelBefore(model=Shifted(), digest="cd" * 32, network=EARLIER, claim=claim, **settings)


@pytest.fixture(scope="module")
def bundle():
    return deployment()


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 20)


def run(bundle, out, *attacks, model=None):
    known = Deployment(bundle=bundle, before=model, network=DEPLOYED)
    return run_validation(known, SPLITS, out, attacks=attacks, progress=False)


def leaky(power, seed=0):
    return AttackResult(outcome=np.random.default_rng(seed).normal(size=300) + power * TRUTH, truth=TRUTH)


def fooling(share, n=200):
    return AttackResult(outcome=np.arange(n) < share * n)


SAME = {
    "evasion": (fooling(0.5), fooling(0.5)),
    "extraction": (fooling(0.8), fooling(0.8)),
    "membership": (leaky(1.0), leaky(1.0)),
    "evasion, other rows": (fooling(0.5), fooling(0.5, 180)),
}
STRONGER = {
    "evasion": (fooling(0.2), fooling(0.6)),
    "membership": (leaky(0.2), leaky(2.0)),
    "evasion, other rows": (fooling(0.2), fooling(0.6, 180)),
}


@pytest.mark.parametrize("name", SAME)
def test_identical_models_show_no_difference(name):
    found = compare_models(find_family(name.split(",")[0]), name, *SAME[name], rows=ROWS, claimed=False, seed=0)
    assert found.difference.low <= 0 <= found.difference.high
    assert found.difference.value == pytest.approx(0, abs=1e-12)
    assert not found.stronger
    assert found.paired == ("other" not in name)


@pytest.mark.parametrize("name", STRONGER)
def test_an_attack_that_became_stronger_is_seen_and_one_that_became_weaker_is_not(name):
    family = find_family(name.split(",")[0])
    found = compare_models(family, name, *STRONGER[name], rows=ROWS, claimed=False, seed=0)
    assert found.stronger
    assert found.difference.value == pytest.approx(found.after.value - found.before.value)
    assert not compare_models(family, name, *reversed(STRONGER[name]), rows=ROWS, claimed=False, seed=0).stronger


def test_a_run_that_could_not_be_done_has_no_difference():
    failed = AttackResult(outcome=np.zeros(0, bool), flags=("it could not be done",))
    found = compare_models(find_family("evasion"), "pgd", failed, fooling(0.5), rows=ROWS, claimed=True, seed=0)
    assert (found.before, found.difference, found.paired, found.stronger) == (None, None, False, False)
    assert found.flags == ("it could not be done",)


def test_as_many_rows_that_may_be_others_are_not_paired_and_it_is_said():
    """A targeted attack leaves out the rows that each model decides so already."""
    runs = fooling(0.5, 120), fooling(0.6, 120)
    found = compare_models(find_family("evasion"), "uap-targeted", *runs, rows=ROWS, claimed=False, seed=0)
    assert not found.paired
    assert found.flags == (UNPAIRED,)
    assert found.difference == unpaired_difference(found.after, found.before)
    every = compare_models(find_family("evasion"), "pgd", *runs, rows=120, claimed=False, seed=0)
    assert every.paired
    assert every.flags == ()


def test_pairs_are_sharper_than_two_intervals():
    quiet = replace(leaky(1.0), outcome=leaky(1.0).outcome + 0.3 * RNG.normal(size=300))
    paired = compare_models(
        find_family("membership"), "loss", leaky(1.0), quiet, rows=ROWS, claimed=True, seed=0
    ).difference
    loose = unpaired_difference(*(auc_interval(each.outcome, TRUTH, seed=0) for each in (quiet, leaky(1.0))))
    assert paired.high - paired.low < loose.high - loose.low


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_loose_difference_holds_its_value_and_turns_with_its_sides(a, b):
    first, second = clopper_pearson(a, 60), clopper_pearson(b, 60)
    found, turned = unpaired_difference(first, second), unpaired_difference(second, first)
    assert found.low <= found.value <= found.high
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_a_loose_difference_covers_the_truth():
    rng = np.random.default_rng(1)
    draws = rng.binomial(80, [0.3, 0.6], size=(400, 2))
    found = [unpaired_difference(clopper_pearson(int(b), 80), clopper_pearson(int(a), 80)) for a, b in draws]
    assert np.mean([each.low <= 0.3 <= each.high for each in found]) >= 0.95


@pytest.mark.parametrize("claim", [ROBUSTNESS, PRIVACY])
def test_the_claim_says_whose_undefended_run_is_on_the_model_before(bundle, tmp_path, claim):
    attacks = (
        TellTale(name="fool"),
        TellTale(name="guess", family="membership"),
        TellTale(name="steal", family="extraction"),
    )
    report = run(bundle, tmp_path, *attacks, model=before(claim))
    claimed = "evasion" if claim == ROBUSTNESS else "membership"
    for finding in report.findings:
        on_before = "The undefended run is on the model as it was before hardening." in finding.reasons
        assert on_before == (finding.family == claimed)
    rows = {found.family: found for found in report.interactions}
    assert set(rows) == {"evasion", "membership", "extraction"}
    for family, found in rows.items():
        finding = next(each for each in report.findings if each.family == family)
        assert found.claimed == (family == claimed)
        assert finding.undefended == (found.before if found.claimed else found.after)
        assert found.before.value > found.after.value
    assert Report.load(tmp_path / "report.json").interactions == report.interactions


def test_what_became_stronger_is_said_on_page_and_terminal(bundle, tmp_path, capsys):
    attacks = (
        TellTale(name="fool", free=0.9, after=0.2),
        TellTale(name="guess", family="membership", free=0.1, after=0.9),
    )
    report = run(bundle, tmp_path, *attacks, model=before())
    print_findings(report, Console(width=200))
    told, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for text in (told, page):
        assert "Training for robustness made guess stronger: AUC " in text
        assert "made fool stronger" not in text
        assert "-70.0 points" in text
    assert "What training changed" in page
    alone = run(bundle, tmp_path / "alone", *attacks)
    assert alone.interactions == ()
    assert "What training changed" not in (tmp_path / "alone" / "report.html").read_text()


@dataclass(frozen=True)
class Stranger(Shifted):
    """A model that decides everything the other way round."""

    def predict(self, inputs):
        return Outputs(-(inputs @ WEIGHTS))


@pytest.mark.parametrize(
    ("claim", "certified", "doubted"), [(PRIVACY, True, False), (PRIVACY, False, True), (ROBUSTNESS, True, True)]
)
def test_noise_may_cost_decisions_where_the_certificate_names_the_model_before(
    bundle, tmp_path, monkeypatch, claim, certified, doubted
):
    monkeypatch.setattr("medward.attacks.validation.run.save_report", lambda *_: None)
    attack = Scripted(name="guess", family="membership" if claim == PRIVACY else "evasion")
    model = replace(before(claim, certified=certified), model=Stranger())
    flags = run(bundle, tmp_path, attack, model=model).findings[0].flags
    assert any("not the model before" in each for each in flags) == doubted


def test_certified_privacy_is_held_to_its_ceiling_on_the_deployed_model_and_not_on_the_one_before():
    truth, rng = np.repeat([True, False], 1000), np.random.default_rng(3)
    none, strong = (AttackResult(outcome=rng.normal(size=2000) + power * truth, truth=truth) for power in (0, 4))
    rows = rng.normal(size=(2000, 6)).astype(np.float32)
    held = AttackData(craft=Split(rows), test=Split(rows), members=Split(rows[truth]), nonmembers=Split(rows[~truth]))
    arms = {"undefended": strong, "guarded": none, "adaptive": none}
    strict = privacy_certificate(unit="row", noise_multiplier=4.0, steps=50)
    runs = Runs(attack=Scripted(), results=arms, spec=SPEC, seed=0, held=held, privacy=strict)
    family, limit = find_family("membership"), GatePolicy().membership_auc
    assert not family.judge(replace(runs, bare=none)).passing(limit)
    (told,) = family.judge(replace(runs, bare=strong)).passing(limit)
    assert "names more members than its certified privacy allows" in told
