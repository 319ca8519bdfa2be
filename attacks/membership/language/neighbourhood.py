"""Neighbourhood: a text that was trained on is likelier than texts which say nearly the same.

Neighbours come from a masked language model that fills in words, or, where the attacker has none, from dropping and
swapping words; the two are scores of different names, as the second is the weaker attack.

Reference: Mattern et al., "Membership inference attacks against language models via neighbourhood comparison", ACL
2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from medward.attacks.membership.language.tokens import TextTokenizer, TokenStatistics, mean_losses, token_ids
from medward.guard.errors import MedwardError
from medward.guard.models.torch_model import evaluation_mode
from medward.guard.types import Array

Neighbours = Sequence[Sequence[TokenStatistics]]
"""The token statistics of each text's neighbours."""
_LIKELIEST = 10


def neighbourhood_scores(target: Sequence[TokenStatistics], neighbours: Neighbours) -> Array:
    """The mean cross-entropy of each text's neighbours less that of the text ``(n,)``."""
    return np.array([mean_losses(each).mean() for each in neighbours]) - mean_losses(target)


def swap_words(texts: Sequence[str], *, count: int, share: float, seed: int) -> list[list[str]]:
    """`count` neighbours of each text: at a `share` of its words, one at least, a word is dropped or swapped."""
    rng = np.random.default_rng(seed)
    return [[_swapped(text.split(), share, rng) for _ in range(count)] for text in texts]


def fill_words(
    masked_model: nn.Module,
    masked_tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    count: int,
    share: float,
    seed: int,
) -> list[list[str]]:
    """`count` neighbours of each text: a `share` of its tokens, one at least, as a masked language model fills them in.

    Each is drawn from the likeliest tokens that are not the original. Raises `MedwardError` for a tokenizer without a
    mask token.
    """
    mask = getattr(masked_tokenizer, "mask_token_id", None)
    if mask is None:
        raise MedwardError("neighbourhood: the masked model's tokenizer has no mask token; give one that has")
    special = set(getattr(masked_tokenizer, "all_special_ids", ()))
    rng, found = np.random.default_rng(seed), []
    for ids in token_ids(masked_tokenizer, texts):
        words = np.array([place for place, each in enumerate(ids) if each not in special])
        if not len(words):
            raise MedwardError("neighbourhood: a text has no word that could be masked; leave it out")
        rows = np.tile(ids, (count, 1))
        places = [rng.choice(words, max(1, round(share * len(words))), replace=False) for _ in range(count)]
        for row, chosen in zip(rows, places, strict=True):
            row[chosen] = mask
        filled = _filled(masked_model, rows, np.asarray(ids), places, sorted(special), rng)
        found.append([masked_tokenizer.decode(row.tolist(), skip_special_tokens=True) for row in filled])
    return found


def _filled(
    model: nn.Module,
    rows: np.ndarray,
    ids: np.ndarray,
    places: Sequence[np.ndarray],
    special: Sequence[int],
    rng: np.random.Generator,
) -> np.ndarray:
    with evaluation_mode(model):
        logits = model(input_ids=torch.tensor(rows, device=next(model.parameters()).device)).logits.float().cpu()
    filled = rows.copy()
    for number, chosen in enumerate(places):
        for place in chosen:
            likely = logits[number, place].clone()
            likely[[*special, int(ids[place])]] = -np.inf
            best = torch.topk(likely, min(_LIKELIEST, int(torch.isfinite(likely).sum())))
            shares = torch.softmax(best.values, 0).double().numpy()
            filled[number, place] = rng.choice(best.indices.numpy(), p=shares / shares.sum())
    return filled


def _swapped(words: list[str], share: float, rng: np.random.Generator) -> str:
    words = list(words)
    for _ in range(max(1, round(share * len(words)))):
        place = int(rng.integers(max(1, len(words) - 1)))
        if rng.random() < 0.5 and len(words) > 3:
            del words[place]
        else:
            words[place : place + 2] = reversed(words[place : place + 2])
    return " ".join(words)
