"""A record is read as it was written, and a request is what was let in."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.arrows import ROOT
from support.models import LinearModel

from medward.guard.audit.chain import CHAIN
from medward.guard.audit.log import read_log
from medward.guard.audit.record import AuditRecord, account_reset, is_query_record, model_failure
from medward.guard.errors import MedwardError
from medward.guard.request import Request
from medward.guard.types import Query

SPEC = LinearModel().spec


def test_every_record_of_a_log_is_read_and_written_back_the_same():
    records = list(read_log(ROOT / "tests/golden/audit.jsonl"))
    assert len(records) == 80
    for record in records:
        assert is_query_record(record)
        read = AuditRecord.recorded(record)
        written = {**read.content, **{name: record[name] for name in CHAIN}}
        assert json.dumps(written, sort_keys=True) == json.dumps(record, sort_keys=True)
        assert (read.seq, read.time) == (record["seq"], record["time"])
        assert read.accounts == ("hospital", record["principal"])


def test_what_is_no_record_of_a_query_is_refused():
    record = next(read_log(ROOT / "tests/golden/audit.jsonl"))
    for name in ("principal", "policy", "inputs", "verdicts"):
        with pytest.raises(KeyError):
            AuditRecord.recorded({key: value for key, value in record.items() if key != name})
    for name, wrong in (("principal", 3), ("bets", [1]), ("verdicts", [{"source": "screen"}])):
        with pytest.raises((KeyError, TypeError, ValueError)):
            AuditRecord.recorded({**record, name: wrong})
    assert not is_query_record(account_reset("clinic"))
    assert not is_query_record(model_failure("clinic", ["ab"]))


def test_a_request_has_one_spelling_of_who_asks_and_digests_that_the_salt_keys():
    query = Query(principal=("Clinic", "Ward 1"), inputs=[[1, 2, 3], [1, 2, 3], [3, 2, 1]], study="s")
    one, other = (Request.admit(query, SPEC, salt) for salt in (b"one", b"other"))
    assert (one.accounts, one.account, one.organisation, one.study) == (
        ("clinic", "clinic/ward 1"),
        "clinic/ward 1",
        "clinic",
        "s",
    )
    assert one.digests[0] == one.digests[1] != one.digests[2]
    assert not set(one.digests) & set(other.digests)
    assert one.id != other.id
    assert Request.admit(Query(principal=("a",), inputs=[[1, 2, 3]], id="mine"), SPEC, b"").id == "mine"


def test_what_the_model_does_not_take_is_not_let_in():
    for principal, inputs in ((("a",), np.zeros((1, 4))), ((), np.zeros((1, 3))), (("a/b",), np.zeros((1, 3)))):
        with pytest.raises(MedwardError):
            Request.admit(Query(principal=principal, inputs=inputs), SPEC, b"")
