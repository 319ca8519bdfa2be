"""Private training in rounds: all rounds compose, a budget that is spent stays spent, and no kill forgets a round."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.private_training import bright_images, class_losses, columns_of, small_cnn, with_settings

from medward.guard.errors import MedwardError
from medward.guard.harden.private import rounds as rounds_module
from medward.guard.harden.private.rounds import PrivateRounds
from medward.guard.harden.private.settings import plan_training
from medward.guard.statistics.privacy_accounting import spent_epsilon

IMAGES = bright_images(60, seed=1, patients=40)


def opened(folder, *, rounds=2, rows=IMAGES, **changes):
    return PrivateRounds(
        columns_of(rows),
        rows.patients,
        class_losses,
        with_settings(epochs=1, **changes),
        rounds=rounds,
        ledger=folder / "spent.json",
    )


def weights(module):
    return torch.cat([each.detach().flatten() for each in module.parameters()])


def test_epsilon_of_a_federated_client_adds_up_over_rounds(tmp_path):
    """The guarantee, by another accountant: all rounds together spend the target, and each leaves less."""
    client = opened(tmp_path)
    spent = [client.spending(), *(client.train(small_cnn()) for _ in range(2))]
    assert [each.rounds for each in spent] == [0, 1, 2]
    assert [each.left for each in spent] == [2, 1, 0]
    epsilons = [each.epsilon for each in spent]
    assert epsilons[0] == 0
    assert epsilons == sorted(set(epsilons))
    assert 0.98 * 8 < epsilons[-1] <= 8
    assert epsilons[-1] == pytest.approx(client.epsilon), "on which two accountants agreed"
    alone = plan_training(client.settings, client.plan.units).mechanism
    assert alone.noise_multiplier < client.plan.mechanism.noise_multiplier, "a round that forgot the others adds less"


@pytest.mark.parametrize(("rounds", "epochs"), [(1, 1.0), (2, 1.0), (20, 0.5)])
def test_rounds_never_spend_more_than_the_target(rounds, epochs):
    plan = plan_training(with_settings(epochs=epochs), 40, rounds=rounds)
    assert plan.mechanism.steps == rounds * plan_training(with_settings(epochs=epochs), 40).mechanism.steps
    assert spent_epsilon(plan.mechanism, plan.delta) <= 8


def test_every_round_runs_the_noise_of_the_whole_plan(tmp_path, monkeypatch):
    ran = []
    trained = rounds_module.train_privately

    def watched(*arguments, **keywords):
        ran.append(keywords["plan"].mechanism)
        return trained(*arguments, **keywords)

    monkeypatch.setattr(rounds_module, "train_privately", watched)
    client = opened(tmp_path)
    for _ in range(2):
        client.train(small_cnn())
    assert {each.noise_multiplier for each in ran} == {client.plan.mechanism.noise_multiplier}
    assert sum(each.steps for each in ran) == client.plan.mechanism.steps


def test_two_rounds_from_the_same_weights_do_not_share_their_noise(tmp_path):
    client, first, second = opened(tmp_path), small_cnn(), small_cnn()
    client.train(first)
    client.train(second)
    assert not torch.equal(weights(first), weights(second))


def test_once_the_budget_is_spent_nothing_is_trained(tmp_path):
    client = opened(tmp_path, rounds=1)
    client.train(small_cnn())
    module = small_cnn()
    with pytest.raises(MedwardError, match="all 1 rounds that epsilon 8 allows are spent"):
        client.train(module)
    assert torch.equal(weights(module), weights(small_cnn()))


def test_a_restart_does_not_forget_what_was_spent(tmp_path):
    opened(tmp_path).train(small_cnn())
    again = opened(tmp_path)
    assert again.spending().rounds == 1
    assert again.train(small_cnn()).rounds == 2


def test_a_round_that_was_killed_is_spent_and_the_next_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(rounds_module, "train_privately", _killed)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path).train(small_cnn())
    assert opened(tmp_path).spending().rounds == 1
    assert opened(tmp_path).train(small_cnn()).rounds == 2


def _killed(*arguments, **keywords):
    raise KeyboardInterrupt


def test_a_round_that_failed_is_spent_and_stops_training_until_a_person_has_looked(tmp_path):
    client = opened(tmp_path)
    with pytest.raises(MedwardError, match="BatchNorm in training mode"):
        client.train(small_cnn(norm=True).train().apply(_keeps_moving))
    with pytest.raises(MedwardError, match="an earlier round failed"):
        client.train(small_cnn())
    assert client.spending().rounds == 1
    path = tmp_path / "spent.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"failed": None}))
    assert client.train(small_cnn()).rounds == 2


def _keeps_moving(layer):
    """Instance normalisation over what it has seen stays in training mode whatever training says."""
    if isinstance(layer, torch.nn.BatchNorm2d):
        layer.eval = layer.train


def test_one_round_is_never_counted_for_two(tmp_path):
    clients = [opened(tmp_path, rounds=40) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda place: clients[place % 4]._begin(), range(40)))
    assert sorted(numbers) == list(range(1, 41))


@pytest.mark.parametrize("changes", [{"rounds": 1}, {"clip": 0.5}, {"rows": bright_images(60, 2, 40)}])
def test_a_ledger_counts_one_training_only(tmp_path, changes):
    opened(tmp_path).train(small_cnn())
    with pytest.raises(MedwardError, match="is of another training, with other"):
        opened(tmp_path, **changes).spending()


def test_other_files_and_settings_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(MedwardError, match="rounds: must be at least 1, got 0"):
        opened(tmp_path, rounds=0)
    with pytest.raises(MedwardError, match="checkpoint"):
        opened(tmp_path, checkpoint=tmp_path / "c")
    (tmp_path / "spent.json").write_text('{"spent": "many"}')
    with pytest.raises(MedwardError, match="is no ledger of private rounds"):
        opened(tmp_path).train(small_cnn())
