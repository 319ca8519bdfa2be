"""Every method by one table: it makes the network sturdier, touches nothing of the user's, and says what it did."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from support.faint import EPSILON, fitted, images
from torch import nn

from medward.guard.certificate import EMPIRICAL, PER_ANSWER
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden import HARDENERS, Accuracy, RobustnessCertificate
from medward.guard.harden.method import certificate_doubts
from medward.guard.harden.network import Rows, Scoring
from medward.guard.harden.robust import estimate
from medward.guard.harden.robust.inner import TrainingBall
from medward.integrations.contracts import check_hardener

OWN_KIND = {"uat": "universal", "pgd": "per_input", "trades": "per_input"}


def method(name, **changes):
    hardener = replace(HARDENERS[name], **({"craft_rows": 40} if name == "retraining" else {}))
    epochs = 2 if name == "retraining" else 12
    training = replace(hardener.training, epochs=epochs, batch=32, rate=5e-3, augment=None)
    return replace(hardener, **{"epsilon": EPSILON, "training": training} | changes)


def harden(name, network, data, seed=0, **changes):
    return method(name, **changes).harden(network, *data, low=0.0, high=1.0, seed=seed)


def withstands(network, split, craft, kind):
    """Balanced accuracy on rows that neither trained nor chose, under changes of another draw."""
    rows, mine = Rows.of(split, "test", 0, 1), Rows.of(craft, "craft", 0, 1)
    ball = TrainingBall.around(rows.x, EPSILON, 0.0, 1.0)
    return getattr(estimate.estimate_accuracies(Scoring(network), mine, rows, ball, seed=99), kind)


@pytest.fixture(scope="module")
def hardened(data, victim):
    made = {}

    def get(name):
        if name not in made:
            made[name] = harden(name, victim, data)
        return made[name]

    return get


@pytest.mark.parametrize("name", OWN_KIND)
def test_it_withstands_fresh_changes_that_the_original_does_not(name, data, victim, hardened):
    test = images(120, 2)
    kind, network = OWN_KIND[name], hardened(name).network
    assert withstands(victim, test, data[0], kind) <= 0.55
    assert withstands(network, test, data[0], kind) >= withstands(victim, test, data[0], kind) + 0.15
    assert withstands(network, test, data[0], "clean") >= 0.95


def test_the_same_loop_without_changes_to_withstand_does_not_help(data, victim):
    """Negative control: it is the changes, not more training, that hardens."""
    network = harden("uat", victim, data, epsilon=1e-6).network
    assert withstands(network, images(120, 2), data[0], "universal") <= 0.6


@pytest.mark.parametrize("name", HARDENERS)
def test_the_contract_holds(name, victim):
    check_hardener(method(name), victim)


def test_the_control_a_hardener_that_touches_what_it_was_given_is_found(victim):
    class Careless(type(HARDENERS["pgd"])):
        def harden(self, network, *data, **settings):
            made = super().harden(network, *data, **settings)
            network.eval()
            return made

    with pytest.raises(MedwardError, match="'pgd' changes the mode of its layers"):
        check_hardener(Careless(), victim)


@pytest.mark.parametrize("name", HARDENERS)
def test_the_certificate_says_what_was_done_and_survives_json(name, data, hardened, victim):
    certificate = hardened(name).certificate
    assert RobustnessCertificate.model_validate_json(certificate.model_dump_json()) == certificate
    assert certificate.method == name
    assert certificate.guarantee == (PER_ANSWER if name == "certified" else EMPIRICAL)
    assert bool(certificate.certified_shares) == (name == "certified")
    assert any("comparison only" in note for note in certificate.notes) == (name == "retraining")
    assert certificate.notes == () or name == "retraining", "where it helped there is nothing to warn of"
    assert certificate.epsilon == EPSILON
    assert certificate.unit == "input units"
    assert certificate.rows == {"train": 160, "selection": 80}
    assert certificate.settings["training"]["rate"] == 5e-3
    assert certificate.original != certificate.hardened
    assert certificate.before.clean == 1
    assert certificate.before.universal <= 0.55
    assert 1 <= certificate.best_epoch <= certificate.epochs <= 12


@pytest.mark.parametrize("name", HARDENERS)
def test_tables_of_three_classes_harden_in_standard_deviations(name):
    torch.manual_seed(1)
    x = torch.randn(300, 4) * torch.tensor([1.0, 100.0, 0.01, 1.0])
    y = (x[:, 0] > -0.6).long() + (x[:, 0] > 0.6).long()
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    split = Split(x.numpy(), y.numpy())
    network = fitted(network, split, steps=60)
    data = split.take(slice(0, 200)), split.take(slice(200, 300))
    training = replace(HARDENERS[name].training, epochs=2)
    made = method(name, epsilon=0.3, training=training).harden(network, *data, low=None, high=None, seed=0)
    assert made.certificate.unit == "standard deviations of each feature"
    assert made.certificate.task.classes == ("0", "1", "2")
    assert made.certificate.after.universal <= made.certificate.after.clean


def test_a_network_of_probabilities_and_a_hugging_face_output_are_understood(data, victim):
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = copy.deepcopy(victim)

        def forward(self, pixel_values):
            return Output(self.net(pixel_values))

    training = replace(HARDENERS["pgd"].training, epochs=1, batch=64)
    kinds = (victim, nn.Sequential(copy.deepcopy(victim), nn.Softmax(dim=1)), Transformer())
    made = [harden("pgd", kind, data, training=training) for kind in kinds]
    assert isinstance(made[2].network, Transformer)
    assert made[0].certificate.after == made[2].certificate.after
    assert torch.equal(made[0].network[0].weight, made[2].network.net[0].weight)
    assert torch.allclose(made[0].network[0].weight, made[1].network[0][0].weight, atol=0.02)


def test_without_batch_norm_too(data):
    torch.manual_seed(0)
    plain = fitted(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), data[0])
    assert harden("uat", plain, data).certificate.after.universal >= 0.6


WRONG = {
    "labels": (lambda t, s: (Split(t.inputs), s), {}, "train: hardening needs labels; add train_labels"),
    "selection labels": (lambda t, s: (t, Split(s.inputs)), {}, "selection: hardening needs labels"),
    "classes": (lambda t, s: (Split(t.inputs, t.labels + 1), s), {}, "2 classes, so labels are 0 to 1, got 1 to 2"),
    "one class": (lambda t, s: (t, Split(s.inputs, s.labels * 0)), {}, "selection: has no row of class 1"),
    "few rows": (lambda t, s: (t.take(slice(0, 9)), s), {}, "train: hardening needs at least 20 rows, got 9"),
    "range": (lambda t, s: (Split(t.inputs * 255, t.labels), s), {}, r"outside \[0, 1\]; set --low and --high"),
    "nan": (lambda t, s: (Split(t.inputs * float("nan"), t.labels), s), {}, "finite"),
    "shape": (lambda t, s: (t, Split(s.inputs[:, :, :7], s.labels)), {}, "selection: shape"),
    "epsilon": (lambda t, s: (t, s), {"epsilon": 0.0}, "epsilon: must be a finite number above 0, got 0"),
    "no number": (lambda t, s: (t, s), {"epsilon": float("nan")}, "epsilon: must be a finite number above 0"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_one_sentence(mistake, data, victim):
    change, settings, sentence = WRONG[mistake]
    with pytest.raises(ValueError, match=sentence) as caught:
        harden("uat", victim, change(*data), **settings)
    assert type(caught.value).__name__ == "MedwardError"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (lambda x: x, "only torch modules can be hardened, got function"),
        (nn.Flatten(), "has no weights to train"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(9, 2)),
            r"data's rows, which are \(1, 8, 8\): its layer Linear\(in_features=9, .* got \(160, 64\) \(RuntimeError: "
            ".*; give rows of the shape it was trained on",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), "a single-output model .*name both with --classes"),
        (nn.Conv2d(1, 2, 3), r"must return a tensor \(n, columns\)"),
    ],
)
def test_what_cannot_be_hardened_is_said(network, sentence, data):
    with pytest.raises(ValueError, match=sentence):
        harden("pgd", network, data)


@pytest.mark.parametrize(
    ("before", "after", "kind", "told"),
    [
        ((0.9, 0.2, 0.1), (0.9, 0.5, 0.1), "universal", []),
        ((0.9, 0.2, 0.1), (0.9, 0.5, 0.1), "per_input", ["under a change per row was 0.100 and is 0.100"]),
        ((0.9, 0.2, 0.1), (0.9, 0.22, 0.9), "universal", ["under one change for all rows was 0.200 and is 0.220"]),
        (
            (0.43, 0.2, 0.1),
            (0.9, 0.5, 0.1),
            "universal",
            ["hardly better than chance .*0.430, of chance 0.333"],
        ),
        ((0.3, 0.2, 0.1), (0.3, 0.1, 0.1), "universal", ["hardly better than chance", "achieved nothing"]),
        (  # one class for all rows withstands everything
            (0.9, 0.2, 0.1),
            (0.34, 0.34, 0.34),
            "universal",
            ["the hardened model is hardly better than chance .*0.340, of chance 0.333.*collapsed"],
        ),
    ],
)
def test_an_original_at_chance_and_a_gain_of_nothing_are_said(before, after, kind, told):
    accuracies = [Accuracy(clean=a, universal=b, per_input=c) for a, b, c in (before, after)]
    found = certificate_doubts(*accuracies, "balanced accuracy", 1 / 3, kind)
    assert len(found) == len(told)
    assert all(re.search(words, sentence) for words, sentence in zip(told, found, strict=True))


def test_a_device_that_is_not_there_is_said(data, victim):
    training = replace(HARDENERS["uat"].training, device="nowhere")
    with pytest.raises(ValueError, match="device 'nowhere'"):
        harden("uat", victim, data, training=training)


def test_the_table_is_what_it_says():
    assert list(HARDENERS) == ["uat", "pgd", "trades", "certified", "retraining"]
    assert all(hardener.name == name for name, hardener in HARDENERS.items())
