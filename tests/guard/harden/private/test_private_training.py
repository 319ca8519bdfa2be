"""What train_privately does with any module: patients, empty draws, transformers, low-rank parts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from support.private_training import bright_images, class_losses, columns_of, small_cnn, with_settings
from torch import nn
from torch.nn import functional as F

from medward.guard.errors import MedwardError
from medward.guard.harden.private import weights_move
from medward.guard.harden.private.cross_check import cross_checked_epsilon, numerical_epsilon
from medward.guard.harden.private.parts import merged_part, select_part
from medward.guard.harden.private.settings import PrivateSettings, plan_training
from medward.guard.harden.private.training import train_privately
from medward.guard.statistics.privacy_accounting import GaussianMechanism, spent_epsilon


def test_an_easy_problem_is_learned_at_epsilon_8():
    train, test = bright_images(400, 0), bright_images(200, 1)
    run = train_privately(small_cnn(), columns_of(train), None, class_losses, PrivateSettings(target_epsilon=8))
    with torch.no_grad():
        right = run.module(torch.from_numpy(test.inputs)).argmax(1).numpy() == test.labels
    assert right.mean() >= 0.85
    assert 7.5 < run.epsilon <= 8
    assert run.randomness == "secret"
    assert not run.module.training


def test_empty_draws_add_noise_and_are_accounted(monkeypatch):
    seen = []
    follow = weights_move.WeightsWatch.follow

    def spy(self, output, drawn):
        seen.append((len(drawn), float(output.total.norm()), float(output.noise.norm())))
        follow(self, output, drawn)

    monkeypatch.setattr(weights_move.WeightsWatch, "follow", spy)
    rows = columns_of(bright_images(30, 0))
    run = train_privately(small_cnn(), rows, None, class_losses, with_settings(batch=0.6, epochs=1))
    assert len(seen) == run.plan.mechanism.steps == 50
    empty = [(total, noise) for size, total, noise in seen if size == 0]
    assert 10 < len(empty) < 45
    assert all(total == 0 and noise > 0 for total, noise in empty)


def test_patients_are_units_and_more_rows_than_the_cap_are_not_used(monkeypatch):
    data = bright_images(120, 0, patients=30)
    sizes = []
    losses = []

    def counted(module, rows):
        losses.append(len(rows["y"]))
        return class_losses(module, rows)

    follow = weights_move.WeightsWatch.follow
    monkeypatch.setattr(
        weights_move.WeightsWatch, "follow", lambda self, o, d: (sizes.append(len(d)), follow(self, o, d))[1]
    )
    units = len(np.unique(data.patients))
    settings = with_settings(epochs=2, batch=units / 2, rows_per_unit=2, rows_at_once=7)
    run = train_privately(small_cnn(), columns_of(data), data.patients, counted, settings)
    assert run.plan.units == units
    assert run.plan.mechanism.sample_rate == pytest.approx(0.5)
    assert max(losses[-10:]) <= 8
    assert sum(sizes) / len(sizes) == pytest.approx(units / 2, abs=units / 4)


def test_a_batch_of_more_units_than_there_are_is_refused():
    assert plan_training(with_settings(batch=500), 500).mechanism.sample_rate == 1
    with pytest.raises(
        MedwardError, match="batch: 501 units are expected in a step, and there are 500; give at most 500"
    ):
        plan_training(with_settings(batch=501), 500)


def test_the_plan_keeps_within_the_target_and_needs_more_noise_for_less():
    plans = [plan_training(with_settings(target_epsilon=each), 500) for each in (1.0, 3.0, 8.0)]
    assert [each.mechanism.noise_multiplier for each in plans] == sorted(
        (each.mechanism.noise_multiplier for each in plans), reverse=True
    )
    for plan, target in zip(plans, (1.0, 3.0, 8.0), strict=True):
        assert spent_epsilon(plan.mechanism, plan.delta) <= target
    counted = plan_training(with_settings(), 500, (10.0,))
    assert counted.mechanism.noise_multiplier > plans[2].mechanism.noise_multiplier


def test_two_accountants_agree_and_a_claim_they_differ_on_is_refused(monkeypatch):
    mechanism = GaussianMechanism(noise_multiplier=1.7, sample_rate=0.25, steps=40, other_mechanisms=(10.0,))
    ours = spent_epsilon(mechanism, 1e-5)
    assert numerical_epsilon(mechanism, 1e-5, error=0.02) == pytest.approx(ours, rel=0.01)
    assert cross_checked_epsilon(mechanism, 1e-5) == ours
    assert numerical_epsilon(GaussianMechanism(noise_multiplier=1.0, sample_rate=0.1, steps=0), 1e-5, error=1) == 0
    wrong = cross_checked_epsilon.__wrapped__
    monkeypatch.setitem(wrong.__globals__, "spent_epsilon", lambda *_: 1.02 * ours)
    with pytest.raises(MedwardError, match="two accountants differ"):
        wrong(mechanism, 1e-5)


def transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers")


def tiny_gpt2(**changes):
    library = transformers()
    torch.manual_seed(0)
    config = library.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, **changes
    )
    return library.GPT2LMHeadModel(config)


def tiny_bert():
    library = transformers()
    torch.manual_seed(0)
    config = library.BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
    )
    return library.BertForSequenceClassification(config)


def tiny_vit():
    library = transformers()
    torch.manual_seed(0)
    config = library.ViTConfig(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return library.ViTForImageClassification(config)


def language_losses(module, rows):
    scores = module(input_ids=rows["tokens"]).logits[:, :-1]
    each = F.cross_entropy(scores.flatten(0, 1), rows["tokens"][:, 1:].flatten(), reduction="none")
    return each.reshape(len(scores), -1).mean(dim=1)


def token_class_losses(module, rows):
    return F.cross_entropy(module(input_ids=rows["tokens"]).logits, rows["tokens"][:, 0] % 2, reduction="none")


def image_losses(module, rows):
    return F.cross_entropy(module(rows["x"]).logits, rows["y"], reduction="none")


def rows_for(losses):
    if losses is image_losses:
        return columns_of(bright_images(40, 0))
    return {"tokens": torch.randint(0, 20, (40, 8), generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("part", ["all", "lora", "head"])
@pytest.mark.parametrize(
    ("make", "losses"), [(tiny_gpt2, language_losses), (tiny_bert, token_class_losses), (tiny_vit, image_losses)]
)
def test_transformers_are_trained_whole_or_in_part(make, losses, part):
    if (make, part) == (tiny_gpt2, "head"):
        pytest.skip("its head shares the weights of its embedding")
    rows, module = rows_for(losses), make()
    module = select_part(module, part, rank=2)
    trained = {name for name, each in module.named_parameters() if each.requires_grad}
    before = {name: each.detach().clone() for name, each in module.named_parameters()}
    run = train_privately(module, rows, None, losses, with_settings(epochs=1))
    moved = {name for name, each in run.module.named_parameters() if not torch.equal(each, before[name])}
    assert moved == trained
    with torch.no_grad():
        scores = losses(run.module, rows)
        plain = merged_part(run.module)
        assert not any("lora" in name for name, _ in plain.named_parameters())
        assert torch.allclose(losses(plain, rows), scores, atol=1e-5)
    assert set(plain.state_dict()) == set(make().state_dict())


def test_parts_that_are_not_there_are_refused():
    with pytest.raises(MedwardError, match="no such linear layers"):
        select_part(small_cnn(), "lora")
    with pytest.raises(MedwardError, match="no such linear layers"):
        select_part(tiny_vit(), "lora", layers=("classifier", "nowhere"))
    with pytest.raises(MedwardError, match="last linear layer"):
        select_part(nn.Conv2d(1, 1, 1), "head")
    named = select_part(small_cnn(), "lora", layers=("5",), rank=2)
    assert all("lora" in name for name, each in named.named_parameters() if each.requires_grad)
