import itertools
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support.planted import Faulty
from support.searches import searching
from torch import nn

from medward.attacks.base import PER_CLASS, Access, AttackData
from medward.attacks.benchmarks.datasets.natural import natural_images
from medward.attacks.evasion import PGD, UniversalPerturbation
from medward.attacks.evasion.perturbation import Universal
from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.evasion.uap import ascend_universal, craft_universal
from medward.attacks.target import Response, Target, open_oracle
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball, FeatureRules
from medward.attacks.whitebox.criterion import ANY_CLASS, ClassChange
from medward.attacks.whitebox.losses import log_chance, margin_loss
from medward.attacks.whitebox.search import Search
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy, ScreenPolicy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs

POLICY = Policy(on_error="flag")
ATTACK = UniversalPerturbation(epsilon=0.3, epochs=6)


def run(attack, deployed, data, *, seed=0, **parts):
    return attack.run(deployed.target(attack.threat, **parts), data, seed=seed)


def behind(screen, deployed):
    """An oracle that withholds what `screen` finds strange."""

    def ask(inputs):
        outputs = deployed.predict(inputs)
        strange = screen.score(inputs, outputs) > screen.screen_cut(0.05)
        labels = np.where(strange, -1, outputs.scores.argmax(axis=1))
        return Response(labels, np.full_like(outputs.scores, np.nan), deployed.spec.output)

    return ask


@pytest.fixture(scope="module")
def result(plain, attack_data):
    return run(ATTACK, plain, attack_data)


def test_one_perturbation_fools_held_out_digits_far_above_noise(result):
    assert result.outcome.mean() > 0.6
    assert result.outcome.mean() > 3 * result.baseline.mean()  # the best of several random vectors
    assert result.flags == ()
    assert 0 < result.gradients <= 400 * 6 * 2


def test_the_outcome_is_what_the_deployed_model_answers(plain, attack_data, result):
    x = attack_data.test.inputs
    clean = plain.predict(x).scores.argmax(axis=1)
    changed = plain.predict(np.clip(x + result.images["perturbation"], 0, 1)).scores.argmax(axis=1)
    assert np.array_equal(result.outcome, changed != clean)


def test_targeted_reaches_its_class_and_judges_only_rows_not_there_before(plain, attack_data):
    attack = replace(ATTACK, target_class=8)
    result = run(attack, plain, attack_data)
    clean = plain.predict(attack_data.test.inputs).scores.argmax(axis=1)
    assert attack.name == "uap-targeted"
    assert len(result.outcome) == ((clean != 8) & (attack_data.test.labels != 8)).sum()
    assert result.outcome.mean() > result.baseline.mean() + 0.3


@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.1, 0.7])
def test_the_ball_is_respected_and_the_radius_zero_changes_nothing(unchecked, plain, attack_data, epsilon):
    result = run(replace(ATTACK, epsilon=epsilon, epochs=2, restarts=1), plain, attack_data)
    assert np.abs(result.images["perturbation"]).max() <= np.float32(epsilon)
    assert result.curves["uap"][1][0] == 0
    assert result.outcome.any() <= (epsilon > 0)


def test_only_valid_inputs_are_asked(unchecked, plain, attack_data):
    asked = []

    def watch(inputs):
        asked.append((inputs.min(), inputs.max()))
        return plain.target(ATTACK.threat).query(inputs)

    run(replace(ATTACK, epochs=1), plain, attack_data, oracle=watch)
    assert min(low for low, _ in asked) >= 0
    assert max(high for _, high in asked) <= 1


