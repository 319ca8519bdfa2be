"""Evasion is judged at its worst radius: a screen may see the largest change and miss a smaller one."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support.planted import Faulty

from medward.attacks.evasion import PGD, HillClimb, Square, UniversalPerturbation, memory
from medward.attacks.evasion.asking import AskedRows
from medward.attacks.evasion.family import Evasion
from medward.attacks.evasion.fooled_share import larger_share, refused_share
from medward.attacks.evasion.perturbation import NOISE_DRAWS, Universal, strongest_noise
from medward.attacks.evasion.radii import search_radii
from medward.attacks.evasion.setup import FACTORS, EvasionSetup
from medward.attacks.evasion.uap import refine_universal
from medward.attacks.target import Response
from medward.attacks.whitebox.ascent import Ascent
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import ClassChange
from medward.attacks.whitebox.search import Search

EPSILON = 0.5
UAP = UniversalPerturbation(epsilon=EPSILON, epochs=4, restarts=1)
ATTACKS = (
    UAP,
    replace(UAP, target_class="worst", epochs=2),
    HillClimb(epsilon=EPSILON, queries=6000, batch=40),
    PGD(epsilon=EPSILON, steps=6, restarts=1),
    Square(epsilon=EPSILON, queries=60, rows=40),
)


@dataclass
class Tripwire:
    """An oracle that withholds every row which lies farther than `most` from all rows it knows, and counts rows."""

    model: object
    known: np.ndarray
    most: float
    asked: int = 0

    def __call__(self, inputs):
        self.asked += len(inputs)
        far = np.abs(inputs.reshape(len(inputs), 1, -1) - self.known).max(axis=2).min(axis=1)
        scores, seen = self.model.predict(inputs).scores, far > self.most
        labels = np.where(seen, -1, scores.argmax(axis=1))
        return Response(labels, np.where(seen[:, None], np.nan, scores), "logits")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    monkeypatch.setattr(EvasionSetup, "flags", lambda *_, **__: ())


@pytest.fixture(scope="module")
def few(attack_data):
    return replace(attack_data, craft=attack_data.craft.take(slice(0, 150)), test=attack_data.test.take(slice(0, 100)))


def run(attack, deployed, data, most=np.inf, **parts):
    known = np.concatenate([data.craft.inputs, data.test.inputs]).reshape(-1, 64)
    oracle = Tripwire(deployed, known, most)
    return attack.run(deployed.target(attack.threat, oracle=oracle, **parts), data, seed=0), oracle


def judged_shares(result, part="fooled"):
    return [larger_share(getattr(each, part), each.classes) for each in result.attempts]


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_guard_that_sees_only_large_changes_is_passed_by_smaller_ones(plain, few, attack, monkeypatch):
    result, oracle = run(attack, plain, few, most=0.7 * EPSILON)
    assert Evasion().achieved(result, 0).value == max(judged_shares(result)) > 0.2
    assert any(np.array_equal(each.fooled, result.outcome) for each in result.attempts)
    assert result.queries == oracle.asked
    monkeypatch.setattr("medward.attacks.evasion.setup.FACTORS", (1.0,))
    assert run(attack, plain, few, most=0.7 * EPSILON)[0].outcome.mean() < 0.05, "the largest change alone says HELD"


@pytest.mark.parametrize("attack", [UAP, PGD(epsilon=EPSILON, steps=6, restarts=1)], ids=lambda attack: attack.name)
@pytest.mark.parametrize("most", [np.inf, 0.7 * EPSILON])
def test_the_curves_are_the_judged_runs(plain, few, attack, most):
    result, _ = run(attack, plain, few, most)
    radii, shares = result.curves[attack.name]
    assert radii == pytest.approx([0.0, *(factor * EPSILON for factor in FACTORS)])
    assert shares[0] == 0
    assert Evasion().achieved(result, 0).value == max(shares)
    assert shares == sorted(shares), "who may go farther need not"
    if attack is UAP:
        assert [each.radius for each in result.attempts] == radii[1:]
        best = np.maximum.accumulate(judged_shares(result))
        assert best.tolist() == shares[1:]
        noise = np.maximum.accumulate(judged_shares(result, "noisy"))
        assert noise.tolist() == result.curves["random signs"][1][1:]
    else:
        (attempt,) = result.attempts
        assert attempt.fooled.mean() <= shares[-1] == judged_shares(result)[0]
        assert judged_shares(result, "noisy")[0] == result.curves["random signs"][1][-1]


def test_each_radius_has_a_perturbation_of_its_own(plain, few, monkeypatch):
    """A vector of full size turned down is no attack on a smaller radius; one refined from it is, as if anew."""
    result, _ = run(UAP, plain, few)
    factor = FACTORS[1]
    monkeypatch.setattr("medward.attacks.evasion.setup.FACTORS", (1.0,))
    there = run(replace(UAP, epsilon=factor * EPSILON), plain, few)[0].outcome
    full = run(UAP, plain, few)[0].images["perturbation"]
    x = few.test.inputs
    clean, scaled = (
        plain.predict(each).scores.argmax(axis=1) for each in (x, np.clip(x + factor * full, 0, 1).astype(np.float32))
    )
    refined, turned_down = result.attempts[1].fooled, scaled != clean
    assert refined.mean() >= max(there.mean(), turned_down.mean())
    assert not np.array_equal(refined, turned_down)


class TwoLosses(ClassChange):
    """Any other class, by two losses of which one leads nowhere."""

    useless = 0

    @property
    def shared_losses(self):
        losses = [ClassChange().shared_losses[0]] * 2
        losses[self.useless] = lambda scores, y: scores.sum(dim=1) * 0
        return tuple(losses)


@pytest.mark.parametrize("useless", [0, 1])
def test_refining_tries_every_loss(plain, few, monkeypatch, useless):
    monkeypatch.setattr(TwoLosses, "useless", useless)
    x, network = torch.as_tensor(few.craft.inputs), plain.network
    ball = Ball.of(plain.spec, few.craft.inputs, EPSILON)
    search = Search(network, TwoLosses(), ball, torch.Generator().manual_seed(0))
    y = search.decided(x)
    nothing = Universal(torch.zeros_like(x[:1]), 0.0, [], 0)
    assert refine_universal(search, x, y, nothing, epochs=8, batch=50).success > 0.5


def test_the_perturbation_that_is_shown_is_the_one_that_fooled_most(plain, few):
    result, _ = run(UAP, plain, few, most=0.7 * EPSILON)
    assert np.abs(result.images["perturbation"]).max() == pytest.approx(0.6 * EPSILON, rel=1e-4)
    x = few.test.inputs
    clean, moved = (
        plain.predict(each).scores.argmax(axis=1) for each in (x, np.clip(x + result.images["perturbation"], 0, 1))
    )
    assert np.array_equal(result.outcome, moved != clean)


def test_a_row_that_fell_is_not_asked_about_again(plain, few):
    attack = PGD(epsilon=EPSILON, steps=6, restarts=1)
    result, oracle = run(attack, plain, few)
    assert result.outcome.mean() > 0.9
    assert oracle.asked < len(few.test) * (2 + 2 * len(FACTORS) - 2)


def test_every_attempt_says_what_its_rows_were_decided_as(plain, few):
    clean = plain.predict(few.test.inputs).scores.argmax(axis=1)
    result, _ = run(UAP, plain, few)
    assert all(np.array_equal(each.decided, clean) for each in result.attempts)
    aimed, _ = run(replace(UAP, target_class=3, epochs=1), plain, few)
    assert all((each.decided != 3).all() and len(each.fooled) == len(each.decided) for each in aimed.attempts)


def test_a_search_that_has_not_converged_at_some_radius_is_flagged(plain, few, monkeypatch):
    slow = replace(UAP, epochs=4)
    refine = UniversalPerturbation.refine

    def rising(self, search, *rest):
        found = refine(self, search, *rest)
        size = float(search.ball.radius.max()) / EPSILON
        return replace(found, history=[0.1, 0.2, 0.3, 0.4]) if abs(size - 0.6) < 0.01 else found

    assert not any("not converged" in flag for flag in run(slow, plain, few)[0].flags)
    monkeypatch.setattr(UniversalPerturbation, "refine", rising)
    memory._kept.clear()
    assert any("not converged" in flag for flag in run(slow, plain, few)[0].flags)


def test_a_gradient_killer_is_not_made_strong_by_more_tries(plain, few):
    killed = replace(plain, network=Faulty(plain.network.body, backward="zero"))
    result, _ = run(replace(UAP, epsilon=0.1), killed, few)
    assert not result.outcome.any()


class Parting:
    """An oracle that withholds known rows if changed: of every other a change above a radius, of the rest one below.

    So no radius serves all rows; rows that it does not know it answers.
    """

    def __init__(self, model, known, radius):
        self.model, self.known, self.radius = model, known, radius

    def __call__(self, inputs):
        far = np.abs(inputs.reshape(len(inputs), 1, -1) - self.known).max(axis=2)
        nearest, size = far.argmin(axis=1), far.min(axis=1)
        changed = (size > 1e-6) & (size < 1.01 * EPSILON)
        seen = changed & np.where(nearest % 2 == 0, size > self.radius, size < self.radius)
        scores = self.model.predict(inputs).scores
        return Response(np.where(seen, -1, scores.argmax(axis=1)), np.where(seen[:, None], np.nan, scores), "logits")


KNOWING = {
    "gradients": replace(UAP, rate=0.01),
    "gradients, a class": replace(UAP, target_class=3, rate=0.01),
    "answers": HillClimb(epsilon=EPSILON, queries=6000, batch=40, per_row=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWING)
def test_who_knows_the_guard_takes_the_radius_row_by_row(plain, few, name):
    attack = KNOWING[name]
    known = few.test.inputs.reshape(-1, 64)
    blind = replace(attack, per_row=False) if name == "answers" else replace(attack, rate=None)

    def achieved(attack):
        oracle = Parting(plain, known, 0.7 * EPSILON)
        result = attack.run(plain.target(attack.threat, oracle=oracle), few, seed=0)
        assert Evasion().achieved(result, 0).value == max(judged_shares(result)) == result.curves[attack.name][1][-1]
        return result

    knowing, one = achieved(attack), achieved(blind)
    (attempt,) = knowing.attempts
    assert np.array_equal(attempt.fooled, np.logical_or.reduce([each.fooled for each in one.attempts]))
    assert np.array_equal(attempt.noisy, np.logical_or.reduce([each.noisy for each in one.attempts]))
    assert attempt.fooled.mean() > max(each.fooled.mean() for each in one.attempts) + 0.1


@pytest.mark.slow
def test_perturbations_towards_different_classes_are_not_mixed(plain, few):
    attack = replace(UAP, target_class="worst", epochs=1, rate=0.01)
    result, _ = run(attack, plain, few)
    one, _ = run(replace(attack, rate=None), plain, few)
    goals = {tuple(each.decided) for each in one.attempts}
    assert len(result.attempts) == len(goals) <= len(one.attempts)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [each for each in ATTACKS if not isinstance(each, HillClimb)], ids=lambda a: a.name)
def test_rows_that_are_refused_under_attack_are_counted(plain, few, attack):
    result, _ = run(attack, plain, few, most=0.0)
    assert refused_share(result.attempts).value > 0.9
    assert not result.outcome.any()
    free, _ = run(attack, plain, few)
    assert refused_share(free.attempts).value == 0


def test_noise_for_all_rows_is_the_strongest_of_several_draws():
    ball, drawn = Ball(torch.full((1,), 1.0)), []

    def asked(draw):
        drawn.append(draw)
        fooled = np.arange(10) < (7 if len(drawn) == 2 else 1)
        return AskedRows(fooled, ~fooled, np.zeros(10, bool), fooled)

    noise, fooled = strongest_noise(ball, (3,), torch.Generator().manual_seed(0), asked, None)
    assert len(drawn) == NOISE_DRAWS > 1
    assert noise is drawn[1]
    assert fooled.sum() == 7


@dataclass
class Seesaw:
    """A model whose rows fall above their own least radius, as a search within a ball finds it; searched rows count."""

    least: torch.Tensor
    searched: int = 0

    def __call__(self, ball, rows):
        self.searched += len(rows)
        won = self.least[rows] <= float(ball.radius.max())
        return Ascent(torch.zeros(len(rows), 1), won, won.float())


def test_smaller_radii_are_searched_where_rows_fell_and_on_the_first_ones():
    least = torch.linspace(0.05, 1.5, 300)[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    balls = [(factor, Ball(torch.tensor(factor))) for factor in FACTORS]
    every, some = Seesaw(least), Seesaw(least)
    full = search_radii(balls, torch.arange(300), every, 20, True)
    few = search_radii(balls, torch.arange(300), some, 20, False)
    for one, other, (factor, _) in zip(full, few, balls, strict=True):
        assert one.factor == other.factor == factor
        assert sorted(one.fallen.tolist()) == sorted(other.fallen.tolist()), "the same rows fall"
        assert other.won_of(20) == one.won_of(20)
        assert set(range(20)) <= set(other.rows.tolist())
    assert some.searched < 0.75 * every.searched


@pytest.mark.parametrize("rate", [None, 0.01])
def test_rows_beyond_the_first_are_attacked_at_every_radius_that_a_guard_misses(
    plain, few, digit_profile, monkeypatch, rate
):
    attack = PGD(epsilon=EPSILON, steps=6, restarts=1, rate=rate)
    whole, _ = run(attack, plain, few, most=0.5 * EPSILON, profile=digit_profile)
    monkeypatch.setattr("medward.attacks.evasion.per_image.ALWAYS", 5)
    cut, _ = run(attack, plain, few, most=0.5 * EPSILON, profile=digit_profile)
    assert whole.outcome.mean() > 0.2
    assert cut.outcome[5:].mean() == pytest.approx(whole.outcome[5:].mean(), abs=0.05)


def test_a_row_is_asked_again_where_it_was_refused(plain, few, digit_profile):
    """Cut to whole steps, the same change passes a guard that looks for values which no file holds."""

    def fine(inputs):
        whole = np.abs(inputs * 255 - np.round(inputs * 255)).reshape(len(inputs), -1).max(axis=1) < 1e-3
        scores = plain.predict(inputs).scores
        return Response(np.where(whole, scores.argmax(axis=1), -1), np.where(whole[:, None], scores, np.nan), "logits")

    data = replace(few, test=few.test.take(slice(0, 40)))
    rows = np.round(data.test.inputs * 255) / 255
    data = replace(data, test=replace(data.test, inputs=rows.astype(np.float32)))
    attack = PGD(epsilon=EPSILON, steps=6, restarts=1, rate=0.01)
    target = plain.target(attack.threat, oracle=fine, profile=digit_profile)
    settings = {"epsilon": EPSILON, "rate": attack.rate, "device": "cpu", "seed": 0}
    scene = EvasionSetup.set(target, data, attack.criterion(target.spec), **settings)
    x, y = scene.test, scene.test_labels
    adversarial = attack.search(replace(scene, detector=None).search(), x, y).adversarial
    before = target.queries
    once = replace(scene, step=None).asked(target, x, adversarial, y)
    asked = target.queries - before
    twice = scene.asked(target, x, adversarial, y)
    assert once.refused.mean() > 0.5 > once.fooled.mean()
    assert twice.fooled.mean() > 0.5
    assert target.queries - before == 2 * asked + once.refused.sum()


@pytest.mark.slow
def test_the_class_to_aim_at_is_chosen_on_rows_of_every_class_though_files_are_sorted(plain, few):
    craft = few.craft
    order = np.argsort(plain.predict(craft.inputs).scores.argmax(axis=1), kind="stable")
    aimed = replace(UAP, target_class="worst", epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medward.attacks.evasion.white_box_universal.CHOICE_ROWS", 30)
        results = [
            run(aimed, plain, replace(few, craft=craft.take(chosen)))[0] for chosen in (order, order[::-1].copy())
        ]
    shares = [max(each.fooled.mean() for each in result.attempts) for result in results]
    assert min(shares) > 0.8 * max(shares) > 0.3
