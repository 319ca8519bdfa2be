"""Evasion of models that answer something else than a class: findings, a number, outputs only their user can read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.searches import searching
from support.task_models import column_model, mask_model, table

from medward.attacks.base import Access, AttackData
from medward.attacks.evasion import (
    APGD,
    FGSM,
    PGD,
    HillClimb,
    HopSkipJump,
    IterativeFGSM,
    Square,
    Standard,
    UniversalPerturbation,
)
from medward.attacks.evasion.setup import NO_ROWS
from medward.attacks.evasion.success import criterion_of
from medward.attacks.target import Response, guarded_oracle
from medward.attacks.whitebox.network import Detector, as_attacker_sees
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.tasks.base import ReleaseSettings
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import unpacked_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.types import Level
from medward.integrations.contracts import attack as contract

FINDINGS = contract.FINDINGS
RADIUS = 0.5


def area(outputs):
    """A user's reading of a mask: whether half of its pixels are positive."""
    return ((outputs > 0).reshape(len(outputs), -1).sum(axis=1) >= 2).astype(np.int64)


@pytest.fixture(scope="module")
def findings():
    return contract.evaded_model("findings")


@pytest.fixture(scope="module")
def chances():
    return contract.evaded_model("chances")


@pytest.fixture(scope="module")
def number():
    return contract.evaded_model("number")


@pytest.fixture(scope="module")
def cut():
    return contract.evaded_model("cut")


@pytest.fixture(scope="module")
def mask():
    return mask_model(Opaque(what="mask"))


def run(attack, model, **parts):
    decide = attack.decide
    return attack.run(model.target(attack.threat, decide=decide, **parts), model.data(decide), seed=0)


QUICK = {
    "pgd": PGD(epsilon=RADIUS, steps=10, restarts=1),
    "uap": UniversalPerturbation(epsilon=RADIUS, epochs=6),
    "apgd": APGD(epsilon=RADIUS, steps=15),
    "standard": Standard(epsilon=RADIUS, steps=10, restarts=1, queries=50),
    "fgsm": FGSM(epsilon=RADIUS),
    "ifgsm": IterativeFGSM(epsilon=RADIUS, passes=2),
    "square": Square(epsilon=RADIUS, queries=150, rows=60),
    "hopskipjump": HopSkipJump(epsilon=RADIUS, queries=300, rows=60),
    "hill-climb": HillClimb(epsilon=RADIUS, queries=4000),
}


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("model", contract.EVADED)
def test_every_attack_beats_noise_on_every_task(name, model):
    contract.check_attack_declared(QUICK[name])
    contract.check_attack_beats_noise(QUICK[name], model)


def test_the_contract_of_an_attack_holds_it_to_its_seed_and_finds_one_that_is_no_better_than_noise():
    contract.check_attack(QUICK["uap"], ["number"])
    with pytest.raises(MedwardError, match=r"'pgd' fools \d+% of rows of the model of number, and noise"):
        contract.check_attack(replace(QUICK["pgd"], epsilon=1e-4), ["number"])


@pytest.mark.parametrize("name", ["pgd", "uap", "apgd", "hopskipjump", "square"])
def test_outputs_that_only_their_user_can_read_are_moved_until_his_decision_changes(mask, name):
    result = run(replace(QUICK[name], decide=area), mask)
    assert result.outcome.mean() > result.baseline.mean() + (0.0 if name == "uap" else 0.1)


@pytest.mark.parametrize("attack", [QUICK["pgd"], QUICK["uap"], QUICK["square"]], ids=lambda attack: attack.name)
@pytest.mark.parametrize("aim", ["hide", "raise"])
def test_hiding_hides_and_raising_raises_on_rows_where_that_can_be(findings, attack, aim):
    aimed = replace(attack, aim=aim)
    result = run(aimed, findings)
    assert aimed.name == f"{attack.name}-{aim}"
    assert result.outcome.mean() > result.baseline.mean() + 0.05
    clean = unpacked_findings(result.attempts[0].decided, 3)
    assert (clean if aim == "hide" else ~clean).any(axis=1).all(), "rows with nothing to win on are left out"
    data = findings.data()
    there = unpacked_findings(data.reference, 3)
    rows = there.any(axis=1) if aim == "hide" else ~there.all(axis=1)
    assert len(result.outcome) == min(rows.sum(), len(result.outcome))


