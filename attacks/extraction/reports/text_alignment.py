"""Adversarial domain alignment: noise under which a thief's own report model writes a text that the thief chose.

Targeted projected gradient descent on the mean token cross-entropy of the text, in steps of 2.5 radii / `steps`.

References: Shen et al., "Medical multimodal model stealing attacks via adversarial domain alignment" (ADA-STEAL),
AAAI 2025, arXiv 2502.02438; Madry et al., ICLR 2018, sec. 2.1. The paper's radius and number of steps are not known to
us; the size of a step is ours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medward.attacks.extraction.reports.student import TextStudent
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.forward import input_gradient
from medward.guard.types import Array

_BATCH = 64


def align_images(student: TextStudent, images: Array, texts: list[str], ball: Ball, *, steps: int) -> Array:
    """Of the `ball` around each of ``images (n, *shape)`` the point of the descent at which its text is likeliest.

    The image itself is one of the points, so `student` never finds the text less likely than before.
    """
    x = torch.as_tensor(np.array(images, np.float32))
    parts = [
        _descended(student, x[at : at + _BATCH], texts[at : at + _BATCH], ball, steps)
        for at in range(0, len(x), _BATCH)
    ]
    return np.asarray(torch.cat(parts).numpy()) if parts else np.asarray(x.numpy())


def image_losses(student: TextStudent, images: Array, texts: list[str]) -> Array:
    """The mean token cross-entropy ``(n,)`` of `texts` about ``images (n, *shape)``, in nats."""
    x = torch.as_tensor(np.array(images, np.float32))
    with torch.no_grad():
        parts = [student.text_losses(x[at : at + _BATCH], texts[at : at + _BATCH]) for at in range(0, len(x), _BATCH)]
    return np.asarray(torch.cat(parts).numpy()) if parts else np.zeros(0, np.float32)


def _descended(student: TextStudent, x: Tensor, texts: list[str], ball: Ball, steps: int) -> Tensor:
    current, best, least = x, x, torch.full((len(x),), torch.inf)
    for step in range(steps + 1):
        point = current.detach().requires_grad_(step < steps)
        losses = student.text_losses(point, texts)
        better = losses.detach() < least
        best = torch.where(better.reshape(-1, *[1] * (x.dim() - 1)), point.detach(), best)
        least = torch.minimum(least, losses.detach())
        if step < steps:
            slope = input_gradient(-losses, point)
            current = ball.project(current + min(1.0, 2.5 / steps) * ball.step(slope), x)
    return best.detach()
