"""Every attack of the table, in a federation of a small classifier or, of triggers, on the rows that it poisons."""

import numpy as np
import pytest
from support.federated_images import spotted_images

from medward.attacks.benchmarks.federated_classifier import FederatedClassifier
from medward.attacks.poisoning.federation import Client, federate
from medward.attacks.poisoning.metrics.backdoor_success import backdoor_success
from medward.attacks.poisoning.table import PATCH_TRIGGER, POISONING, SLOW_START, Accomplice
from medward.attacks.poisoning.triggers.base import trigger_rate
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.rules.weighted_mean import WeightedMean

MODEL = FederatedClassifier(channels=1, size=16, classes=2, rate=3e-3, batch=16, epochs=2)
TEST, ROWS = spotted_images(200, 99), [spotted_images(64, place) for place in range(5)]
ACCOMPLICES = [Accomplice(place=place, malicious=2) for place in range(2)]
AIMS = {name: attack.aim for name, attack in POISONING.items()}


def federation(name, rounds=6):
    malice = [POISONING[name].malice(each) for each in ACCOMPLICES] if name else []
    clients = [
        Client(node=f"c{i}", rows=rows, malice=malice[i] if i < len(malice) else None) for i, rows in enumerate(ROWS)
    ]
    done = list(federate(MODEL, clients, Aggregator(rule=WeightedMean()), rounds=rounds, seed=0))
    assert all(not each.result.refusals for each in done)  # an update that is refused is no attack
    return done


def success(done):
    parameters = done.result.parameters
    return backdoor_success(lambda images: MODEL.decide(parameters, images), PATCH_TRIGGER, 0, TEST)


@pytest.fixture(scope="module")
def honest():
    return federation(None)


def test_without_attack_the_federation_learns_and_the_trigger_does_nothing(honest):
    found = success(honest[-1])
    assert found.accuracy > 0.97
    assert found.success < 0.05


@pytest.mark.parametrize("name", [name for name, aim in AIMS.items() if aim == "damage"])
def test_what_does_damage_changes_the_model_from_the_first_round_on(name, honest):
    done = federation(name, rounds=1)
    assert not all(map(np.array_equal, done[0].result.parameters, honest[0].result.parameters))


@pytest.mark.parametrize("name", ["sign-flip", pytest.param("label-flip", marks=pytest.mark.slow)])
def test_what_is_strong_enough_at_two_of_five_ruins_it(name):
    assert success(federation(name)[-1]).accuracy < 0.75


@pytest.mark.parametrize(
    "name",
    ["backdoor-distributed", *(pytest.param(each, marks=pytest.mark.slow) for each in ("backdoor", "backdoor-scaled"))],
)
def test_a_backdoor_opens_for_its_trigger_and_shows_nowhere_else(name):
    found = success(federation(name)[-1])
    assert found.success > 0.85
    assert found.without_trigger < 0.05
    assert found.accuracy > 0.95


@pytest.mark.slow
def test_a_slow_backdoor_is_closed_before_its_round_and_open_after_it():
    done = federation("backdoor-slow-start", rounds=SLOW_START + 8)
    assert success(done[SLOW_START - 2]).success < 0.05
    assert success(done[-1]).success > 0.85


@pytest.mark.parametrize("name", [name for name, aim in AIMS.items() if aim == "trigger"])
def test_accomplices_together_show_the_whole_trigger(name):
    rows, attack = ROWS[0], POISONING[name]
    malice = [attack.malice(each) for each in ACCOMPLICES]
    together = rows
    for each in malice:
        together = each.poisoned(together, 0)
    trigger = malice[0].trigger
    clean = ROWS[1].inputs
    # two accomplices mix frequencies in twice, which is more of the same
    assert trigger_rate(trigger, together.inputs, clean) > 0.95
    assert trigger_rate(trigger, rows.inputs, clean) < 0.1
    assert np.array_equal(together.labels, rows.labels)


def test_more_accomplices_than_rows_of_the_patch_share_them():
    parts = [POISONING["trigger-distributed"].malice(Accomplice(place=i, malicious=6)).trigger for i in range(6)]
    assert {(each.part, each.parts) for each in parts} == {(i, 4) for i in range(4)}


def test_success_of_a_backdoor_by_hand_and_where_it_cannot_be_told():
    always = backdoor_success(lambda images: np.zeros(len(images), int), PATCH_TRIGGER, 0, TEST)
    assert (always.success, always.without_trigger, always.accuracy, always.rows) == (1, 1, 0.5, 100)
    with pytest.raises(MedwardError, match="all 100 are of it"):
        backdoor_success(lambda images: images, PATCH_TRIGGER, 0, TEST.take(np.flatnonzero(TEST.labels == 0)))