def changed(model, aim, steps=20):
    """What PGD with an aim makes of the test rows: findings before and after, as the model itself decides them."""
    data, criterion = model.data(), criterion_of(model.spec, aim)
    attack = PGD(epsilon=RADIUS, steps=steps, restarts=1, aim=aim)
    x = torch.as_tensor(data.test.inputs)
    search = replace(
        searching(as_attacker_sees(model.network, model.spec), attack.ball(model.target(attack.threat), data)),
        criterion=criterion,
    )
    y = search.decided(x)
    rows = criterion.open(y)
    after = attack.search(search, x[rows], y[rows])
    decided = model.spec.decide(model.predict(after.adversarial.numpy()).scores)
    return unpacked_findings(y[rows].numpy(), 3), unpacked_findings(decided, 3), after.won.numpy()


@pytest.mark.parametrize("model", ["findings", "chances"])
def test_what_won_really_lost_or_gained_a_finding(request, model):
    for aim in ("hide", "raise"):
        before, after, won = changed(request.getfixturevalue(model), aim)
        moved = (before & ~after if aim == "hide" else ~before & after).any(axis=1)
        assert np.array_equal(moved, won)
        assert won.mean() > 0.3


def test_a_finding_hidden_at_two_percent_was_never_the_less_likely_answer(findings):
    """The published effect: hiding a finding at an operating point changes no answer read at one half."""
    inputs = table(1000, 5)
    data = AttackData(craft=Split(inputs), test=Split(inputs))
    only = replace(FINDINGS, thresholds=(0.02, 0.999, 0.999))
    model = replace(findings, spec=replace(findings.spec, task=only))
    x = torch.as_tensor(data.test.inputs)
    rare = findings.predict(data.test.inputs).scores[:, 0] < 0  # found at 2 %, not at one half
    search = replace(
        searching(
            as_attacker_sees(model.network, model.spec), PGD(epsilon=1.0).ball(model.target(QUICK["pgd"].threat), data)
        ),
        criterion=criterion_of(model.spec, "hide"),
    )
    y = search.decided(x)
    rows = (y == 1) & torch.as_tensor(rare)
    assert rows.sum() > 10
    hidden = PGD(epsilon=1.0, steps=20, aim="hide").search(search, x[rows], y[rows])
    after = findings.predict(hidden.adversarial.numpy()).scores[:, 0]
    assert hidden.won.float().mean() > 0.8
    assert (after < 0).all(), "at one half nothing was found before, and nothing is now"


def test_without_gradients_a_surrogate_of_the_task_is_learned(findings, number, mask):
    for model, decide in ((findings, None), (number, None), (mask, area)):
        attack = replace(QUICK["pgd"], access=Access.SCORES, decide=decide)
        result = run(attack, model, white=False)
        assert result.outcome.mean() > result.baseline.mean() + 0.05
        assert result.gradients > 0


def released(model, level):
    """A guard's release alone: answers at one level."""
    task = model.spec.task

    def ask(inputs):
        scores = model.predict(inputs).scores
        output = model.spec.output if level is Level.FULL or task.output == "values" else "probabilities"
        return Response(task.decide(scores), task.release(scores, level, ReleaseSettings()), output)

    return ask


@pytest.mark.parametrize("level", [Level.ROUNDED, Level.LABEL])
@pytest.mark.parametrize("model", ["findings", "number", "cut"])
def test_coarser_answers_are_judged_by_what_they_say(request, model, level):
    model = request.getfixturevalue(model)
    full, coarse = (run(QUICK["pgd"], model, oracle=released(model, each)) for each in (Level.FULL, level))
    assert coarse.outcome.mean() > coarse.baseline.mean()
    assert abs(coarse.outcome.mean() - full.outcome.mean()) < 0.25