def test_same_seed_same_result(unchecked, plain, attack_data):
    quick = replace(ATTACK, epochs=2, restarts=1)
    first, again, other = (run(quick, plain, attack_data, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.images["perturbation"], again.images["perturbation"])
    assert np.array_equal(first.outcome, again.outcome)
    assert not np.array_equal(first.images["perturbation"], other.images["perturbation"])


def test_an_attack_that_never_ran_says_so(plain, attack_data):
    result = run(replace(ATTACK, epochs=0), plain, attack_data)
    assert not result.outcome.any()
    assert any(flag.startswith("zero steps") for flag in result.flags)


def test_the_attacker_who_knows_the_screen_gets_past_it(plain, attack_data, screened, margins):
    parts = {"oracle": screened, "profile": margins}
    naive = run(ATTACK, plain, attack_data, **parts)
    knowing = run(ATTACK.adaptive(POLICY), plain, attack_data, **parts)
    assert naive.outcome.mean() < 0.05
    assert knowing.outcome.mean() > 0.5


def test_knowing_the_calibrated_profile_lowers_strangeness_under_it(unchecked, plain, attack_data, digit_profile):
    def strangeness(attack):
        change = run(attack, plain, attack_data, profile=digit_profile).images["perturbation"]
        inputs = np.clip(attack_data.test.inputs + change, 0, 1)
        return np.median(digit_profile.score(inputs, plain.predict(inputs)))

    assert strangeness(ATTACK.adaptive(Policy(on_error="flag", screen=ScreenPolicy(rate=0.2)))) < strangeness(ATTACK)


def test_knowing_the_screens_is_harmless_where_there_are_none(plain, attack_data, result):
    assert np.array_equal(run(ATTACK.adaptive(POLICY), plain, attack_data).outcome, result.outcome)


def test_an_attacker_who_should_know_the_screens_but_cannot_use_them_says_so(plain, attack_data, digit_profile):
    class Featureless(torch.nn.Module):
        def forward(self, x):
            return plain.network(x)

    quick = replace(ATTACK.adaptive(POLICY), epochs=1)
    for attack, parts, why in (
        (quick, {}, "the defense's profile is not part"),
        (quick, {"profile": digit_profile, "network": Featureless()}, "this model shows no features"),
        (replace(quick, access=Access.SCORES), {"profile": digit_profile}, r"not part .*SCORES access"),
    ):
        flags = " ".join(run(attack, plain, attack_data, **parts).flags)
        assert re.search(f"the attacker could not use the screens: .*{why}", flags)
    assert "screens" not in " ".join(run(quick, plain, attack_data, profile=digit_profile).flags)
    assert "screens" not in " ".join(run(replace(ATTACK, epochs=1), plain, attack_data).flags)


@pytest.mark.parametrize("access", [Access.SCORES, Access.LABELS])
def test_without_gradients_it_transfers_from_what_the_target_answered(plain, attack_data, access):
    attack = replace(ATTACK, access=access)
    result = run(attack, plain, attack_data)
    assert "transfer" in attack.threat.knowledge
    assert result.flags == ()
    assert result.outcome.mean() > result.baseline.mean() + 0.2


def test_declared_white_box_but_only_transfer_possible_is_flagged(plain, attack_data):
    result = run(replace(ATTACK, epochs=2), plain, attack_data, network=None)
    assert any("only a transfer attack" in flag for flag in result.flags)


def test_a_target_that_refuses_everything_is_flagged_not_robust(plain, attack_data, abstaining):
    quick = replace(ATTACK, epochs=1)
    for network in (plain.network, None):
        result = run(quick, plain, attack_data, oracle=abstaining, network=network)
        assert not result.outcome.any()
        assert any("abstains" in flag for flag in result.flags)


def test_tables_are_perturbed_in_standard_deviations(linear_model):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(400, 3)) * [1, 5, 0.1]).astype(np.float32)
    data = AttackData(craft=Split(rows[:200]), test=Split(rows[200:]))
    layer = torch.nn.Linear(3, 3, bias=False)
    torch.nn.init.eye_(layer.weight)
    attack = replace(ATTACK, epsilon=0.5)
    target = Target(linear_model.spec, open_oracle(linear_model), attack.threat, network=layer)
    result = attack.run(target, data, seed=0)
    assert np.abs(result.images["perturbation"]) == pytest.approx(0.5 * rows[:200].std(axis=0), rel=1e-4)
    assert result.outcome.mean() > result.baseline.mean()


