"""Report networks of both kinds are fine-tuned by low-rank additions, with differential privacy and without."""

import numpy as np
import pytest
import torch
from support.report_networks import encoder_decoder, llava_writer

from medward.attacks.benchmarks.reports.fine_tuning import fine_tune_plainly, fine_tune_privately
from medward.attacks.whitebox.written_texts import token_losses
from medward.guard.harden.private.settings import PrivateSettings

WRITERS = {"encoder-decoder": encoder_decoder, "llava": llava_writer}
IMAGES = np.random.default_rng(0).normal(size=(24, 1, 16, 16)).astype(np.float32)
REPORTS = ["no effusion is seen.", "left pneumothorax"] * 12
PROMPT = "is there <image> effusion"


def loss(writer):
    with torch.no_grad():
        losses, counts = token_losses(writer, torch.from_numpy(IMAGES), PROMPT, REPORTS)
    return float((losses.sum(dim=1) / counts).mean())


def weights(writer):
    return {name: each.detach().clone() for name, each in writer.network.named_parameters()}


def same_weights(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_network_learns_with_noise_and_comes_back_plain(kind):
    base = WRITERS[kind]()
    before, first = weights(base), loss(base)
    settings = PrivateSettings(target_epsilon=50.0, epochs=15.0, rate=0.3, batch=12.0, noise_seed=0)
    tuned, run = fine_tune_privately(base, IMAGES, REPORTS, settings, prompt=PROMPT, rank=4)
    assert run.epsilon <= 50
    assert run.trained < sum(each.numel() for each in before.values()) / 2
    assert loss(tuned) < first
    assert loss(base) == first
    assert same_weights(weights(base), before)
    moved = {name for name, each in weights(tuned).items() if not torch.equal(each, before[name])}
    assert moved
    assert weights(tuned).keys() == before.keys()
    assert not hasattr(tuned.network, "peft_config")
    spent, _ = fine_tune_privately(
        base, IMAGES, REPORTS, PrivateSettings(target_epsilon=0.01, epochs=5.0, rate=0.3, noise_seed=0), prompt=PROMPT
    )
    assert loss(spent) > loss(tuned)  # so much noise teaches nothing


@pytest.mark.parametrize("kind", WRITERS)
def test_without_privacy_it_learns_more_and_the_same_again(kind):
    base = WRITERS[kind]()
    tuned, again, other = (
        fine_tune_plainly(base, IMAGES, REPORTS, epochs=8, rate=1e-2, seed=seed, prompt=PROMPT) for seed in (0, 0, 1)
    )
    assert loss(tuned) < 0.9 * loss(base)
    assert same_weights(weights(tuned), weights(again))
    assert not same_weights(weights(tuned), weights(other))
    assert not any(each.requires_grad for each in tuned.network.parameters())
