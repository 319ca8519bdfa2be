"""What `medward demo` says of a thief; the whole of it is run by tests/benchmarks/demo.py."""

from datetime import UTC, datetime

import pytest

from medward.attacks.validation.finding import Finding, Status
from medward.guard.errors import MedwardError
from medward.integrations.cli.demo import DAYS, accepted_theft, copy_words


class Judged:
    def __init__(self, *findings):
        self.findings = findings


def finding(attack, family, agreed, status=Status.BROKEN):
    curves = {"adaptive": {"clone": ((125.0, 250.0, 500.0), tuple(agreed))}} if agreed else {}
    return Finding.model_construct(attack=attack, family=family, curves=curves, status=status)


@pytest.mark.parametrize(
    ("agreed", "said"),
    [
        ((0.8, 0.96, 0.99), "agrees on 95% after 250 answers"),
        ((0.6, 0.7, 0.8), "does not agree on 95% after 500 answers"),
    ],
)
def test_a_theft_is_accepted_by_the_answers_that_it_took_before_hardening(agreed, said):
    theft = finding("knockoff-soft", "extraction", agreed)
    unjudged = finding("in-domain-soft", "extraction", agreed, Status.NOT_APPLICABLE)
    found = accepted_theft(Judged(theft, unjudged, finding("pgd", "evasion", ())))
    assert [each.attack for each in found] == ["knockoff-soft"], "nothing else is accepted"
    assert found[0].reason.endswith(f"; of the model before hardening the copy {said}")
    assert copy_words(theft) == said, "as it is told of the deployed one"
    assert 0 < (found[0].until - datetime.now(UTC).date()).days <= DAYS


def test_a_theft_that_was_not_measured_is_not_told_as_one_that_failed():
    with pytest.raises(MedwardError, match="knockoff-soft: no copy was measured"):
        accepted_theft(Judged(finding("knockoff-soft", "extraction", ())))
