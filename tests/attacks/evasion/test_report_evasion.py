"""Findings are planted in reports and left out of them by gradients, and only what is then written counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.report_models import report_model
from support.report_networks import VOCABULARY, encoder_decoder, llava_writer
from support.report_thefts import coarse_images

from medward.attacks.base import AttackData
from medward.attacks.evasion import PGD, HopSkipJump, Square
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.evasion.success import criterion_of
from medward.attacks.evasion.uap import craft_universal
from medward.attacks.target import Target, open_oracle
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.report_network import (
    ReportNetwork,
    contrasting_reports,
    finding_odds,
    white_box_writer,
    with_signs,
)
from medward.attacks.whitebox.search import Search
from medward.guard import models
from medward.guard.data.split import Split
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport

FINDINGS = ("effusion", "cardiomegaly", "pneumothorax")
LONGEST, ROWS = 6, 16
WRITERS = {
    "encoder-decoder": (lambda: encoder_decoder(1), ""),
    "llava": (lambda: llava_writer(2), "is there effusion"),
}


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


def searching(model, network, epsilon, aim="any", seed=0):
    ball = Ball.of(model.spec, noise_images(2, 0), epsilon)
    return Search(network, criterion_of(model.spec, aim), ball, torch.Generator().manual_seed(seed))


def decided(model, rows):
    return model.spec.decide(model.predict(rows.numpy()).scores)


def rewritten(model, search, rows, changed):
    """The rows about which the deployed model itself then writes other findings."""
    before, after = (torch.from_numpy(decided(model, each)) for each in (rows, changed))
    return search.criterion.answered(torch.zeros(len(rows), 1), after, before)


@pytest.fixture(scope="module", params=WRITERS)
def victim(request):
    made, prompt = WRITERS[request.param]
    model = wrapped(made(), prompt)
    network, reason = white_box_writer(model, noise_images(40, 1), most=3)
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
    assert network(torch.from_numpy(test[:0])).shape == (0, len(FINDINGS))


def test_gradients_change_more_reports_than_noise_and_what_won_is_written_otherwise(victim):
    model, network = victim
    search, x = searching(model, network, 0.1), torch.from_numpy(noise_images(ROWS, 2))
    found = worst_case_pgd(search, x, search.decided(x), steps=5, restarts=1)
    told = rewritten(model, search, x, found.adversarial)
    assert torch.equal(told, found.won)
    noise = rewritten(model, search, x, search.ball.clip(x + search.ball.surface(tuple(x.shape), search.generator)))
    assert told.sum() > max(ROWS // 2, 2 * noise.sum())
    assert float((found.adversarial - x).abs().max()) <= 0.1 + 1e-6


def test_a_radius_of_nothing_changes_nothing(victim):
    model, network = victim
    search, x = searching(model, network, 0.0), torch.from_numpy(noise_images(ROWS, 2))
    found = worst_case_pgd(search, x, search.decided(x), steps=2, restarts=1)
    assert not found.won.any()
    assert torch.equal(found.adversarial, x)


def test_one_change_for_all_images_is_found(victim):
    model, network = victim
    search, craft = searching(model, network, 0.2), torch.from_numpy(noise_images(ROWS, 1))
    found = craft_universal(search, craft, search.decided(craft), epochs=4, restarts=2, batch=12)
    x = torch.from_numpy(noise_images(ROWS, 2))
    told = rewritten(model, search, x, search.ball.clip(x + found.delta))
    noise = [
        rewritten(model, search, x, search.ball.clip(x + search.ball.surface(tuple(x[:1].shape), search.generator)))
        for _ in range(2)
    ]
    assert float(found.delta.abs().max()) <= 0.2 + 1e-6
    assert told.float().mean() > max(each.float().mean() for each in noise)


@pytest.mark.slow
def test_the_frame_judges_it_behind_a_metered_target():
    model = wrapped(encoder_decoder(1))
    network, _ = white_box_writer(model, noise_images(40, 1), most=2)
    attack, test = PGD(epsilon=0.1, steps=2, restarts=1, rate=0.01), noise_images(6, 2)
    data = AttackData(craft=Split(noise_images(6, 1)), test=Split(test))
    profile = Profile.fit(model, noise_images(60, 4), risk=0.01, secret=0)
    target = Target(model.spec, open_oracle(model), attack.threat, network=network, profile=profile)
    found = attack.run(target, data, seed=0)
    assert found.outcome.any()  # a step follows the screens, too
    assert not any("could not use the screens" in flag for flag in found.flags)
    assert target.queries >= 2 * len(test)


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
    search, x = searching(model, same, 1.0), torch.from_numpy(noise_images(8, 2))
    assert not worst_case_pgd(search, x, search.decided(x), steps=2, restarts=1).won.any()


def test_a_finding_that_it_never_writes_is_not_planted():
    writer = encoder_decoder(1)
    model = wrapped(writer, findings=("effusion", "fracture"), words=("effusion", "fracture"))
    network, _ = white_box_writer(model, noise_images(20, 1), most=2)
    x = torch.from_numpy(noise_images(8, 2))
    assert (network(x)[:, 1] < -1000).all()
    alone = wrapped(writer, findings=("fracture",), words=("fracture",))
    search = searching(alone, ReportNetwork(writer, alone.spec, network.reports).eval(), 0.2, "raise")
    assert not worst_case_pgd(search, x, search.decided(x), steps=2, restarts=1).won.any()


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
        HopSkipJump(epsilon=0.2, queries=100, rows=20),
        Square(epsilon=0.2, queries=100, rows=20),
        PGD(epsilon=0.2, steps=5, restarts=1),
    ):
        target = Target(model.spec, open_oracle(model), attack.threat)
        found = attack.run(target, data, seed=0)
        assert found.outcome.mean() > found.baseline.mean() + 0.1, attack.name
    assert any("transfer" in flag for flag in found.flags)
