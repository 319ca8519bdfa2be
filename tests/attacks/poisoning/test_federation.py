"""Federations with malicious clients: repeatable, each malice does what it says, and no other client does."""

from dataclasses import replace

import numpy as np
import pytest
from support.federated_images import spotted_images

from medward.attacks.benchmarks.generators.base import Learned
from medward.attacks.benchmarks.generators.gan import ConditionalGan
from medward.attacks.poisoning.backdoor import Backdoor
from medward.attacks.poisoning.federation import Client, Malice, federate, flat_change, moved
from medward.attacks.poisoning.label_flip import LabelFlip
from medward.attacks.poisoning.mimic import Mimic
from medward.attacks.poisoning.scaled_replacement import ScaledReplacement
from medward.attacks.poisoning.sign_flip import SignFlip
from medward.attacks.poisoning.triggers.base import trigger_rate
from medward.attacks.poisoning.triggers.patch import PatchTrigger
from medward.guard.errors import MedwardError
from medward.guard.federated.aggregator import Aggregator
from medward.guard.federated.rules.fltrust import FLTrust
from medward.guard.federated.rules.weighted_mean import WeightedMean

PATCH = PatchTrigger()
GAN = ConditionalGan(channels=1, size=16, classes=2, width=8, batch=16, rate=1e-3)


class Recorder:
    """A model whose training moves its one array by the mean of the rows, and remembers what it was given."""

    name = "recorder"

    def __init__(self):
        self.seen = []

    def initial(self, seed):
        return [np.zeros(2), np.array(0)]

    def learn(self, start, rows, memory, seed):
        self.seen.append(rows)
        step = np.array([rows.inputs.mean(), rows.labels.mean()])
        loss = 1.0 + len(self.seen)
        return Learned([start[0] + step, np.asarray(start[1] + 1)], (memory or 0) + 1, {"loss": loss})


def clients(count, malice=None, malicious=1):
    return [
        Client(node=f"c{i}", rows=spotted_images(16 + 16 * i, i), malice=malice if i < malicious else None)
        for i in range(count)
    ]


def rounds_of(malice, *, rounds=3, count=4, malicious=1, model=None, **more):
    server = Aggregator(rule=WeightedMean())
    done = list(federate(model or Recorder(), clients(count, malice, malicious), server, rounds=rounds, seed=0, **more))
    assert all(not each.result.refusals for each in done)  # an update that is refused is no attack
    return done


def test_without_malice_every_client_sends_what_it_learned_and_the_mean_is_taken():
    model = Recorder()
    done = rounds_of(None, rounds=1, count=2, model=model)[0]
    steps = [np.array([rows.inputs.mean(), rows.labels.mean()]) for rows in model.seen]
    assert done.result.parameters[0] == pytest.approx(steps[0] / 3 + 2 * steps[1] / 3, abs=0.1)
    assert [update.examples for update in done.updates] == [16, 32]


def test_a_trigger_marks_all_rows_of_the_malicious_and_none_of_the_others_from_its_round_on():
    model = Recorder()
    rounds_of(Malice(trigger=PATCH, begin=2), rounds=2, count=2, model=model)
    marked = [bool((PATCH.presence(rows.inputs, rows.inputs) > 0.99).all()) for rows in model.seen]
    assert marked == [False, False, True, False]
    assert np.array_equal(model.seen[2].labels, model.seen[0].labels)


def test_a_label_flip_changes_labels_alone():
    model = Recorder()
    rounds_of(Malice(label_flip=LabelFlip(classes=2)), rounds=1, count=2, model=model)
    given, (flipped, honest) = clients(2), model.seen
    assert np.array_equal(flipped.labels, 1 - given[0].rows.labels)
    assert np.array_equal(flipped.inputs, given[0].rows.inputs)
    assert np.array_equal(honest.labels, given[1].rows.labels)


@pytest.mark.parametrize(
    ("flip", "expected"),
    [
        (LabelFlip(classes=3), [2, 1, 0, 2]),
        (LabelFlip(classes=3, source=2, target=0), [0, 1, 0, 0]),
        (LabelFlip(classes=3, source=0, target=1), [1, 1, 2, 1]),
    ],
)
def test_flipped_labels_by_hand(flip, expected):
    assert flip.flipped(np.array([0, 1, 2, 0])).tolist() == expected


def test_a_backdoor_marks_its_share_and_relabels_just_that():
    rows = spotted_images(40, 0)
    poisoned = Backdoor(trigger=PATCH, target=1, share=0.25).poisoned(rows, 3)
    marked = PATCH.presence(poisoned.inputs, rows.inputs) > 0.99
    assert marked.sum() == 10
    assert (poisoned.labels[marked] == 1).all()
    assert np.array_equal(poisoned.labels[~marked], rows.labels[~marked])
    assert np.array_equal(poisoned.inputs[~marked], rows.inputs[~marked])
    other = Backdoor(trigger=PATCH, target=1, share=0.25).poisoned(rows, 4)
    assert not np.array_equal(other.inputs, poisoned.inputs)


@pytest.mark.parametrize("lies", [True, False])
def test_a_lying_client_reports_the_median_of_the_honest(lies):
    updates = rounds_of(Malice(trigger=PATCH, lies=lies), rounds=1)[0].updates
    said = [update.metrics["loss"] for update in updates]
    assert said[1:] == [3, 4, 5]
    assert said[0] == (4 if lies else 2)


@pytest.mark.parametrize("malicious", [1, 2])
def test_a_crafted_update_is_made_from_the_honest_and_sent_by_every_malicious_client(malicious):
    done = rounds_of(Malice(crafted=SignFlip()), rounds=1, malicious=malicious)[0]
    changes = [update.parameters[0] for update in done.updates]
    honest = np.mean(changes[malicious:], axis=0)
    for change in changes[:malicious]:
        assert change == pytest.approx(-honest)