@dataclass(frozen=True)
class FileValues:
    """A screen that lets only images pass whose values a 1/16 grid holds."""

    def score(self, inputs, outputs, xp=np):
        away = xp.abs(inputs * 16 - xp.round(inputs * 16))
        return xp.amax(away.reshape(len(inputs), -1), axis=1) * 1000

    def screen_cut(self, rate):
        return 1.0


@pytest.mark.parametrize(
    "attack", [replace(ATTACK, epochs=2), replace(ATTACK, epochs=2, target_class=3), PGD(epsilon=0.15, steps=5)]
)
def test_a_detector_aware_search_that_finds_nothing_is_flagged(plain, attack_data, attack):
    screen = FileValues()
    oracle = behind(screen, plain)
    result = run(attack.adaptive(POLICY), plain, attack_data, oracle=oracle, profile=screen)
    assert result.outcome.mean() < 0.05
    assert any(flag.startswith("the detector-aware attacker found nothing") for flag in result.flags)


@dataclass(frozen=True)
class EightBit:
    """A screen that stops what no 8-bit file holds, but whose gradient (under torch) says nothing of it."""

    def score(self, inputs, outputs, xp=np):
        if xp is not np:
            return xp.mean(inputs, axis=(1, 2, 3))
        return np.abs(inputs * 255 - np.round(inputs * 255)).max(axis=(1, 2, 3)) * 1000

    def screen_cut(self, rate):
        return 10.0


@pytest.mark.parametrize("attack", [replace(ATTACK, epochs=4), PGD(epsilon=0.15, steps=10, restarts=1)])
def test_screens_that_look_for_values_no_8_bit_image_holds_are_passed(plain, attack_data, attack):
    asked, screen = [], EightBit()

    def ask(inputs):
        asked.append(inputs)
        return behind(screen, plain)(inputs)

    data = AttackData(craft=eight_bit(attack_data.craft), test=eight_bit(attack_data.test))
    naive = run(attack, plain, data, oracle=ask, profile=screen)
    knowing = run(attack.adaptive(POLICY), plain, data, oracle=ask, profile=screen)
    assert naive.outcome.mean() < 0.05
    assert knowing.outcome.mean() > 0.5
    assert knowing.queries == sum(len(inputs) for inputs in asked) - naive.queries
    assert all(inputs.min() >= 0 and inputs.max() <= 1 for inputs in asked)


def eight_bit(split):
    return replace(split, inputs=(np.round(split.inputs * 255) / 255).astype(np.float32))


def test_nobody_left_to_win_is_said_and_bad_settings_are_refused(plain, attack_data):
    clean = plain.predict(attack_data.test.inputs).scores.argmax(axis=1)
    only = replace(attack_data, test=attack_data.test.take(np.flatnonzero(clean == 3)))
    result = run(replace(ATTACK, target_class=3), plain, only)
    assert len(result.outcome) == 0
    assert result.flags[0].startswith("no rows")
    with pytest.raises(MedwardError, match="target_class: must be a class from 0 to 9, got 10"):
        run(replace(ATTACK, target_class=10), plain, attack_data)
    with pytest.raises(MedwardError, match="epsilon: must be a finite number >= 0, got -1"):
        run(replace(ATTACK, epsilon=-1.0), plain, attack_data)


@pytest.fixture(scope="module")
def rows(plain, attack_data):
    """Craft and test rows with the network's decisions on them."""
    return [
        (x, network_decisions(plain.network, x))
        for x in map(torch.as_tensor, (attack_data.craft.inputs, attack_data.test.inputs))
    ]


@pytest.fixture
def unchecked(monkeypatch):
    """Without the checks of the network, which take most of a run; for tests of what is crafted."""
    monkeypatch.setattr(EvasionSetup, "flags", lambda *_, **__: ())


def crafted(plain, rows, ball, goal=None, **settings):
    settings = {"epochs": 6, "restarts": 2, "batch": 50, "seed": 0} | settings
    search = searching(plain.network, ball, settings.pop("seed"), goal=goal)
    return craft_universal(search, *open_rows(*rows[0], goal), **settings)


def open_rows(x, y, goal):
    """The rows that are not in class `goal`."""
    rows = ClassChange(goal).open(y)
    return x[rows], y[rows]


