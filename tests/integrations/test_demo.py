"""What `medward demo` says of a thief; the whole of it is run by tests/benchmarks/demo.py."""

from datetime import UTC, datetime

import pytest

from medward.attacks.validation.finding import Finding
from medward.integrations.cli.demo import DAYS, accepted_theft


class Judged:
    def __init__(self, *findings):
        self.findings = findings


def finding(attack, family, agreed):
    curves = {"adaptive": {"clone": ((125.0, 250.0, 500.0), tuple(agreed))}} if agreed else {}
    return Finding.model_construct(attack=attack, family=family, curves=curves)


@pytest.mark.parametrize(
    ("agreed", "said"),
    [
        ((0.8, 0.96, 0.99), "the copy agrees on 95% after 250 answers"),
        ((0.6, 0.7, 0.8), "the copy never agrees on 95%"),
        ((), "the copy never agrees on 95%"),
    ],
)
def test_a_theft_is_accepted_by_the_answers_that_it_took(agreed, said):
    found = accepted_theft(Judged(finding("knockoff-soft", "extraction", agreed), finding("pgd", "evasion", ())))
    assert [each.attack for each in found] == ["knockoff-soft"], "nothing else is accepted"
    assert said in found[0].reason
    assert 0 < (found[0].until - datetime.now(UTC).date()).days <= DAYS
