"""Augmentation: the picture stays, its place and light vary, and a seed decides how."""

import torch

from medward.guard.harden.robust.augment import augment_images


def test_augmentation_moves_and_mirrors_but_keeps_the_picture():
    image = torch.zeros(64, 1, 28, 28)
    image[:, :, 10, 20] = 1.0
    moved = augment_images(image, torch.Generator().manual_seed(0))
    peaks = {divmod(int(index), 28) for index in moved.flatten(1).argmax(1)}
    assert all(abs(y - 10) <= 2 and min(abs(x - 20), abs(x - 7)) <= 2 for y, x in peaks)
    assert {x > 14 for _, x in peaks} == {True, False}
    assert moved.shape == image.shape


def test_the_generator_decides():
    images = torch.rand(8, 3, 32, 48)
    first, again, other = (augment_images(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
