"""A report that leaves piece by piece: admitted, charged and on record before a word, and its end on record too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import LinearModel
from support.report_models import CornerWriter, report_guard, report_images, report_model, report_policy
from support.streaming_process import LENGTH, WHO, streaming_guard

from medward.guard.audit.log import read_log, verify_log
from medward.guard.audit.record import AuditRecord
from medward.guard.audit.replay import replay_log
from medward.guard.errors import MedwardError, ModelError, UnavailableError
from medward.guard.pipeline import Guard
from medward.guard.release.text import IdentifierKind, KnownIdentifiers
from medward.guard.report_filter import REPORT_FILTER, ReportFilter
from medward.guard.types import Level, Query

ROW = report_images(1, 5)
PHI = " Read by Dr. John Smith, MRN 4471923. " + "The trachea is midline. " * 30
CALM = report_policy(screen={"action": "allow"})
TESTS = Path(__file__).resolve().parents[1]


class Log:
    def __init__(self, fail_at=None):
        self.records, self.fail_at = [], fail_at

    def append(self, record):
        if len(self.records) == self.fail_at:
            raise UnavailableError("disk full")
        self.records.append(json.loads(json.dumps({**record, "seq": len(self.records) + 1})))


@pytest.fixture(scope="module")
def made():
    model = report_model(PHI, length=2000)
    return model, report_guard(model).profile


@pytest.fixture
def make(made):
    def build(policy=CALM, audit=None, model=None):
        return Guard(model=model or made[0], profile=made[1], policy=policy, audit=audit, salt=b"s")

    return build


def begin(guard, row=ROW, who=WHO, **more):
    return guard.stream(Query(principal=who, inputs=row, **more))


@settings(max_examples=12)
@given(seed=st.integers(0, 1000))
def test_the_pieces_are_the_text_of_the_whole_answer(made, seed):
    guard = Guard(model=made[0], profile=made[1], policy=CALM, salt=b"s")
    row = report_images(1, seed)
    stream = begin(guard, row)
    pieces = list(stream)
    whole = guard.answer(Query(principal=WHO, inputs=row))
    assert len(pieces) > 1
    assert stream.answer.texts == whole.texts == ("".join(pieces),)
    assert stream.answer.labels.tolist() == whole.labels.tolist()
    assert stream.answer.levels == whole.levels == (Level.FULL,)
    np.testing.assert_array_equal(stream.answer.scores, whole.scores)
    assert "Smith" not in whole.texts[0]


def test_nothing_is_written_before_it_is_admitted_charged_and_on_record(make, made):
    guard = make(report_policy(screen={"action": "allow"}, budget={"total_bits": 90_000, "parents": 0}), log := Log())
    before = made[0].function.written
    stream = begin(guard, id="q")
    assert made[0].function.written == before
    (record,) = log.records
    assert record["levels"] == ["full"]
    assert record["stream"]
    (paid,) = (each for each in AuditRecord.recorded(record).verdicts if each.part == "leakage")
    assert paid.evidence["bits_total"] == pytest.approx(2000 * 8, abs=0.1)
    next(stream)
    assert made[0].function.written == before + 1
    assert log.records == [record]
    text = "".join(stream)
    assert text
    end = log.records[1]
    assert end["event"] == "report ended"
    assert end["ended"] == "finished"
    assert (end["stream"], end["query"], end["principal"]) == (record["stream"], "q", "/".join(WHO))
    assert end["findings"] == stream.answer.decisions[0]
    assert end["replaced"] >= 2
    assert len(log.records) == 2
    assert not any(word in json.dumps(log.records) for word in ("Smith", "trachea", "4471923"))


def test_the_last_piece_leaves_once_the_end_is_on_record(make):
    stream = begin(make(audit=(log := Log(fail_at=1))))
    pieces = []
    with pytest.raises(UnavailableError):
        pieces.extend(iter(lambda: next(stream), None))
    with pytest.raises(MedwardError, match="has not ended"):
        _ = stream.answer
    assert next(stream, "no more") == "no more"
    assert len(log.records) == 1


def test_whoever_stops_leaves_a_charged_entry_that_says_so(make, made):
    guard = make(audit=(log := Log()))
    with begin(guard) as stream:
        first = next(stream)
    assert first
    assert [each.get("ended") for each in log.records] == [None, "stopped"]
    assert log.records[1]["findings"] is None
    assert list(stream) == []
    stream.close()
    assert len(log.records) == 2
    begin(guard).close()  # before a word
    assert log.records[3]["written"] == 0
    replayed = replay_log(log.records, [guard.policy], made[1])
    assert replayed.unfinished == [1, 3]
    list(begin(guard))
    assert replay_log(log.records, [guard.policy], made[1]).unfinished == [1, 3]  # the control: this one finished
    assert replayed.verdicts == 4


def test_a_stream_and_a_whole_answer_are_judged_alike(make, made):
    kept = {}
    for how in ("stream", "answer"):
        guard = make(audit=(log := Log()))
        for seed in range(4):
            row = report_images(1, seed)
            if how == "stream":
                list(begin(guard, row))
            else:
                guard.answer(Query(principal=WHO, inputs=row))
        queries = [each for each in log.records if "verdicts" in each]
        kept[how] = [(each["p_values"], each["bets"], each["inputs"], each["levels"]) for each in queries]
    assert kept["stream"] == kept["answer"]


def test_at_level_label_the_findings_leave_and_no_piece(make):
    guard = make(report_policy(screen={"action": "allow"}, release={"level": "label"}), log := Log())
    stream = begin(guard)
    assert stream.level is Level.LABEL
    assert list(stream) == []
    assert stream.answer.texts == (None,)
    whole = guard.answer(Query(principal=WHO, inputs=ROW))
    assert stream.answer.labels.tolist() == whole.labels.tolist()
    assert log.records[1]["left"] == 0


def test_what_is_withheld_is_not_written(make, made):
    guard = make(report_policy(screen={"action": "withhold", "rate": 0.45}), log := Log())
    before, seen = made[0].function.written, []
    for seed in range(30):
        stream = begin(guard, report_images(1, seed), ("clinic", f"key {seed}"))
        if stream.level is Level.WITHHELD:
            assert list(stream) == []
            assert stream.answer.labels.tolist() == [-1]
            assert stream.answer.texts == (None,)
            assert "stream" not in log.records[-1]
        else:
            stream.close()
        seen.append(stream.level)
    assert Level.WITHHELD in seen
    assert made[0].function.written == before


def test_a_text_whose_marks_change_findings_does_not_stand_and_says_so(make):
    model = report_model(" Patient: Effusion. " + "The trachea is midline. " * 8, length=2000)
    guard = make(audit=(log := Log()), model=model)
    known = KnownIdentifiers.from_mapping({IdentifierKind.NAME: "Effusion"})
    changed = 0
    for seed in range(12):
        row = report_images(1, seed)
        stream, own = begin(guard, row, known=[known]), model.predict(row)
        assert "Effusion" not in "".join(stream)
        assert stream.answer.labels.tolist() == model.spec.decide(own.scores).tolist()
        stands = stream.answer.levels == (Level.FULL,)
        assert (stream.answer.texts != (None,)) == stands
        (verdict,) = (each for each in stream.answer.verdicts if each.part == REPORT_FILTER)
        assert verdict.evidence["findings_changed"] == float(not stands)
        changed += not stands
        assert log.records[-1]["level"] == stream.answer.levels[0].label
    assert changed


@pytest.mark.parametrize("breaks", ["raises", "too long", "no text"])
def test_a_model_that_fails_half_way_is_on_record(make, made, breaks, caplog):
    class Breaks(CornerWriter):
        def sentences(self, image):
            yield "The trachea is midline. " * 40
            if breaks == "raises":
                raise RuntimeError("out of memory")
            yield {"too long": "x" * 4000, "no text": 4}[breaks]

    model = type(made[0])(spec=made[0].spec, function=Breaks(), features="corners")
    stream = begin(make(audit=(log := Log()), model=model))
    with pytest.raises(ModelError, match="could not be written to its end"):
        list(stream)
    assert [each.get("ended") for each in log.records] == [None, "failed"]
    assert list(stream) == []


@pytest.mark.parametrize(("on_error", "level"), [("withhold", Level.WITHHELD), ("flag", Level.LABEL)])
def test_nothing_is_streamed_where_no_filter_opens(make, monkeypatch, on_error, level):
    def fails(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(ReportFilter, "open", fails)
    stream = begin(make(CALM.model_copy(update={"on_error": on_error})))
    assert stream.level is level
    assert list(stream) == []
    assert stream.answer.texts == (None,)


def test_what_cannot_be_streamed_is_refused(make, linear_model, linear_profile):
    with pytest.raises(MedwardError, match="one row is written at a time, got 2"):
        begin(make(), report_images(2, 5))
    plain = Guard(model=linear_model, profile=linear_profile, policy=report_policy())
    with pytest.raises(MedwardError, match="which is no text; use answer"):
        begin(plain, np.zeros((1, 3), np.float32))
    assert isinstance(linear_model, LinearModel)


def test_a_kill_leaves_an_admitted_charged_and_visibly_unfinished_entry(tmp_path):
    command = [sys.executable, "-m", "support.streaming_process", str(tmp_path / "state")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=TESTS.parent, text=True) as process:
        said = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert said.startswith("left '")
    assert process.returncode == -signal.SIGKILL
    log = tmp_path / "state" / "audit.jsonl"
    (record,) = read_log(log)
    verify_log(log)
    assert (record["query"], record["levels"]) == ("killed", ["full"])
    assert record["stream"]
    guard = streaming_guard(tmp_path / "state")
    list(begin(guard, report_images(1, 6)))
    records = list(read_log(log))
    last = next(each for each in AuditRecord.recorded(records[1]).verdicts if each.part == "leakage")
    assert last.evidence["bits_total"] == pytest.approx(2 * LENGTH * 8, abs=0.1)
    assert [(each.get("ended"), each["query"] == "killed") for each in records] == [
        (None, True), (None, False), ("finished", False)]  # fmt: skip
    assert records[2]["stream"] == records[1]["stream"] != record["stream"]
    guard.close()
