"""A thief's report model learns to write, shows its slope, and moves images to texts; comparison pulls as it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.report_models import SHAPE, report_spec
from support.report_networks import encoder_decoder, llava_writer
from support.report_thefts import STUDENT, coarse_images, own_texts

from medward.attacks.extraction.reports import ComparingTheft, FolderStudent, SmallStudent
from medward.attacks.extraction.reports.lord import better_texts, preference_loss
from medward.attacks.extraction.reports.teaching import teach_texts
from medward.attacks.extraction.reports.text_alignment import align_images, image_losses
from medward.attacks.whitebox.ball import Ball
from medward.guard.errors import MedwardError

SPEC = report_spec()
IMAGES = coarse_images(160, 0)
TEXTS = own_texts(IMAGES)


@pytest.fixture(scope="module")
def student():
    return teach_texts(STUDENT.begin(SPEC, IMAGES, TEXTS, seed=0), IMAGES, TEXTS, epochs=10, seed=0)


def save(writer, folder):
    writer.network.save_pretrained(folder)
    writer.tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_student_writes_what_it_learned_and_a_new_one_does_not(student):
    new = coarse_images(60, 1)
    assert np.mean([mine == own for mine, own in zip(student.write(new), own_texts(new), strict=True)]) > 0.5
    shuffled = TEXTS[1:] + TEXTS[:1]
    assert image_losses(student, IMAGES, TEXTS).mean() < image_losses(student, IMAGES, shuffled).mean() - 0.1
    untaught = STUDENT.begin(SPEC, IMAGES, TEXTS, seed=0)
    assert np.mean([mine == own for mine, own in zip(untaught.write(new[:10]), own_texts(new[:10]), strict=True)]) == 0
    assert not any(each.requires_grad for each in student.writer.network.parameters())


def test_batches_write_as_single_images_do(student):
    new = coarse_images(8, 2)
    assert student.write(new) == [text for image in new for text in student.write(image[None])]


def test_texts_of_other_lengths_do_not_change_a_loss(student):
    alone = image_losses(student, IMAGES[:1], TEXTS[:1])
    padded = image_losses(student, IMAGES[:2], [TEXTS[0], TEXTS[1] + " " + TEXTS[2]])
    np.testing.assert_allclose(padded[0], alone[0], rtol=1e-4)


def test_draws_follow_their_generator_and_leave_the_worlds_alone(student):
    torch.manual_seed(5)
    first, again, other = (
        student.write(IMAGES[:20], generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    after = torch.rand(())
    torch.manual_seed(5)
    assert torch.rand(()) == after
    assert first == again != other


@pytest.mark.parametrize("epsilon", [4 / 255, 0.1])
def test_alignment_makes_a_text_likelier_within_its_ball(student, epsilon):
    images = coarse_images(40, 3)
    aims = ["Pleural effusion is seen. No pneumothorax."] * len(images)
    ball = Ball.of(SPEC, images, epsilon)
    moved = align_images(student, images, aims, ball, steps=8)
    assert np.abs(moved - images).max() <= epsilon + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    before, after = (image_losses(student, each, aims) for each in (images, moved))
    assert (after <= before + 1e-6).all()
    assert after.mean() < before.mean() - 0.5 * epsilon
    signs = np.sign(np.random.default_rng(0).normal(size=images.shape))
    noisy = np.clip(images + epsilon * signs, 0, 1).astype(np.float32)
    assert image_losses(student, noisy, aims).mean() > after.mean(), "noise of the same size does less"


def test_without_a_radius_images_stay(student):
    still = align_images(student, IMAGES[:3], TEXTS[1:4], Ball.of(SPEC, IMAGES, 0.0), steps=3)
    np.testing.assert_array_equal(still, IMAGES[:3])
    assert align_images(student, IMAGES[:0], [], Ball.of(SPEC, IMAGES, 0.1), steps=3).shape == (0, *SHAPE)


@pytest.mark.parametrize("made", [encoder_decoder, llava_writer], ids=["encoder-decoder", "llava"])
def test_a_folder_of_either_kind_is_taught_further(made, tmp_path):
    texts = ["no effusion is seen.", "left effusion is seen."] * 8
    begun = replace(FolderStudent(folder=save(made(), tmp_path)).begin(SPEC, IMAGES, texts, seed=0), rate=3e-3)
    taught = teach_texts(begun, IMAGES[:16], texts, epochs=60, seed=0)
    before, after = (image_losses(each, IMAGES[:16], texts).mean() for each in (begun, taught))
    assert after < before - 1
    assert all("effusion" in each for each in taught.write(IMAGES[:4]))
    images = torch.tensor(IMAGES[:2], requires_grad=True)
    (slope,) = torch.autograd.grad(taught.text_losses(images, texts[:2]).sum(), images)
    assert (slope.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_a_folder_for_other_images_is_refused(tmp_path):
    folder = save(encoder_decoder(), tmp_path)
    spec = replace(SPEC, shape=(3, 16, 16))
    with pytest.raises(MedwardError, match=r"does not write about images of shape \(3, 16, 16\)"):
        FolderStudent(folder=folder).begin(spec, IMAGES, TEXTS, seed=0)


def test_nothing_is_learned_of_no_text(student):
    with pytest.raises(MedwardError, match="there is none to learn from"):
        teach_texts(student, IMAGES[:0], [], epochs=1, seed=0)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48)])
def test_images_of_other_sizes_are_written_about(shape):
    images = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    spec = replace(SPEC, shape=shape)
    begun = SmallStudent(width=32, layers=1).begin(spec, images, TEXTS, seed=0)
    assert len(teach_texts(begun, images, TEXTS[:4], epochs=1, seed=0).write(images)) == 4


def test_comparison_pulls_the_worse_text_down_and_both_others_up():
    better, worse, victim = (torch.tensor([value], requires_grad=True) for value in (-1.0, -1.2, -0.8))
    slopes = torch.autograd.grad(preference_loss(better, worse, victim, 1.0).sum(), (better, worse, victim))
    assert [float(each) for each in slopes] == [-1, 2, -1]
    far = torch.tensor([-9.0], requires_grad=True)
    (slope,) = torch.autograd.grad(preference_loss(better.detach(), far, victim.detach(), 1.0).sum(), far)
    assert float(slope) == 0, "what is unlikely enough pulls no more"


def test_the_better_text_is_the_one_that_grew_or_the_victims():
    settings = ComparingTheft(likely=-0.5, grown=0.1)
    now = np.array([[-1.0, -2.0, -0.1], [-2.0, -2.0, -0.2]])
    before = np.array([[-3.0, -2.0, -0.1], [-2.5, -2.01, -0.1]])
    better, worse = better_texts((["a"] * 3, ["b"] * 3), ["v"] * 3, now, before, settings)
    assert better == ["a", "v", "a"]
    assert worse == ["b", "a", "b"]


@pytest.mark.parametrize(("settings", "told"), [({"periods": 0}, "periods"), ({"clip": 0.0}, "clip")])
def test_settings_that_compare_nothing_are_refused(settings, told):
    with pytest.raises(MedwardError, match=told):
        ComparingTheft(**settings)


def test_a_folder_for_smaller_images_sees_larger_ones_resized(tmp_path):
    folder = save(encoder_decoder(), tmp_path)
    large = np.repeat(np.repeat(IMAGES[:2], 2, axis=2), 2, axis=3)
    spec = replace(SPEC, shape=large.shape[1:])
    with pytest.raises(MedwardError, match="or the side of those that it takes"):
        FolderStudent(folder=folder).begin(spec, large, TEXTS, seed=0)
    resizing = FolderStudent(folder=folder, side=SHAPE[-1]).begin(spec, large, TEXTS, seed=0)
    plain = FolderStudent(folder=folder).begin(SPEC, IMAGES, TEXTS, seed=0)
    text = "left effusion is seen."
    np.testing.assert_allclose(
        image_losses(resizing, large, [text] * 2), image_losses(plain, IMAGES[:2], [text] * 2), rtol=1e-4
    )
    images = torch.tensor(large, requires_grad=True)
    (slope,) = torch.autograd.grad(resizing.text_losses(images, [text] * 2).sum(), images)
    assert (slope.abs().amax(dim=(1, 2, 3)) > 0).all()
