"""A record tells what was answered, by what and to whom; a diagnosis only where the policy says so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from golden import make

from medward.guard.answering import decision_digests
from medward.guard.audit.log import read_log, verify_log
from medward.guard.audit.record import AuditRecord
from medward.guard.audit.replay import replay_log
from medward.guard.bundle.folder import load_bundle
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.types import Query, QueryOrigin

ROWS = np.float32([[0.5, -1.0, 2.0], [90.0, -90.0, 90.0]])
UID = "1.2.840.113619.2.55.3"
ORIGIN = QueryOrigin(credential="key:ab12cd34", request="r-1", client="192.0.2.7")
SALT = b"s" * 32


@pytest.fixture
def ask(make_guard):
    """The record and the answer of one query under a policy."""

    def asked(answers="digests", salt=SALT, **query):
        records = []
        policy = Policy(on_error="withhold", screen={"rate": 0.1, "action": "withhold"}, audit={"answers": answers})
        guard = make_guard(policy, audit=records, salt=salt, bundle="b" * 64)
        asks = {"principal": ("clinic", "key-1"), "inputs": ROWS, "study": UID, "origin": ORIGIN, **query}
        answer = guard.answer(Query(**asks))
        return records[-1], answer

    return asked


def test_a_record_names_what_was_asked_by_whom_and_of_what(ask):
    record, answer = ask()
    assert (record["model"], record["bundle"]) == ("linear", "b" * 64)
    assert (record["credential"], record["request"], record["client"]) == ("key:ab12cd34", "r-1", "192.0.2.7")
    assert record["levels"] == ["rounded", "withheld"]
    assert record["answered"] == decision_digests(answer, SALT)
    assert record["answered"][1] is None
    assert AuditRecord.recorded(record).content == record


def test_who_holds_the_salt_can_show_an_answer_and_nobody_else_can_read_one(ask):
    record, answer = ask()
    assert decision_digests(replace(answer, labels=np.array([0, -1])), SALT) != record["answered"]
    assert decision_digests(answer, b"another") != record["answered"]
    again, _ = ask()
    assert again["answered"][0] != record["answered"][0], "equal decisions would be seen to be equal"
    assert again["study"] == record["study"] != ask(study="1.2.3")[0]["study"]
    assert ask(salt=b"another")[0]["study"] != record["study"]
    assert "study" not in ask(study="")[0]


def test_no_diagnosis_score_or_identifier_is_on_record_unless_the_policy_says_so(ask):
    record, answer = ask()
    said = json.dumps(record)
    assert "decisions" not in record
    assert "scores" not in record
    assert UID not in said
    assert answer.spec.task.word(int(answer.labels[0])) not in record.values()
    decided, _ = ask("decisions")
    assert decided["decisions"] == ["c", None]
    assert "scores" not in decided
    whole, answer = ask("scores")
    assert whole["scores"][1] is None
    np.testing.assert_allclose(whole["scores"][0], answer.scores[0])


@pytest.mark.parametrize("text", ["a\nb", "ä", "x" * 129, "\x1b[31m"])
def test_an_origin_is_short_and_printable(text):
    for name in ("credential", "request", "client"):
        with pytest.raises(MedwardError, match=f"origin.{name}"):
            QueryOrigin(**{name: text})


def test_an_unknown_choice_of_what_is_kept_is_refused():
    with pytest.raises(MedwardError, match="audit"):
        Policy.from_toml('on_error = "flag"\n[audit]\nanswers = "pixels"\n')


def test_a_log_of_an_older_release_goes_on_and_replays(tmp_path):
    """The golden log is of a release whose records did not say what was answered."""
    loaded, old = load_bundle(make.HERE / "bundle"), (make.HERE / "audit.jsonl").read_bytes()
    log = tmp_path / "audit.jsonl"
    log.write_bytes(old)
    guard = loaded.guard(state=tmp_path)
    guard.answer(Query(principal=("another", "key"), inputs=np.zeros((1, *loaded.card.spec.shape))))
    records = list(read_log(log))
    assert verify_log(log).records == len(records) == 81
    assert "answered" not in records[0]
    assert records[-1]["bundle"] == loaded.digest
    assert len(records[-1]["answered"]) == 1
    assert replay_log(records, [loaded.policy], loaded.profile).verdicts == 162