def test_the_success_it_states_is_that_of_the_perturbation_it_returns(plain, rows):
    ball = Ball(torch.full((1, 1, 1), 0.2), 0.0, 1.0)
    for goal in (None, 4):
        found = crafted(plain, rows, ball, goal)
        x, y = open_rows(*rows[0], goal)
        moved = network_decisions(plain.network, (x + found.delta).clamp(0, 1))
        assert found.success == pytest.approx(float((moved != y if goal is None else moved == goal).float().mean()))
        assert found.gradients <= len(x) * 6 * 2


def climbed(plain, x, y, ball, **settings):
    settings = {"loss": ANY_CLASS.shared_losses[0], "epochs": 1, "batch": 5, "seed": 0} | settings
    search = searching(plain.network, ball, settings.pop("seed"))
    return ascend_universal(search, x, y, torch.zeros_like(x[:1]), **settings)


def test_one_start_gives_the_perturbation_of_each_epoch_and_the_last_is_what_a_run_of_one_start_returns(plain, rows):
    ball = Ball(torch.full((1, 1, 1), 0.2), 0.0, 1.0)
    kept, seen = climbed(plain, *rows[0], ball, epochs=3, batch=50)
    assert len(kept) == len(seen) == 3
    assert seen[0] < seen[-1]
    assert all(float(delta.abs().max()) <= np.float32(0.2) for delta in kept)
    assert torch.equal(kept[-1], crafted(plain, rows, ball, epochs=3, restarts=1).delta)


def test_small_batches_follow_the_rows_before_them(plain, rows, monkeypatch):
    ball = Ball(torch.full((1, 1, 1), 0.2), 0.0, 1.0)
    (x, y), (others_x, others_y) = rows

    def fooled():
        found = [climbed(plain, x[:50], y[:50], ball, seed=seed)[0][-1] for seed in range(12)]
        moved = [network_decisions(plain.network, (others_x + delta).clamp(0, 1)) != others_y for delta in found]
        return float(torch.stack(moved).float().mean())

    kept = fooled()
    monkeypatch.setattr("medward.attacks.evasion.uap.UAP_MOMENTUM", 0.0)
    assert kept > fooled() + 0.02


def test_l2_beats_noise_of_the_same_length_and_stays_in_the_ball(plain, rows):
    ball = Ball(torch.full((1, 1, 1), 1.5), 0.0, 1.0, "2")
    found = crafted(plain, rows, ball)
    x, y = rows[1]
    noise = ball.surface((1, 1, 8, 8), torch.Generator().manual_seed(0))
    fooled, noisy = (
        (network_decisions(plain.network, (x + d).clamp(0, 1)) != y).float().mean() for d in (found.delta, noise)
    )
    assert found.delta.square().sum().sqrt() == pytest.approx(1.5, rel=1e-3)
    assert fooled > noisy + 0.2


def test_the_log_of_the_chance_turns_two_classes_into_each_other_where_cross_entropy_gathers_them_in_one():
    # A class-1 row has a large first feature, and moving the second turns the sign of the rule.
    class Turned(torch.nn.Module):
        def forward(self, x):
            score = 4 * x[:, 0] * (1 - 2 * x[:, 1]) + 0.5 * x[:, 2]
            return torch.stack([-score, score], 1)

    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(400, 1, generator=generator).sign() * 0.5, torch.zeros(400, 2)], 1)
    network = Turned()
    ball = Ball(torch.tensor([0.0, 1.0, 4.0]), None, None)
    found = {}
    for restarts in (1, 2):
        search = Search(network, ANY_CLASS, ball, generator)
        settings = {"epochs": 12, "restarts": restarts, "batch": 50}
        found[restarts] = craft_universal(search, x, network_decisions(network, x), **settings).success
    assert found[2] == 1.0
    assert found[1] < found[2]


@pytest.mark.parametrize("factor", [1.0, 200.0])
def test_the_log_of_the_chance_keeps_its_slope_on_inflated_logits(factor):
    scores = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]]) * factor
    scores.requires_grad_(True)

    def chance(scores):
        return log_chance(margin_loss(scores, torch.tensor([0, 1])))

    (slope,) = torch.autograd.grad(chance(scores).sum(), scores)
    assert (slope.abs().amax(1) > 0.5).all()
    assert (chance(-scores) > chance(scores)).all()


