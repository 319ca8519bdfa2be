"""SPV-MIA: how much higher a text stands above its neighbours than a model trained on the target's own texts has it.

The reference needs no data of the target's source: the target is prompted to write it (self-prompted), so that what
differs between the two models is what the target memorised and not what it writes about.

Reference: Fu et al., "Membership inference attacks against fine-tuned large language models via self-prompt
calibration", NeurIPS 2024. The paper's code takes the loss of a padded batch; here every text has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medward.attacks.membership.language.generations import sample_continuations
from medward.attacks.membership.language.neighbourhood import Neighbours
from medward.attacks.membership.language.tokens import TextTokenizer, TokenStatistics, mean_losses
from medward.attacks.membership.language.training import fine_tuned_copy
from medward.guard.types import Array


def spv_scores(
    target: Sequence[TokenStatistics],
    neighbours: Neighbours,
    self_reference: Sequence[TokenStatistics],
    self_reference_neighbours: Neighbours,
) -> Array:
    """The probabilistic variation ``(n,)`` under the target less that under the self-prompted reference."""
    return probabilistic_variation(target, neighbours) - probabilistic_variation(
        self_reference, self_reference_neighbours
    )


def probabilistic_variation(own: Sequence[TokenStatistics], neighbours: Neighbours) -> Array:
    """``exp(-loss)`` of each text less its mean over the text's neighbours ``(n,)``."""
    around = np.array([np.exp(-mean_losses(each)).mean() for each in neighbours])
    return np.asarray(np.exp(-mean_losses(own)) - around)


def train_self_reference(
    model: Any,
    base: Any,
    tokenizer: TextTokenizer,
    prompts: Sequence[str],
    *,
    samples: int = 1,
    new_tokens: int = 64,
    epochs: int = 4,
    rate: float = 1e-3,
    seed: int,
) -> Any:
    """Return a copy of `base` that was fine-tuned on what `model` writes when it goes on with each of `prompts`.

    `base` is the model that the target was fine-tuned from, `prompts` are beginnings of texts that are no candidates.
    """
    written = sample_continuations(model, tokenizer, prompts, samples, new_tokens=new_tokens, seed=seed)
    texts = [f"{prompt} {each}" for prompt, some in zip(prompts, written, strict=True) for each in some]
    return fine_tuned_copy(base, tokenizer, texts, epochs=epochs, rate=rate, seed=seed)
