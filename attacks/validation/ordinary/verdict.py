"""What a validation says of ordinary behaviour: which forgiven one the guard acts upon, and where nobody can tell.

Only the good end of an interval shows that a guard acts upon a behaviour, and that end is corrected for how many
behaviours are looked at (Bonferroni). The bad end takes more accounts than a validation has time for, so a behaviour
for which none was acted upon is INCONCLUSIVE, and no attack's row is judged by that: what bounds false alarms of
independent visits is the e-process, and what was measured on many accounts stands in ``docs/ordinary.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

from medward.attacks.intervals import LEVEL, clopper_pearson
from medward.attacks.validation.finding import OrdinaryCost, Status

_NAMED = 3
"""Behaviours that a sentence names."""


def acted_upon(costs: Sequence[OrdinaryCost], bound: float) -> tuple[tuple[OrdinaryCost, float], ...]:
    """The forgiven behaviours of which more accounts than `bound` are acted upon for sure, worst first, and the least
    share that is.
    """
    forgiven = [cost for cost in costs if cost.forgiven]
    level = 1 - (1 - LEVEL) / max(1, len(forgiven))
    least = [
        (cost, clopper_pearson(round(cost.acted.value * cost.acted.n), cost.acted.n, level).low) for cost in forgiven
    ]
    return tuple(sorted((each for each in least if each[1] > bound), key=lambda each: -each[1]))


def ordinary_status(cost: OrdinaryCost, costs: Sequence[OrdinaryCost], bound: float) -> Status:
    """The status of one of `costs`; NOT_APPLICABLE of what the policy is not meant to forgive."""
    if not cost.forgiven:
        return Status.NOT_APPLICABLE
    if any(cost is each for each, _ in acted_upon(costs, bound)):
        return Status.BROKEN
    return Status.HELD if cost.acted.high <= bound else Status.INCONCLUSIVE


def told_ordinary(costs: Sequence[OrdinaryCost], bound: float) -> str:
    """What came of it, in a line while a validation runs."""
    acted, forgiven = len(acted_upon(costs, bound)), sum(cost.forgiven for cost in costs)
    return f"{acted} of {forgiven} that are meant to be forgiven were acted upon"


def ordinary_harm(costs: Sequence[OrdinaryCost], bound: float) -> tuple[str, ...]:
    """A sentence that names the behaviours that the guard acts upon, the worst first; none where it acts upon none."""
    acted = acted_upon(costs, bound)
    if not acted:
        return ()
    named = ", ".join(f'"{cost.behaviour}" (at least {least:.1%} of accounts)' for cost, least in acted[:_NAMED])
    more = f" and {len(acted) - _NAMED} more" if len(acted) > _NAMED else ""
    return (
        f"The guard acts upon ordinary behaviour that it is meant to forgive: {named}{more} are coarsened or withheld, "
        f"the bound is {bound:.1%}.",
    )
