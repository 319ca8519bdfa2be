"""What is read of a language model for its scores: each thing once, whichever scores ask for it.

A reading has a name, the parts of the attacker's holdings without which it cannot be had, and a function. Nothing that
is learned, counted or put before a text ever comes from a candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medward.attacks.membership.language.camia import calibrate_context, context_features
from medward.attacks.membership.language.dc_pdd import token_frequencies
from medward.attacks.membership.language.generations import Continue, sample_continuations, split_words
from medward.attacks.membership.language.gradient_norm import gradient_norms
from medward.attacks.membership.language.mope import perturbed_losses
from medward.attacks.membership.language.neighbourhood import fill_words, swap_words
from medward.attacks.membership.language.noise_neighbour import noisy_losses
from medward.attacks.membership.language.petal import TokenEmbedder, input_embedder
from medward.attacks.membership.language.samia import SEEN_SHARE
from medward.attacks.membership.language.tokens import (
    BATCH,
    TextTokenizer,
    TokenStatistics,
    context_length,
    read_tokens,
    text_rows,
    token_ids,
    vocabulary_size,
)
from medward.guard.errors import MedwardError
from medward.guard.types import Array

# As published where a paper says, and fixed for all targets: nothing here is tuned on candidates.
NEIGHBOUR_COUNT = 5
NEIGHBOUR_SHARE = 0.15
NOISY_COPIES = 5
NOISE_SCALE = 0.5
MOPE_MODELS = 5
MOPE_SCALE = 0.005
PREFIX_TEXTS = 7
SAMPLES = 10
NEW_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowLanguage:
    """A shadow language model was trained by the attacker on `members`, and not on `others`, of texts of its own."""

    model: Any
    members: Sequence[str]
    others: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageHoldings:
    """What a membership attacker on a language model holds beside it; no text here may be a candidate.

    `reference` is a model of the target's tokenizer that saw no candidate, as the one that the target was fine-tuned
    from; `self_reference` what `train_self_reference` makes; `masked` a masked language model and its tokenizer;
    `nonmembers` are texts that the target was not trained on, `members` some that it was; `continuer` asks the target
    to go on with prompts, None samples it directly; `embedder` maps tokens to their meaning, None is the reference's
    input embeddings.
    """

    reference: Any = None
    self_reference: Any = None
    masked: tuple[Any, TextTokenizer] | None = None
    nonmembers: Sequence[str] = ()
    members: Sequence[str] = ()
    shadow: ShadowLanguage | None = None
    continuer: Continue | None = None
    embedder: TokenEmbedder | None = None

    def texts(self) -> set[str]:
        """All texts that the attacker holds."""
        shadow = () if self.shadow is None else (*self.shadow.members, *self.shadow.others)
        return {*self.nonmembers, *self.members, *shadow}


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageReadings:
    """Language readings are what was read so far of a target on candidates `texts`, of `length` tokens at most.

    `length` None is half of what the model takes, so that a prefix has room. The same seed reads the same.
    """

    model: Any
    tokenizer: TextTokenizer
    texts: Sequence[str]
    holdings: LanguageHoldings
    seed: int
    length: int | None = None
    batch: int = BATCH
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if shared := len(set(self.texts) & self.holdings.texts()):
            raise MedwardError(
                f"language membership: {shared} candidate text(s) are among what the attacker holds; "
                "an attack must not learn from what it is judged on, leave them out of one of the two"
            )

    def lacking(self, name: str) -> tuple[str, ...]:
        """The holdings that the reading `name` needs and that are not there."""
        return tuple(each for each in LANGUAGE_READERS[name].holdings if not getattr(self.holdings, each))

    def read(self, name: str) -> Any:
        """The reading `name`, read once. Raises `MedwardError` where the attacker does not hold what it needs."""
        if name not in self.found:
            if lacking := self.lacking(name):
                raise MedwardError(f"language membership: {name} needs {' and '.join(lacking)}; give holdings with it")
            self.found[name] = LANGUAGE_READERS[name].reader(self)
        return self.found[name]

    def of(self, model: Any, texts: Sequence[str], prefixes: Sequence[str] | None = None) -> list[TokenStatistics]:
        """Token statistics of `texts` under `model`, as this reads all texts."""
        length = self.tokens
        return read_tokens(model, self.tokenizer, texts, prefixes=prefixes, length=length, batch=self.batch)

    def cut(self, texts: Sequence[str]) -> list[str]:
        """The `texts`, those that are longer than what is read up to there: the rest must not sway a score."""
        whole = token_ids(self.tokenizer, texts)
        rows = text_rows(self.model, self.tokenizer, texts, length=self.tokens)
        return [
            text if len(row) == len(ids) else str(self.tokenizer.decode(row, skip_special_tokens=True))
            for text, row, ids in zip(texts, rows, whole, strict=True)
        ]

    @property
    def tokens(self) -> int:
        """How many tokens of a text are read at most."""
        return self.length or max(2, context_length(self.model, self.tokenizer) // 2)


@dataclass(frozen=True, slots=True)
class LanguageReader:
    """A language reader reads one thing; `holdings` are the fields of `LanguageHoldings` it cannot do without."""

    holdings: tuple[str, ...]
    reader: Callable[[LanguageReadings], Any]


def neighbour_statistics(readings: LanguageReadings, model: Any, texts: str) -> list[list[TokenStatistics]]:
    """The statistics under `model` of each candidate's neighbours, whose wording is the reading `texts`."""
    groups: list[list[str]] = readings.read(texts)
    flat = iter(readings.of(model, [each for some in groups for each in some]))
    return [[next(flat) for _ in some] for some in groups]


