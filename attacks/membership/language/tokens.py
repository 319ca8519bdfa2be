"""What one forward pass of a causal language model says of each token of a text.

Every score that rests on log-probabilities is a function of these numbers, so one pass serves them all. Texts of one
batch are padded on the right and the padding is cut off before anything is computed, row by row: the batch a text came
in changes nothing but the last digits. (A loss that a library returns for a padded batch is a mean over the batch.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medward.guard.errors import MedwardError
from medward.guard.models.torch_model import evaluation_mode
from medward.guard.types import Array, Ints

BATCH = 32
_LOGITS = 2**26  # held at once: a batch shrinks where its vocabulary and texts are larger
_ENDLESS = 2**20  # a length of context from which on a library means that it knows none


class TextTokenizer(Protocol):
    """A text tokenizer turns texts into token ids and back, as every tokenizer of Hugging Face does."""

    def __call__(self, text: list[str], *, verbose: bool) -> Mapping[str, Any]:
        """Lists of token ids under ``input_ids``, with the special tokens that a text starts with."""
        ...

    def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> Any:
        """The text of token ids."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatistics:
    """Token statistics hold what a model says of the T tokens of one text that it predicts, in nats.

    `tokens (T,)` are the true ids, `log_probabilities (T,)` theirs, `mean` and `deviation (T,)` those of the log
    probability of a token drawn from the model at that place, `ranks (T,)` how many tokens were likelier than the true
    one, `predicted (T,)` the likeliest. The first token of a text is predicted only where something stands before it.
    `truncated` says that the text was longer than what was read of it.
    """

    tokens: Ints
    log_probabilities: Array
    mean: Array
    deviation: Array
    ranks: Ints
    predicted: Ints
    truncated: bool = False

    @property
    def losses(self) -> Array:
        """The cross-entropy ``(T,)`` of each token."""
        return -self.log_probabilities

    @property
    def loss(self) -> float:
        """The mean cross-entropy of the text."""
        return float(-self.log_probabilities.mean())

    @property
    def entropy(self) -> Array:
        """The entropy ``(T,)`` of what the model expected at each place."""
        return -self.mean

    @property
    def first_occurrences(self) -> NDArray[np.bool_]:
        """Which tokens ``(T,)`` occur for the first time among those predicted."""
        mask = np.zeros(len(self.tokens), bool)
        mask[np.unique(self.tokens, return_index=True)[1]] = True
        return mask


def mean_losses(statistics: Sequence[TokenStatistics]) -> Array:
    """The mean cross-entropy ``(n,)`` of each text."""
    return np.array([each.loss for each in statistics])


def read_tokens(
    model: nn.Module,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    prefixes: Sequence[str] | None = None,
    length: int | None = None,
    batch: int = BATCH,
) -> list[TokenStatistics]:
    """Token statistics of each of `texts`, of the first `length` tokens at most (None is all that `model` can take).

    With `prefixes (n,)` each text is read after its own: all its tokens are then predicted, the prefix itself is not
    scored, and of a prefix that is too long its oldest tokens fall away. Raises `MedwardError` for a text without any
    token to predict, and where a text leaves no room for its prefix.
    """
    rows, starts, cut = _token_rows(model, tokenizer, texts, prefixes, length)
    found: dict[int, TokenStatistics] = {}
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    with evaluation_mode(model):
        for some in _batches(order, rows, batch, vocabulary_size(model)):
            logits = run_causal(model, [rows[index] for index in some])
            for index, row in zip(some, logits, strict=True):
                found[index] = _statistics(row, rows[index], starts[index], cut[index])
    return [found[index] for index in range(len(rows))]


def token_ids(tokenizer: TextTokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, with the special tokens that `tokenizer` adds."""
    return [[int(each) for each in ids] for ids in tokenizer(list(texts), verbose=False)["input_ids"]] if texts else []


def text_rows(
    model: nn.Module, tokenizer: TextTokenizer, texts: Sequence[str], *, length: int | None = None
) -> list[list[int]]:
    """The ids of each text as `read_tokens` reads them without a prefix."""
    return _token_rows(model, tokenizer, texts, None, length)[0]


def run_causal(model: nn.Module, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits ``(n, longest, V)`` of `rows` of ids; those of a row past its own length are of no meaning."""
    longest = max(len(row) for row in rows)
    place = next(model.parameters()).device
    ids = torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in rows], device=place)
    seen = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=place)
    logits: torch.Tensor = model(input_ids=ids, attention_mask=seen).logits
    return logits


