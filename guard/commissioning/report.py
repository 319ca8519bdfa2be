"""What the audit log says of each commissioning: when it ran, how many it answered, and which words were said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medward.guard.commissioning.period import BEGAN, COMMISSIONED, ENDED, RESUMED
from medward.guard.errors import IntegrityError


@dataclass(slots=True, kw_only=True)
class CommissioningReport:
    """A report of one commissioning: `words` has how many rows each word was said of, in the log's order.

    `ended` is "" where its end is not on record: it still runs, or nobody asked since.
    """

    number: int
    organisation: str = ""
    began: str = ""
    until: str = ""
    ended: str = ""
    why: str = ""
    restarts: int = 0
    queries: int = 0
    rows: int = 0
    words: dict[str, int] = field(default_factory=dict)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The report in words."""
        ended = (
            f"ended {self.ended} ({self.why})"
            if self.ended
            else f"its end is not on record, and was to be {self.until}"
        )
        restarts = f", {self.restarts} restarts" if self.restarts else ""
        head = f"commissioning {self.number} of {self.organisation}: began {self.began}, {ended}{restarts}"
        said = [f"{word}: {rows} rows" for word, rows in sorted(self.words.items(), key=lambda each: -each[1])]
        return (head, f"{self.queries} queries, {self.rows} answers", *(said or ["nothing was strange"]))


def commissioning_reports(records: Iterable[Mapping[str, Any]]) -> list[CommissioningReport]:
    """One report for each commissioning in the log, in order. Raises `IntegrityError` for a record no guard writes."""
    found: dict[int, CommissioningReport] = {}
    for record in records:
        event = record.get("event")
        if event not in (BEGAN, RESUMED, ENDED, COMMISSIONED):
            continue
        try:
            number = int(record["commissioning"])
            report = found.setdefault(number, CommissioningReport(number=number))
            if event == COMMISSIONED:
                report.organisation = report.organisation or str(record["principal"]).split("/")[0]
                report.queries += 1
                report.rows += len(record["inputs"])
                for word, rows in record["words"].items():
                    report.words[word] = report.words.get(word, 0) + int(rows)
            else:
                report.organisation = str(record["organisation"])
                if event == ENDED:
                    report.ended, report.why = str(record["time"]), str(record["why"])
                else:
                    report.until = str(record["until"])
                    report.began = report.began or str(record["time"])
                    report.restarts += event == RESUMED
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"record {record.get('seq')}: not one of a commissioning: {error!r}") from None
    return [found[number] for number in sorted(found)]