def test_all_targets_at_once_judges_the_goal_that_fools_most_craft_rows_and_reports_each(
    unchecked, plain, attack_data, rows
):
    attack = replace(ATTACK, epochs=3, restarts=1, target_class="all")
    result = run(attack, plain, attack_data)
    reached = {name: ys[-1] for name, (_, ys) in result.curves.items() if " to class " in name}
    assert attack.name == "uap-all"
    assert set(reached) == {f"uap-all to class {k}" for k in range(10)}
    assert max(reached.values()) > 0.5
    assert len(result.outcome) == len(attack_data.test)
    x, y = rows[0]
    share = (
        (network_decisions(plain.network, (x + torch.as_tensor(result.images["perturbation"])).clamp(0, 1)) != y)
        .float()
        .mean()
    )
    alone = crafted(plain, rows, Ball(torch.full((1, 1, 1), 0.3), 0.0, 1.0), epochs=3, restarts=1)
    assert share >= alone.success - 1e-6


@dataclass(frozen=True)
class Ordered:
    """Three classes that a shift reaches unlike easily, in an order of choice."""

    order: tuple[int, ...]

    @property
    def spec(self):
        names = tuple("abc"[k] for k in self.order)
        return ModelSpec(
            name="toy", modality="tabular", shape=(2,), task=Classification(classes=names, output="logits")
        )

    @property
    def network(self):
        layer = torch.nn.Linear(2, 3)
        weights, bias = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]]), torch.tensor([0.0, 0.3, -0.8])
        with torch.no_grad():
            layer.weight.copy_(weights[list(self.order)])
            layer.bias.copy_(bias[list(self.order)])
        return layer.eval().requires_grad_(False)

    def predict(self, inputs):
        with torch.no_grad():
            return Outputs(self.network(torch.as_tensor(inputs)).numpy())


def test_the_worst_class_is_judged_whatever_the_order_of_the_classes(unchecked):
    rows = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    attack = replace(ATTACK, epsilon=1.2, target_class="worst")
    found = []
    for order in itertools.permutations(range(3)):
        model = Ordered(order)
        labels = np.asarray([order.index(k) for k in Ordered((0, 1, 2)).predict(rows).scores.argmax(1)])
        data = AttackData(craft=Split(rows[:300]), test=Split(rows[300:], labels[300:]))
        result = attack.run(Target(model.spec, open_oracle(model), attack.threat, network=model.network), data, seed=0)
        reached = {name[-1]: ys[-1] for name, (_, ys) in result.curves.items() if PER_CLASS in name}
        found.append((sorted(reached.items()), result.outcome.tolist()))
    assert attack.name == "uap-targeted"
    assert [name for name, _ in found[0][0]] == ["a", "b", "c"]
    assert all(each == found[0] for each in found)
    share = np.mean(found[0][1])
    assert share == max(reached.values()) > min(reached.values()) + 0.1


@dataclass(frozen=True)
class Refused:
    """A screen that stops every answer of one class."""

    label: int

    def score(self, inputs, outputs, xp=np):
        return (outputs.scores.argmax(1) == self.label).astype(float)

    def screen_cut(self, rate):
        return 0.5


def test_the_class_a_guard_lets_through_is_the_worst_however_well_others_are_reached(unchecked, plain, attack_data):
    attack = replace(ATTACK, epochs=3, restarts=1, target_class="worst")
    free = run(attack, plain, attack_data)
    shown = {name.split(PER_CLASS)[1]: ys[-1] for name, (_, ys) in free.curves.items() if PER_CLASS in name}
    best = max(shown, key=shown.get)
    result = run(attack, plain, attack_data, oracle=behind(Refused(int(best)), plain))
    reached = {name.split(PER_CLASS)[1]: ys[-1] for name, (_, ys) in result.curves.items() if PER_CLASS in name}
    assert reached[best] == 0
    assert result.outcome.mean() > max(reached.values()) - 0.1