def after_texts(readings: LanguageReadings, before: Sequence[str]) -> list[TokenStatistics]:
    """The candidates' statistics, each after the first `PREFIX_TEXTS` of texts `before`."""
    prefix = " ".join(before[:PREFIX_TEXTS])
    return readings.of(readings.model, readings.texts, [prefix] * len(readings.texts))


def feature_rows(readings: LanguageReadings, model: Any, texts: Sequence[str]) -> Array:
    """CAMIA's features ``(n, F)`` of `texts` under `model`."""
    own = readings.read("target") if model is readings.model and texts is readings.texts else readings.of(model, texts)
    return context_features(own, readings.of(model, texts, readings.cut(texts)))


def _calibration(readings: LanguageReadings) -> Any:
    held = readings.holdings
    assert held.shadow is not None
    inside, outside = (
        feature_rows(readings, held.shadow.model, texts) for texts in (held.shadow.members, held.shadow.others)
    )
    return calibrate_context(inside, outside, feature_rows(readings, readings.model, held.nonmembers))


def _generations(readings: LanguageReadings) -> list[list[str]]:
    prompts = [split_words(text, SEEN_SHARE)[0] for text in readings.read("texts")]
    if readings.holdings.continuer is not None:
        return readings.holdings.continuer(prompts, SAMPLES)
    model, tokenizer, seed = readings.model, readings.tokenizer, readings.seed
    return sample_continuations(model, tokenizer, prompts, SAMPLES, new_tokens=NEW_TOKENS, seed=seed)


def _filled(readings: LanguageReadings) -> list[list[str]]:
    assert readings.holdings.masked is not None
    seed = readings.seed
    return fill_words(
        *readings.holdings.masked, readings.read("texts"), count=NEIGHBOUR_COUNT, share=NEIGHBOUR_SHARE, seed=seed
    )


LANGUAGE_READERS: Mapping[str, LanguageReader] = {
    "texts": LanguageReader((), lambda r: r.cut(r.texts)),
    "target": LanguageReader((), lambda r: r.of(r.model, r.texts)),
    "lowered": LanguageReader((), lambda r: r.of(r.model, [each.lower() for each in r.read("texts")])),
    "reference": LanguageReader(("reference",), lambda r: r.of(r.holdings.reference, r.texts)),
    "self_reference": LanguageReader(("self_reference",), lambda r: r.of(r.holdings.self_reference, r.texts)),
    "filled_texts": LanguageReader(("masked",), _filled),
    "filled": LanguageReader(("masked",), lambda r: neighbour_statistics(r, r.model, "filled_texts")),
    "self_reference_filled": LanguageReader(
        ("masked", "self_reference"), lambda r: neighbour_statistics(r, r.holdings.self_reference, "filled_texts")
    ),
    "swapped_texts": LanguageReader(
        (), lambda r: swap_words(r.read("texts"), count=NEIGHBOUR_COUNT, share=NEIGHBOUR_SHARE, seed=r.seed)
    ),
    "swapped": LanguageReader((), lambda r: neighbour_statistics(r, r.model, "swapped_texts")),
    "self_reference_swapped": LanguageReader(
        ("self_reference",), lambda r: neighbour_statistics(r, r.holdings.self_reference, "swapped_texts")
    ),
    "noisy": LanguageReader(
        (),
        lambda r: noisy_losses(
            r.model, r.tokenizer, r.texts, copies=NOISY_COPIES, scale=NOISE_SCALE, seed=r.seed, length=r.tokens
        ),
    ),
    "perturbed": LanguageReader(
        (),
        lambda r: perturbed_losses(
            r.model, r.tokenizer, r.texts, models=MOPE_MODELS, scale=MOPE_SCALE, seed=r.seed, length=r.tokens
        ),
    ),
    "gradients": LanguageReader((), lambda r: gradient_norms(r.model, r.tokenizer, r.texts, length=r.tokens)),
    "prefixed": LanguageReader(("nonmembers",), lambda r: after_texts(r, r.holdings.nonmembers)),
    "member_prefixed": LanguageReader(("members",), lambda r: after_texts(r, r.holdings.members)),
    "frequencies": LanguageReader(
        ("nonmembers",), lambda r: token_frequencies(r.tokenizer, r.holdings.nonmembers, vocabulary_size(r.model))
    ),
    "features": LanguageReader((), lambda r: feature_rows(r, r.model, r.texts)),
    "calibration": LanguageReader(("shadow", "nonmembers"), _calibration),
    "generations": LanguageReader((), _generations),
    "embedder": LanguageReader(("reference",), lambda r: r.holdings.embedder or input_embedder(r.holdings.reference)),
}
"""Every reading, by name."""
