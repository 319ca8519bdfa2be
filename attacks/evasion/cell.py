"""How evasion is judged: at its worst radius, on all rows or balanced over classes, and on the rows of each class.

An attack that leaves nothing of one class breaks a model however rare that class is: emptying one is a strong attack on
the undefended model. Behind the guard it takes less: fooling half of a class is BROKEN, whatever the share of all rows.
An attack that owes its strength to one class must also be held on that class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from medward.attacks.checks import is_of_no_use
from medward.attacks.evasion.ceiling import Ceiling
from medward.attacks.evasion.certificate_notes import is_about_search
from medward.attacks.evasion.class_shares import Classes, empties_class
from medward.attacks.evasion.control import EVASION_SUCCESS
from medward.attacks.evasion.proof import CertificateProof
from medward.attacks.intervals import Interval
from medward.attacks.validation.certified_share import BY_PROOF
from medward.attacks.validation.finding import Arm
from medward.attacks.validation.gate import ATTACKERS, NO_ROW, JudgedCell
from medward.attacks.validation.sample_size import short_groups, shortage_words
from medward.guard.policy import GatePolicy

MORE_DENIED = "more certificates were taken away than bounds allow, so that these are not to be relied on"
"""The flag of a cell whose proof of denial does not fit what was found."""


@dataclass(frozen=True, kw_only=True)
class EvasionCell(JudgedCell):
    """An evasion cell holds shares of rows fooled; its baseline is random noise of the same size.

    `classes` gives the arms, and `noise_classes` the noise, class by class. `labelled` are how many rows of each class,
    as labelled, an arm was judged on. `freely` is what the undefended model loses where the radius is taken row by row.
    `control` is the share that the same attack fools of the undefended model with
    `control_times` the room, `control_noise` that of noise there, either also class by class. `ceiling` is what no
    classifier exceeds on the rows, where each is changed for itself. `proof` is what certificates prove of every attack
    within the radius, `contradictions` how many rows behind the guard one fooled all the same, `about_rows` the flags
    that say something of the rows and not of the search; `proven` marks a cell in which the proof took the place of
    what was found.
    """

    classes: Mapping[Arm, Classes] = field(default_factory=dict)
    noise_classes: Classes = field(default_factory=dict)
    labelled: Mapping[Arm, Mapping[str, int]] = field(default_factory=dict)
    ceiling: Ceiling | None = None
    freely: Interval | None = None
    control: Interval | None = None
    control_times: float = 1.0
    control_noise: Interval | None = None
    control_classes: Classes = field(default_factory=dict)
    control_noise_classes: Classes = field(default_factory=dict)
    proof: CertificateProof | None = None
    about_rows: tuple[str, ...] = ()
    proven: bool = False

    def words(self, value: float) -> str:
        """A share, plain or balanced."""
        return f"{value:.1%} fooled"

    def settled(self, gate: GatePolicy) -> EvasionCell:
        """By proof nothing is fooled, nothing rests on how strong a search was, and denial has a limit.

        Only where that limit is within the bound of `gate` and nothing contradicts the proof. What was refused stays.
        """
        if self.proof is None or self.contradictions or not self.proof.bounds_denial(gate):
            return self
        if any(share.low > self.proof.most_deniable for share in self.denied.values()):
            return replace(self, flags=(*self.flags, MORE_DENIED))
        return replace(
            self,
            proven=True,
            guarded=_nothing_of(self.guarded),
            adaptive=_nothing_of(self.adaptive),
            classes={},
            labelled={},
            denied=dict.fromkeys(self.denied, self.proof.deniable),
            denied_classes={},
            flags=tuple(flag for flag in self.flags if flag in self.about_rows or is_of_no_use(flag)),
            notes=tuple(note for note in self.notes if not is_about_search(note)),
        )

    def too_weak(self) -> tuple[str, ...]:
        """It must fool half of the rows, or nearly all of one class, and more than noise does; not where it is proven
        that nothing does.
        """
        seen, noise = self.undefended, self.baseline
        if seen is None:
            return (NO_ROW,)
        if self.proven or self._breaks() or self.proven_emptied():
            return ()
        reasons = []
        if seen.low < EVASION_SUCCESS:
            reasons.append(
                f"The attack is too weak: it fools {seen.low:.1%} of rows at least on the undefended model, "
                f"{EVASION_SUCCESS:.0%} is needed, or nearly all rows of one class."
            )
        if noise is None:
            reasons.append("There is no random noise beside the attack to compare with.")
        elif seen.low <= noise.high:
            reasons.append(
                "The attack is no better than random noise of the same size, "
                f"which fools up to {noise.high:.1%} of rows."
            )
        if self.proof is not None and not self.contradictions:
            reasons.append(
                "By proof no certified answer is changed, but not that enough stay certified: of up to "
                f"{self.proof.deniable.high:.1%} of certified rows, or of more of a class, certificates can be taken."
            )
        return tuple(reasons)

    def at_work(self, limit: float) -> bool:
        """With more room it breaks the model; where it passes the bound unguarded, it does more than noise does."""
        seen, noise = self.undefended, self.baseline
        if seen is None or noise is None or not self._works():
            return False
        return seen.value <= limit or seen.low > noise.high

    def rows_missing(self, arm: Arm, interval: Interval, limit: float) -> str:
        """Which rows are fewer than were planned for the bound; empty where they are not."""
        counts = self.labelled.get(arm) or {"": interval.n}
        return "; ".join(
            shortage_words(f'rows labelled "{name}"' if name else "rows", needed, given)
            for name, (needed, given) in short_groups(counts, limit).items()
        )

    def rows_to_give(self, limit: float) -> dict[str, int]:
        """What is missing of the rows that were planned for the bound, label by label."""
        fewest: dict[str, int] = {}
        for counts in self.labelled.values():
            fewest |= {name: min(given, fewest.get(name, given)) for name, given in counts.items()}
        return {name: needed - given for name, (needed, given) in short_groups(fewest, limit).items()}

    def no_leak(self, limit: float, gate: GatePolicy) -> tuple[str, tuple[str, ...]]:
        """The bare model's upper end lies within the bound, and with more room the same attack breaks it."""
        seen, control = self.freely or self.undefended, self.control
        if seen is None or seen.value > limit:
            return "", ()
        if control is None or not self._works():
            found = "was not run" if control is None else f"fools {max(0.0, control.low):.1%} at least"
            return "", (
                f"That the model needs no defense is not shown either: with {self.control_times:g} times the room the "
                f"same attack {found}, {EVASION_SUCCESS:.0%} is needed, or that of one class, and more than noise.",
            )
        if seen.high > limit:
            return "", ()
        return (
            f"No defense is needed: even without the guard at most {self.words(seen.high)}, the bound is "
            f"{self.words(limit)}; with {self.control_times:g} times the room the same attack fools at least "
            f"{self._won_by_control()}."
        ), ()

    def no_leak_shortages(self, limit: float, gate: GatePolicy) -> tuple[str, ...]:
        """Rows that would take the bare model's upper end into the bound."""
        seen = self.freely or self.undefended
        if seen is None or not self._works() or not seen.value <= limit < seen.high:
            return ()
        missing = self.rows_missing("undefended", seen, limit)
        return (f"The undefended model: up to {self.words(seen.high)}; {missing}.",) if missing else ()

    def passing(self, limit: float) -> tuple[str, ...]:
        """With the reason why no classifier could do better, where that is so."""
        found = super().passing(limit)
        excuse = "" if self.ceiling is None else self.ceiling.sentence(limit)
        return (*found, excuse) if found and excuse else found

    def passing_in_part(self, arm: Arm, limit: float) -> tuple[str, ...]:
        """A class of which half is fooled shows it too, though the share of all rows may stay within the `limit`."""
        return tuple(
            f"{ATTACKERS[arm]} passes the guard: {_of_class(name, share)}, though the share of all rows may be "
            f"within the bound of {limit:.1%}."
            for name, share in self.classes.get(arm, {}).items()
            if share.low >= EVASION_SUCCESS and share.low > limit
        )

    def doubts(self, arm: Arm, limit: float, gate: GatePolicy) -> tuple[str, ...]:
        """What of single classes keeps an arm from holding, and more rows would not settle."""
        return tuple(said for said, missing in self._class_doubts(arm, limit) if not missing)

    def shortages(self, arm: Arm, limit: float, gate: GatePolicy) -> tuple[str, ...]:
        """What more rows of single classes would settle."""
        return tuple(f"{said[:-1]}; {missing}." for said, missing in self._class_doubts(arm, limit) if missing)

    def _class_doubts(self, arm: Arm, limit: float) -> Iterator[tuple[str, str]]:
        """What of single classes keeps an arm from holding, each with what rows of it are missing, if they are."""
        alone, shares = self._judged_alone(), self.classes.get(arm, {})
        for name, lost in shares.items():
            if lost.high >= EVASION_SUCCESS and lost.low > limit and name not in alone:
                said = (
                    f'{ATTACKERS[arm]} fools {lost.value:.1%} of the {lost.n} rows of class "{name}", at least '
                    f"{lost.low:.1%} and at most {lost.high:.1%}: that half of the class is fooled cannot be excluded."
                )
                yield said, _class_missing(name, lost, limit)
        for name in alone:
            share = shares.get(name)
            if share is None:
                yield f'{ATTACKERS[arm]} was judged on no row of class "{name}", which it empties unguarded.', ""
            elif share.high > limit:
                said = (
                    f'{ATTACKERS[arm]}, on class "{name}" alone, which it empties unguarded: {max(0.0, share.low):.1%} '
                    f"to {share.high:.1%} of its rows, the bound is {self.words(limit)}."
                )
                yield said, _class_missing(name, share, limit)

    def holding(self, limit: float) -> str:
        """By proof, where there is one."""
        if not self.proven or self.proof is None:
            return super().holding(limit)
        return (
            f"{BY_PROOF}: no attack within the certified radius changes a certified answer, however strong it is; of "
            f"at most {self.proof.deniable.high:.1%} of certified rows it can take the certificate; what screens "
            "refuse is only what this attack had refused."
        )

    def alone(self) -> str:
        """The classes it owes its strength to, or what shows that it has any."""
        if self.too_weak() and self.control is not None:
            return (
                f", of an attack that fools the bare model at {self.control_times:g} times the radius: at least "
                f"{self._won_by_control()} there"
            )
        return "".join(
            f', and of class "{name}", which is emptied unguarded, at most '
            f"{max(self.classes[arm][name].high for arm in self.compared):.1%}"
            for name in self._judged_alone()
        )

    def proven_emptied(self) -> tuple[str, ...]:
        """The classes that the attack empties on the undefended model, and random noise of the same size does not."""
        noise = self.noise_classes
        return tuple(
            name
            for name, share in self.classes.get("undefended", {}).items()
            if empties_class(share) and name in noise and share.low > noise[name].high
        )

    def _works(self) -> bool:
        """Whether the control shows the attack at work."""
        return bool(self._won_by_control())

    def _won_by_control(self) -> str:
        """What the control fools: half of the rows, or of one class, and more of them than noise of its size does.

        Empty where it does not. One change for all rows moves those of two classes one way, so it can win no more than
        one of them.
        """
        pairs: dict[str, tuple[Interval | None, Interval | None]] = {"of rows": (self.control, self.control_noise)}
        for name, won in self.control_classes.items():
            pairs[f'of class "{name}"'] = won, self.control_noise_classes.get(name)
        for of, (share, noise) in pairs.items():
            if share is not None and noise is not None and share.low >= EVASION_SUCCESS and share.low > noise.high:
                return f"{share.low:.1%} {of}"
        return ""

    def _breaks(self) -> bool:
        """Whether it fools half of all rows of the undefended model, and more than random noise does."""
        seen, noise = self.undefended, self.baseline
        return seen is not None and noise is not None and seen.low >= EVASION_SUCCESS and seen.low > noise.high

    def _judged_alone(self) -> tuple[str, ...]:
        """The classes that an attack owes its strength to, and so must be held on."""
        return () if self._breaks() else self.proven_emptied()


def _nothing_of(share: Interval | None) -> Interval | None:
    """No row at all, of as many as there were."""
    return None if share is None else Interval(0.0, 0.0, 0.0, share.n)


def _class_missing(name: str, share: Interval, limit: float) -> str:
    """How many rows of a class are missing, in words; empty where as many as were planned did not settle it."""
    found = short_groups({name: share.n}, limit)
    return "".join(shortage_words("rows of it", *numbers) for numbers in found.values())


def _of_class(name: str, share: Interval) -> str:
    """How much of a class is fooled, in words."""
    fooled = "every row" if share.value == 1 else f"{share.value:.1%} of the rows"
    verb = "is" if share.value == 1 else "are"
    return f'{fooled} of class "{name}" {verb} decided otherwise ({share.n} rows, so at least {share.low:.1%})'