def test_withheld_answers_never_count_and_are_filled_in_by_the_network(findings, number):
    for model in (findings, number):

        def silent(inputs, model=model):
            scores = model.predict(inputs).scores
            return Response(np.full(len(inputs), -1), np.full_like(scores, np.nan), model.spec.output)

        result = run(QUICK["pgd"], model, oracle=silent)
        assert not result.outcome.any()
        assert any("always abstains" in flag for flag in result.flags)


def test_rows_of_which_nothing_is_known_are_left_out(findings, number):
    for model in (findings, number):

        def silent(inputs, model=model):
            scores = model.predict(inputs).scores
            return Response(np.full(len(inputs), -1), np.full_like(scores, np.nan), model.spec.output)

        bare = replace(model.data(), reference=None, outputs=None)
        for attack in (QUICK["square"], QUICK["hill-climb"]):
            result = attack.run(model.target(attack.threat, oracle=silent), bare, seed=0)
            assert result.flags == (NO_ROWS,)


def test_honest_networks_of_every_task_are_not_accused(findings, number, mask):
    for model, attack in (
        (findings, PGD(epsilon=RADIUS)),
        (findings, PGD(epsilon=RADIUS, aim="hide")),
        (number, PGD(epsilon=RADIUS)),
    ):
        assert run(attack, model).flags == ()
    assert not any("gradients" in flag for flag in run(PGD(epsilon=RADIUS, decide=area), mask).flags)


def test_a_dead_gradient_is_named_on_every_task(findings, number):
    for model in (findings, number):
        dead = replace(model, network=Stepped(model.network))
        flags = run(QUICK["pgd"], dead).flags
        assert any("masked gradients" in flag for flag in flags), flags


class Stepped(torch.nn.Module):
    """Inputs rounded to halves, which kills the gradient."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(torch.round(x * 2) / 2)


@pytest.mark.parametrize(
    "task",
    [
        Classification(classes=("a", "b"), output="logits", one_column=True),
        Classification(classes=("a", "b"), output="probabilities", threshold=0.1, one_column=True),
    ],
)
def test_a_model_of_one_column_is_attacked_as_one_of_two_classes(task):
    result = run(QUICK["pgd"], column_model(task))
    assert result.outcome.mean() > result.baseline.mean() + 0.2
    assert set(result.attempts[0].decided) == {0, 1}


def test_what_makes_no_sense_is_refused_in_a_sentence(findings, number, mask):
    for attack, model, message in (
        (replace(QUICK["pgd"], aim="hide"), number, "aim: 'hide' is for models of several findings"),
        (QUICK["pgd"], mask, "give --decide package:function"),
        (UniversalPerturbation(epsilon=1.0, target_class="worst"), findings, "target_class: is for models of classes"),
    ):
        with pytest.raises(MedwardError, match=message):
            run(attack, model)


@pytest.mark.parametrize("model", ["findings", "cut", "mask"])
def test_an_attacker_who_knows_the_screens_follows_them_whatever_the_task(request, model):
    model = request.getfixturevalue(model)
    decide = area if model.spec.task.kind == "opaque" else None
    policy = Policy.model_validate({"on_error": "withhold", "release": {"level": "full"}})
    profile = Profile.fit(model, table(1500, 21), risk=0.01)
    guard = Guard(model=model, profile=profile, policy=policy)
    oracle = guarded_oracle(guard, fresh=True, decide=decide)
    knowing = replace(QUICK["pgd"], decide=decide).adaptive(policy)
    result = run(knowing, model, oracle=oracle, profile=profile)
    assert not any("could not use the screens" in flag or "leads nowhere" in flag for flag in result.flags)
    assert result.outcome.mean() > 0.1


def test_screens_before_a_model_without_groups_see_no_number(number):
    profile = Profile.fit(number, table(1500, 21), risk=0.01)
    x = torch.as_tensor(table(50, 22))
    detector = Detector.at(profile, 0.01, number.spec)
    seen = detector.strangeness(x, as_attacker_sees(number.network, number.spec)(x), None)
    own = profile.strangeness(x.numpy(), number.spec.judged(number.predict(x.numpy())))
    np.testing.assert_allclose(seen.numpy(), own, rtol=1e-3, atol=1e-4)
