"""What may leave of a report: its text as ``[privacy]`` says, and none that would say other findings than the model's.

Filters replace identifiers and training text by marks. Where a mark takes the words of a finding, or of its negation,
reading what is left gives other findings: such a text does not stand, and its findings leave alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from medward.guard.errors import MedwardError
from medward.guard.privacy_policy import PrivacyPolicy
from medward.guard.release.privacy_filters import PrivacyFilters
from medward.guard.release.redaction_stream import RedactionStream
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Action, Level, Verdict

if TYPE_CHECKING:  # need the extra `text`
    from medward.guard.release.memory.memory_filter import MemoryFilter
    from medward.guard.release.text.known import KnownIdentifiers

REPORT_FILTER = "report-filter"
"""The part that says what filters took out of texts."""


@dataclass(frozen=True, slots=True)
class FilteredReports:
    """Filtered reports are the texts that leave, row by row, None where none does, at which levels, and a verdict."""

    texts: tuple[str | None, ...]
    levels: tuple[Level, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFilter:
    """A report filter takes out of the texts of a `task` what the filters of ``[privacy]`` find.

    Guarantee: reading a text that it lets leave gives the findings of the model's own text.
    Each text is a conversation of its own: it is about one image, whoever asks.
    """

    task: WrittenReport
    filters: PrivacyFilters

    @classmethod
    def of(cls, privacy: PrivacyPolicy, level: Level, spec: ModelSpec, memory: MemoryFilter | None) -> Self | None:
        """The filter that `privacy` asks for, None where no text leaves, for the model writes none or at no `level`.

        Raises `MedwardError` for a memory filter that would do nothing, and for a policy that takes nothing out.
        """
        if not isinstance(spec.task, WrittenReport) or level is not Level.FULL:
            if memory is not None:
                raise MedwardError(
                    f"memory: {spec.name} lets no text leave (it {spec.task.rule}; release.level = {level.label!r}); "
                    "leave the memory filter out"
                )
            return None
        return cls(task=spec.task, filters=PrivacyFilters(privacy, memory=memory))

    def open(self, known: KnownIdentifiers | None = None) -> RedactionStream:
        """A stream for one text, about a patient of whom these identifiers are `known`."""
        return self.filters.conversation(known).answer()

    def stands(self, written: str, filtered: str) -> bool:
        """Whether a `filtered` text says of every finding what was `written`."""
        if written == filtered:
            return True
        return self.task.said_in(written) == self.task.said_in(filtered)

    def filtered(
        self, texts: Sequence[str], levels: Sequence[Level], known: Sequence[KnownIdentifiers | None] = ()
    ) -> FilteredReports:
        """What leaves of `texts` at their `levels`: one that does not stand leaves as its findings alone."""
        left: list[str | None] = []
        told: list[Level] = []
        replaced = 0
        for row, (text, level) in enumerate(zip(texts, levels, strict=True)):
            stream = self.open(known[row] if known else None) if level is Level.FULL else None
            filtered = None if stream is None else stream.redact(text)
            stands = filtered is not None and self.stands(text, filtered.text)
            replaced += 0 if filtered is None else len(filtered.spans)
            left.append(filtered.text if filtered is not None and stands else None)
            told.append(level if filtered is None or stands else Level.LABEL)
        return FilteredReports(tuple(left), tuple(told), filter_verdict(replaced, sum(map(_coarser, levels, told))))


def filter_verdict(replaced: int, changed: int) -> Verdict:
    """How many parts of texts were replaced, and of how many texts the findings alone are left for it."""
    action = Action.COARSEN if changed else Action.ALLOW
    return Verdict(
        part=REPORT_FILTER, action=action, evidence={"replaced": float(replaced), "findings_changed": float(changed)}
    )


def _coarser(level: Level, told: Level) -> bool:
    return told > level
