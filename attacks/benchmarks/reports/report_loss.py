"""The loss of a written report: the cross-entropy of each token of a reference, given the image and those before it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medward.attacks.whitebox.written_texts import token_losses
from medward.guard.models.greedy_decoding import PretrainedWriter


def written_loss(writer: PretrainedWriter, pixels: Tensor, prompt: str, reports: Sequence[str]) -> Tensor:
    """The mean cross-entropy of the tokens of `reports`, and of their ends, about `pixels` ``(n, C, H, W)``.

    It is of the very tokens that `PretrainedWriter.pieces` writes one by one, and can be differentiated.
    """
    losses, counts = token_losses(writer, pixels, prompt, reports)
    return losses.sum() / counts.sum()