def context_length(model: nn.Module, tokenizer: TextTokenizer) -> int:
    """How many tokens `model` takes at once, as far as its configuration and its tokenizer say."""
    config: Any = getattr(model, "config", None)
    known = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    known.append(getattr(tokenizer, "model_max_length", None))
    lengths = [int(each) for each in known if each is not None and 0 < each < _ENDLESS]
    if not lengths:
        raise MedwardError("language membership: the model does not say how many tokens it takes; give length")
    return min(lengths)


def _token_rows(
    model: nn.Module,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    prefixes: Sequence[str] | None,
    length: int | None,
) -> tuple[list[list[int]], list[int], list[bool]]:
    """Rows of ids, where in each the text to be scored starts, and whether it was cut."""
    room = context_length(model, tokenizer) if length is None or prefixes is not None else length
    most = room if length is None else min(length, room)
    whole = token_ids(tokenizer, texts)
    rows, starts = [ids[:most] for ids in whole], [1] * len(whole)
    if short := [index for index, row in enumerate(rows) if len(row) < 2]:
        raise MedwardError(
            f"language membership: text {short[0]} has {len(rows[short[0]])} token(s) and needs 2; leave it out"
        )
    if prefixes is not None:
        before = token_ids(tokenizer, prefixes)
        for index, (prefix, row) in enumerate(zip(before, rows, strict=True)):
            text = row[1:] if _starts_alike(tokenizer, row) else row
            kept = prefix[-(room - len(text)) :] if len(text) < room else []
            if not kept:
                raise MedwardError(
                    f"language membership: text {index} fills the context of {room} tokens and leaves no room for a "
                    "prefix; give a smaller length"
                )
            rows[index], starts[index] = [*kept, *text], len(kept)
    return rows, starts, [len(ids) > most for ids in whole]


def _starts_alike(tokenizer: TextTokenizer, row: Sequence[int]) -> bool:
    """Whether the row begins with a token that begins every text."""
    return row[0] == getattr(tokenizer, "bos_token_id", None)


def vocabulary_size(model: nn.Module) -> int:
    """How many tokens `model` tells apart, 65,536 where its configuration does not say."""
    return int(getattr(getattr(model, "config", None), "vocab_size", 2**16))


def _batches(order: Sequence[int], rows: Sequence[Sequence[int]], batch: int, width: int) -> Iterator[list[int]]:
    """Runs of `order`, which rises in length, of `batch` rows at most; fewer where logits would not fit."""
    if batch < 1:
        raise MedwardError(f"language membership: a batch holds at least 1 text, got {batch}")
    counted = (
        (place // batch, max(1, _LOGITS // (len(rows[index]) * width)), index) for place, index in enumerate(order)
    )
    for _, group in groupby(counted, key=lambda each: each[0]):
        some = list(group)
        step = min(each[1] for each in some)
        for start in range(0, len(some), step):
            yield [each[2] for each in some[start : start + step]]


def _statistics(logits: torch.Tensor, row: Sequence[int], start: int, cut: bool) -> TokenStatistics:
    """Those of the tokens of `row` from `start` on, each predicted by the logits before it."""
    true = torch.tensor(row[start:], device=logits.device)
    log = torch.log_softmax(logits[start - 1 : len(row) - 1].float(), dim=-1)
    likely, own = log.exp(), log.gather(1, true[:, None])
    spread = torch.where(likely > 0, log, 0.0)  # where the model excludes a token, it adds nothing
    mean = (likely * spread).sum(dim=1)
    variance = (likely * (spread - mean[:, None]) ** 2).sum(dim=1)
    parts = own[:, 0], mean, variance.sqrt()
    log_probabilities, means, deviations = (part.double().cpu().numpy() for part in parts)
    ranks = (log > own).sum(dim=1)
    return TokenStatistics(
        tokens=true.cpu().numpy(),
        log_probabilities=log_probabilities,
        mean=means,
        deviation=deviations,
        ranks=ranks.cpu().numpy(),
        predicted=log.argmax(dim=1).cpu().numpy(),
        truncated=cut,
    )
