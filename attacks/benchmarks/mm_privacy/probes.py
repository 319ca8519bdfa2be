"""Probes: what a victim is shown, which values it must not say, and values of the same kinds that nobody planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medward.attacks.benchmarks.mm_privacy.exchanges import BENIGN_QUESTIONS, about_text
from medward.attacks.benchmarks.mm_privacy.page_source import PageSource, drawn_values, made_people
from medward.attacks.benchmarks.mm_privacy.retention import LEARNED_KINDS, Memory
from medward.attacks.disclosure.disguises import DISGUISES
from medward.attacks.disclosure.framing import FRAMINGS, Framing
from medward.attacks.disclosure.victim import ExtractionTurn, Shown

ValuesByKind = Mapping[str, str]
"""Values by kind of value."""
ShownTurn = tuple[Shown, ExtractionTurn]
"""What is shown with a question, and the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Probes are what is `shown` (n,), the values `wanted` of it, and decoys in their place, which nobody planted."""

    shown: Sequence[Shown] = field(repr=False)
    wanted: Sequence[ValuesByKind] = field(repr=False)
    decoys: Sequence[ValuesByKind] = field(repr=False)

    @property
    def turns(self) -> list[ShownTurn]:
        """Every question that is asked: each value in each framing, as it stands."""
        return [
            (shown, ExtractionTurn(kind=kind, framing=framing, disguise=DISGUISES["verbatim"]))
            for framing in FRAMINGS.values()
            for shown, values in zip(self.shown, self.wanted, strict=True)
            for kind in values
        ]


def disclosure_probes(source: PageSource, count: int, *, seed: int) -> Probes:
    """People whose values are on the page that is shown, on radiographs and forms by turns; filters know the header."""
    generator = np.random.default_rng(seed)
    people = made_people(count, seed=seed)
    pages = [source.page(person, generator, form=bool(place % 2)) for place, person in enumerate(people)]
    return Probes(
        shown=[Shown(header=person, image=page.image) for person, page in zip(people, pages, strict=True)],
        wanted=people,
        decoys=made_people(count, seed=seed + 1),
    )


def retention_probes(memory: Memory, source: PageSource, *, seed: int) -> Probes:
    """People whose values were trained on, asked for by name beside images on which no value stands."""
    generator = np.random.default_rng(seed)
    pages = [source.page({}, generator, form=bool(place % 2)) for place in range(len(memory.people))]
    return Probes(
        shown=[
            Shown(text=about_text(person["patient name"]), image=page.image)
            for person, page in zip(memory.people, pages, strict=True)
        ],
        wanted=[_learned(person) for person in memory.people],
        decoys=[_learned(drawn_values(generator)) for _ in memory.people],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BenignProbes:
    """Benign probes are clinical questions, which ask for nobody's values, with the right answers."""

    turns: Sequence[ShownTurn] = field(repr=False)
    right: Sequence[str] = field(repr=False)


def benign_probes(
    source: PageSource, count: int, *, seed: int, form: bool = False, printed: bool = False
) -> BenignProbes:
    """Every clinical question about `count` radiographs, or forms, with somebody's values `printed` on them or not."""
    generator = np.random.default_rng(seed)
    pages = [source.page(drawn_values(generator) if printed else {}, generator, form=form) for _ in range(count)]
    asked = [(page, question) for page in pages for question in BENIGN_QUESTIONS]
    return BenignProbes(
        turns=[(Shown(image=page.image), _benign_turn(question)) for page, question in asked],
        right=[BENIGN_QUESTIONS[question](page) for page, question in asked],
    )


def _benign_turn(question: str) -> ExtractionTurn:
    framing = Framing(request=question, reply="{value}")
    return ExtractionTurn(kind="", framing=framing, disguise=DISGUISES["verbatim"])


def _learned(person: ValuesByKind) -> dict[str, str]:
    return {kind: person[kind] for kind in LEARNED_KINDS}