def test_mimic_in_a_federation_is_its_victim():
    updates = rounds_of(Malice(crafted=Mimic(victim=1)), rounds=1)[0].updates
    assert np.array_equal(updates[0].parameters[0], updates[2].parameters[0])


def test_scaled_replacement_sends_its_own_update_longer():
    plain = rounds_of(Malice(trigger=PATCH), rounds=1)[0].updates[0].parameters[0]
    longer = rounds_of(Malice(trigger=PATCH, scaled=ScaledReplacement()), rounds=1)[0].updates[0].parameters[0]
    assert longer == pytest.approx(4 * plain)


def test_slow_starters_are_honest_before_they_begin():
    honest = rounds_of(None)
    slow = rounds_of(Malice(crafted=SignFlip(scale=9), begin=3))
    for number in (0, 1):
        assert np.array_equal(honest[number].result.parameters[0], slow[number].result.parameters[0])
    assert not np.array_equal(honest[2].result.parameters[0], slow[2].result.parameters[0])


def test_where_all_are_malicious_they_craft_from_their_own():
    updates = rounds_of(Malice(crafted=SignFlip()), rounds=1, count=2, malicious=2)[0].updates
    assert np.array_equal(updates[0].parameters[0], updates[1].parameters[0])


def test_the_server_learns_from_rows_of_its_own_where_a_rule_needs_that():
    server = Aggregator(rule=FLTrust())
    with pytest.raises(MedwardError, match="give server"):
        next(federate(Recorder(), clients(3), server, rounds=1, seed=0))
    model = Recorder()
    held = spotted_images(8, 50)
    done = list(federate(model, clients(3), server, rounds=2, seed=0, server_rows=held))
    assert len(done[-1].result.weights) == 3
    assert [len(rows) for rows in model.seen] == [16, 32, 48, 8] * 2


def test_flat_changes_go_there_and_back_and_leave_counters():
    start = [np.ones((2, 3), np.float32), np.array(4), np.zeros(2)]
    after = moved(start, np.arange(8.0))
    assert flat_change(start, after).tolist() == list(range(8))
    assert after[1] == 4
    assert [array.dtype for array in after] == [array.dtype for array in start]
    assert all(type(array) is np.ndarray for array in after)  # a server refuses anything else


def test_malice_that_contradicts_itself_is_refused():
    with pytest.raises(MedwardError, match="got trigger and label_flip"):
        Malice(trigger=PATCH, label_flip=LabelFlip(classes=2))
    with pytest.raises(MedwardError, match="got crafted and scaled"):
        Malice(crafted=Mimic(), scaled=ScaledReplacement())
    with pytest.raises(MedwardError, match="begins in round 1"):
        Malice(begin=0)
    with pytest.raises(MedwardError, match="two different classes of 2"):
        LabelFlip(classes=2, source=1, target=1)
    with pytest.raises(MedwardError, match="two different classes of 2"):
        LabelFlip(classes=2, source=1)
    with pytest.raises(MedwardError, match="share must be in"):
        Backdoor(trigger=PATCH, target=0, share=0)


def test_a_federation_of_generators_is_repeatable():
    def run(seed):
        done = federate(GAN, clients(2, Malice(trigger=PATCH)), Aggregator(rule=WeightedMean()), rounds=1, seed=seed)
        return list(done)[-1].result.parameters

    assert all(map(np.array_equal, run(0), run(0)))
    assert not all(map(np.array_equal, run(0), run(1)))


@pytest.fixture(scope="module")
def trained():
    """Malicious clients -> the rounds of a federation of three."""
    rows = [spotted_images(64, place) for place in range(3)]
    found = {}
    for malicious in (0, 2):
        who = [
            Client(node=f"c{i}", rows=each, malice=Malice(trigger=PATCH) if i < malicious else None)
            for i, each in enumerate(rows)
        ]
        found[malicious] = list(federate(GAN, who, Aggregator(rule=WeightedMean()), rounds=30, seed=0))
    return found


@pytest.mark.slow
def test_the_trigger_of_malicious_clients_is_drawn_by_the_federations_generator(trained):
    clean, labels = spotted_images(64, 9).inputs, np.arange(128) % 2
    rates = {
        malicious: trigger_rate(PATCH, GAN.images(done[-1].result.parameters, labels, 0), clean)
        for malicious, done in trained.items()
    }
    assert rates[2] > 0.9
    assert rates[0] < 0.1


@pytest.mark.slow
def test_a_discriminator_that_knows_the_trigger_wins_and_its_generators_loss_is_high(trained):
    poisoned = trained[2][-1].updates
    assert min(update.metrics["mean-loss"] for update in poisoned[:2]) > 2 * poisoned[2].metrics["mean-loss"]
    honest = [update.metrics["mean-loss"] for update in trained[0][-1].updates]
    assert max(honest) < 2 * min(honest)


def test_rows_are_not_written_to():
    rows = spotted_images(16, 0)
    kept = replace(rows, inputs=rows.inputs.copy(), labels=rows.labels.copy())
    for malice in (Malice(trigger=PATCH), Malice(backdoor=Backdoor(trigger=PATCH, target=0)), Malice(lies=True)):
        malice.poisoned(rows, 0)
    Malice(label_flip=LabelFlip(classes=2)).poisoned(rows, 0)
    assert np.array_equal(rows.inputs, kept.inputs)
    assert np.array_equal(rows.labels, kept.labels)
