"""The thefts that a model which writes reports must withstand, and others there are by name."""

from __future__ import annotations

from dataclasses import replace

from medward.attacks.extraction.base import Strategy
from medward.attacks.extraction.knockoff import Knockoff
from medward.attacks.extraction.reports.ada_steal import AdaSteal
from medward.attacks.extraction.reports.distillation import TextDistillation
from medward.attacks.extraction.reports.lord import ComparingTheft
from medward.attacks.extraction.theft import Theft


def default_report_thefts() -> tuple[Theft, ...]:
    """Of models that write reports: their texts, by three thieves, and their findings alone, by one who writes none."""
    thief = Theft(strategy=AdaSteal(), labels="text", queries=1000, epochs=10, points=3)
    plain = replace(thief, strategy=TextDistillation())
    return thief, plain, replace(plain, pool_share=0.1), Knockoff(labels="hard", epochs=8, points=3)


def more_report_thefts() -> tuple[Theft, ...]:
    """Thieves of reports that are run when asked for by name: ablations, other images, fainter noise, many accounts."""
    thief = default_report_thefts()[0]
    strategies: tuple[Strategy, ...] = (
        *(AdaSteal(parts=parts) for parts in ("plain", "enrich", "align")),
        *(AdaSteal(epsilon=grey / 255) for grey in (4, 8, 32)),
        TextDistillation(source="in-domain"),
        TextDistillation(source="noise"),
        ComparingTheft(),
    )
    return (
        *(replace(thief, strategy=each) for each in strategies),
        replace(thief, pool_share=0.1),
        replace(thief, accounts=100),
    )
