"""Victims: accurate enough to be worth attacking, and the same for the same seed."""

import numpy as np
import pytest
import torch
from torch import nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.datasets.phantom import draw_phantoms
from medward.attacks.benchmarks.networks.cnn import cnn
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.benchmarks.victims import accuracy, classifier_spec, predict_labels, train_victim
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError


@pytest.fixture(scope="module")
def tiny():
    data = Split(*draw_phantoms(192, size=32, seed=0))
    return BenchmarkTask(
        name="tiny",
        modality="image",
        shape=(1, 32, 32),
        low=0.0,
        high=1.0,
        classes=("clear", "opacity"),
        splits={"train": data.take(slice(0, 128)), "selection": data.take(slice(128, None))},
        source="",
    )


def test_the_wdbc_victim_is_accurate_on_its_test_split():
    task = load_task("wdbc")
    test = task.splits["test"]
    victim = train_victim(task)
    assert accuracy(test.labels, predict_labels(victim, test.inputs))[0] >= 0.95
    assert np.allclose(victim.predict_proba(test.inputs).sum(1), 1)


@pytest.mark.parametrize("seed", range(1, 5))
def test_the_wdbc_victim_is_accurate_on_unseen_rows_whatever_the_seed(seed):
    task = load_task("wdbc", seed=seed)
    victim = train_victim(task, seed=seed)
    unseen = [split for name, split in task.splits.items() if name != "train"]
    hits = np.concatenate([split.labels == predict_labels(victim, split.inputs) for split in unseen])
    assert hits.mean() >= 0.95


def test_the_same_seed_gives_the_same_weights(tiny):
    first, again, other = (train_victim(tiny, epochs=2, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_training_leaves_the_callers_random_state_alone(tiny):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_victim(tiny, epochs=1, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_a_trained_victim_is_ready_to_answer(tiny):
    victim = train_victim(tiny, epochs=1, seed=0)
    assert not any(module.training for module in victim.modules())
    one = torch.from_numpy(tiny.splits["selection"].inputs[:1])
    many = torch.from_numpy(tiny.splits["selection"].inputs[:8])
    assert torch.allclose(victim(many)[:1], victim(one), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (1, 32, 48)])
def test_the_network_is_small_and_ends_in_a_linear_layer_of_64_features(shape):
    network = cnn(shape, 3).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) < 70_000
    assert isinstance(network[-1], nn.Linear)
    assert network[-1].in_features == 64
    assert network(torch.rand(2, *shape)).shape == (2, 3)
    assert network[:-1](torch.rand(2, *shape)).shape == (2, 64)


def test_balanced_accuracy_is_the_mean_recall():
    assert accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])) == (0.75, 0.5)


def test_an_architecture_that_does_not_fit_is_refused(tiny):
    with pytest.raises(MedwardError, match="'alexnet' is not known; there are auto, mlp, network, cnn, resnet"):
        train_victim(tiny, architecture="alexnet")
    with pytest.raises(MedwardError, match="does not fit the image task tiny"):
        train_victim(tiny, architecture="mlp")
    for name in ("cnn", "vit"):
        with pytest.raises(MedwardError, match="does not fit the tabular task wdbc"):
            train_victim(load_task("wdbc"), architecture=name)


def test_a_network_of_a_table_learns_it_and_its_seed_decides():
    task = load_task("wdbc")
    first, again = (train_victim(task, architecture="network", epochs=30, seed=1) for _ in range(2))
    test = task.splits["test"]
    assert accuracy(test.labels, predict_labels(first, test.inputs))[0] > 0.9
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_the_spec_repeats_the_task(tiny):
    spec = classifier_spec(tiny, "logits")
    assert (spec.shape, spec.classes, spec.low, spec.high, spec.output) == (
        (1, 32, 32),
        tiny.classes,
        0,
        1,
        "logits",
    )
    spec.check(tiny.splits["train"].inputs)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("seed", [0, 1])
def test_the_pneumoniamnist_victim_is_accurate_on_the_official_test_split(seed):
    task = load_task("pneumoniamnist", seed=seed)
    test = task.splits["test"]
    assert accuracy(test.labels, predict_labels(train_victim(task, seed=seed), test.inputs))[0] >= 0.85
