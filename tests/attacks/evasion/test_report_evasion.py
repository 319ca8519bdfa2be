"""Findings are planted in reports and left out of them by gradients, and only what is then written counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.report_models import report_model
from support.report_networks import VOCABULARY, encoder_decoder, llava_writer
from support.report_thefts import coarse_images

from medward.attacks.base import AttackData
from medward.attacks.evasion import PGD, HopSkipJump, Square, UniversalPerturbation
from medward.attacks.evasion.success import criterion_of
from medward.attacks.target import Target, open_oracle
from medward.attacks.whitebox.report_network import (
    ReportNetwork,
    contrasting_reports,
    finding_odds,
    white_box_writer,
    with_signs,
)
from medward.guard import models
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport

FINDINGS = ("effusion", "cardiomegaly", "pneumothorax")
LONGEST, ROWS = 8, 24
WRITERS = {
    "encoder-decoder": (lambda: encoder_decoder(1), ""),
    "llava": (lambda: llava_writer(2), "is there effusion"),
}
QUICK = PGD(epsilon=0.2, steps=6, restarts=1)


def noise_images(n, seed):
    return np.random.default_rng(seed).random((n, 1, 16, 16)).astype(np.float32)


def wrapped(writer, prompt="", findings=FINDINGS, words=()):
    task = WrittenReport(findings=findings, words=words, length=LONGEST, vocabulary=VOCABULARY, prompt=prompt)
    spec = ModelSpec(name="writer", modality="image", shape=(1, 16, 16), task=task, low=0.0, high=1.0)
    return models.wrap(writer, spec=spec, sample=noise_images(2, 0))


def blind_writer():
    """A writer whose decoder looks at no image."""
    writer = encoder_decoder(1)
    for name, weight in writer.network.decoder.named_parameters():
        if "crossattention.c_proj" in name:
            weight.data.zero_()
    return writer


def held(model, n=ROWS):
    test = noise_images(n, 2)
    reference = model.spec.decide(model.predict(test).scores)
    return AttackData(craft=Split(noise_images(n, 1)), test=Split(test), reference=reference)


def ran(attack, model, network, seed=0):
    return attack.run(Target(model.spec, open_oracle(model), attack.threat, network=network), held(model), seed=seed)


@pytest.fixture(scope="module", params=WRITERS)
def victim(request):
    made, prompt = WRITERS[request.param]
    model = wrapped(made(), prompt)
    network, reason = white_box_writer(model, noise_images(40, 1))
    assert reason == ""
    return model, network


def test_odds_weigh_texts_that_speak_of_a_finding_against_the_others():
    said = torch.tensor([[[True, False], [False, False], [False, False]]])
    odds = finding_odds(torch.log(torch.tensor([[0.6, 0.1, 0.3]])), said)
    assert float(odds[0, 0]) == pytest.approx(np.log(0.6 / 0.4), abs=1e-5)
    assert odds[0, 1] < -1000  # which no text speaks of
    assert torch.isfinite(odds).all()


def test_what_is_written_gives_the_sign_and_the_odds_the_slope():
    odds = torch.tensor([[2.0, -2.0, 2.0, -2.0]], requires_grad=True)
    signed = with_signs(odds, torch.tensor([[True, False, False, True]]))
    assert (signed > 0).tolist() == [[True, False, False, True]]
    assert signed[0, :2].tolist() == [2.0, -2.0]
    (slope,) = torch.autograd.grad(signed.sum(), odds)
    assert slope.tolist() == [[1.0] * 4]


def test_texts_to_compare_name_different_findings_first():
    texts = ["a", "a", "a again", "a", "b", "b", "c"]
    assert contrasting_reports(texts, np.array([1, 1, 1, 1, 2, 2, 0])) == ("a", "b", "c", "a again")
    assert contrasting_reports(texts, np.array([1, 1, 1, 1, 2, 2, 0]), most=2) == ("a", "b")


def test_the_network_decides_what_the_model_writes(victim):
    model, network = victim
    test = noise_images(12, 3)
    told = model.predict(test)
    scores, features = network.both(torch.from_numpy(test))
    assert ((scores > 0).numpy() == (told.scores > 0)).all()
    np.testing.assert_allclose(features.numpy(), told.features, atol=1e-4)
    assert len(set(model.spec.decide(told.scores))) > 1


def test_gradients_change_more_reports_than_noise_and_only_what_is_written_counts(victim):
    model, network = victim
    found = ran(QUICK, model, network)
    assert found.outcome.mean() > max(0.4, found.baseline.mean())
    assert not any("masked" in flag for flag in found.flags)
    criterion, data = criterion_of(model.spec), held(model)
    x = torch.from_numpy(data.test.inputs)
    assert not criterion.answered(network(x), torch.from_numpy(data.reference), torch.from_numpy(data.reference)).any()
    none = ran(replace(QUICK, epsilon=0.0), model, network)
    assert not none.outcome.any()


def test_one_change_for_all_images_is_found(victim):
    model, network = victim
    attack = UniversalPerturbation(epsilon=0.2, epochs=4, restarts=2)
    found = ran(attack, model, network)
    delta = found.images["perturbation"]
    assert np.abs(delta).max() <= 0.2 + 1e-6
    assert found.outcome.mean() > 0.2
    assert found.outcome.mean() >= found.baseline.mean()


@pytest.mark.parametrize("aim", ["hide", "raise"])
def test_aims_count_findings_left_out_or_planted_alone(aim):
    spec = wrapped(encoder_decoder(1)).spec
    criterion = criterion_of(spec, aim)
    there, absent, doubtful = torch.tensor([0b000001]), torch.tensor([0]), torch.tensor([0b001001])
    scores = torch.zeros(1, 3)
    assert bool(criterion.answered(scores, absent, there)) is (aim == "hide")
    assert bool(criterion.answered(scores, there, absent)) is (aim == "raise")
    assert bool(criterion.answered(scores, doubtful, absent)) is (aim == "raise")
    assert not criterion.answered(scores, doubtful, there)  # less sure of it is no change
    assert not criterion.answered(scores, torch.tensor([-1]), there)  # nor is a report that was withheld


def test_a_writer_that_does_not_look_is_never_fooled():
    model = wrapped(blind_writer())
    network, reason = white_box_writer(model, noise_images(20, 1))
    assert network is None
    assert "same findings" in reason
    same = ReportNetwork(model.writer, model.spec, ["no effusion"]).eval()
    assert not ran(QUICK, model, same).outcome.any()


def test_a_finding_that_it_never_writes_is_not_planted():
    writer = encoder_decoder(1)
    model = wrapped(writer, findings=("effusion", "fracture"), words=("effusion", "fracture"))
    network, _ = white_box_writer(model, noise_images(20, 1))
    unseen = wrapped(writer, findings=("fracture",), words=("fracture",))
    assert (network(torch.from_numpy(noise_images(4, 2)))[:, 1] < -1000).all()
    alone = ReportNetwork(unseen.writer, unseen.spec, network.reports).eval()
    assert not ran(replace(QUICK, aim="raise"), unseen, alone).outcome.any()


def test_gradients_of_another_network_are_not_believed(victim):
    model, _ = victim
    other = wrapped(encoder_decoder(5))

    class Liar(type(model)):
        def predict(self, inputs):
            return other.predict(inputs)

    liar = Liar(spec=model.spec, writer=model.writer)
    network, reason = white_box_writer(liar, noise_images(20, 1))
    assert network is None
    assert "writes another text" in reason


def test_a_function_is_asked_or_stood_in_for():
    model = report_model(piecewise=False)
    network, reason = white_box_writer(model, coarse_images(20, 1))
    assert network is None
    assert "no gradients" in reason
    test = coarse_images(30, 2)
    data = AttackData(
        craft=Split(coarse_images(200, 1)),
        test=Split(test),
        reference=model.spec.decide(model.predict(test).scores),
    )
    for attack in (
        HopSkipJump(epsilon=0.1, queries=60, rows=20),
        Square(epsilon=0.1, queries=60, rows=20),
        PGD(epsilon=0.1, steps=5, restarts=1),
    ):
        target = Target(model.spec, open_oracle(model), attack.threat)
        found = attack.run(target, data, seed=0)
        assert found.outcome.mean() > 0.3, attack.name
        assert found.outcome.mean() >= found.baseline.mean(), attack.name
    assert any("transfer" in flag for flag in found.flags)