def test_a_perturbation_of_the_model_before_hardening_that_wins_more_gives_masked_gradients_away(
    unchecked, plain, attack_data
):
    name = "weaker than transfer from the model before hardening"
    masked = replace(plain, network=Faulty(plain.network.body, backward="flipped"))
    for attack in (replace(ATTACK, epochs=3), replace(ATTACK, epochs=3, target_class=8)):
        assert any(flag.startswith(name) for flag in run(attack, masked, attack_data, twin=plain.network).flags)
        assert not any(flag.startswith("weaker") for flag in run(attack, plain, attack_data, twin=plain.network).flags)
    knowing = replace(ATTACK, epochs=3, access=Access.SCORES)
    assert run(knowing, masked, attack_data, twin=plain.network).flags == ()


def test_rows_without_labels_are_judged_by_the_decision_alone(unchecked, plain, attack_data):
    clean = plain.predict(attack_data.test.inputs).scores.argmax(axis=1)
    unlabelled = replace(attack_data, test=Split(attack_data.test.inputs))
    result = run(replace(ATTACK, epochs=1, target_class=8), plain, unlabelled)
    assert len(result.outcome) == (clean != 8).sum()


def test_crafted_on_natural_images_alone_it_touches_no_medical_row(unchecked, plain, attack_data):
    attack = replace(ATTACK, target_class=8, craft_on="pool")
    pool = natural_images(300, (1, 8, 8), seed=0)
    result = run(attack, plain, replace(attack_data, pool=pool))
    other = run(attack, plain, replace(attack_data, pool=pool, craft=attack_data.craft.take(slice(0, 7))))
    assert attack.name == "uap-targeted-natural"
    assert "no medical data" in attack.threat.knowledge
    assert np.array_equal(result.images["perturbation"], other.images["perturbation"])
    assert result.outcome.mean() > result.baseline.mean() + 0.3
    with pytest.raises(MedwardError, match="needs a pool of them, and there is none"):
        run(attack, plain, attack_data)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_immutable_features_never_move_and_whole_numbers_stay_whole(unchecked, linear_model, norm):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 3)) * [1, 5, 1]
    inputs[:, 1] = inputs[:, 1].round()
    inputs = inputs.astype(np.float32)
    data = AttackData(craft=Split(inputs[:200]), test=Split(inputs[200:]))
    layer = torch.nn.Linear(3, 3, bias=False)
    torch.nn.init.eye_(layer.weight)
    attack = replace(ATTACK, epsilon=0.5, epochs=3, norm=norm, rules=FeatureRules(integer=(1,), immutable=(0,)))
    asked = []

    def watch(rows):
        asked.append(rows)
        return open_oracle(linear_model)(rows)

    result = attack.run(Target(linear_model.spec, watch, attack.threat, network=layer), data, seed=0)
    assert result.images["perturbation"][0] == 0
    assert np.abs(result.images["perturbation"][1:]).max() > 0
    seen = np.concatenate(asked)
    assert np.isin(seen[:, 0], inputs[:, 0]).all()
    assert np.array_equal(seen[:, 1], seen[:, 1].round())


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle(UniversalPerturbation):
    """It searches for nothing."""

    def craft(self, search, x, y):
        return Universal.nothing(x)


@pytest.mark.parametrize(("kind", "flagged"), [(Idle, True), (UniversalPerturbation, False)])
def test_a_search_that_a_plain_shift_outdoes_is_flagged(kind, flagged):
    """Of sums over columns all values made larger are the best change, which nobody need search for."""
    net = nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
        net.bias.zero_()
    x = torch.from_numpy(np.random.default_rng(0).normal(0.1, 0.2, (120, 4)).astype(np.float32))
    ball = Ball(torch.full((4,), 0.3))
    search = Search(network=net.eval(), criterion=ANY_CLASS, ball=ball, generator=torch.Generator())
    y = network_decisions(net, x)
    attack = kind(epsilon=0.3, epochs=6)
    found = attack.craft(search, x, y)
    said = attack._below_shift(search, x, y, found.delta)
    assert (said is not None) is flagged, said
