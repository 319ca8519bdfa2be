from __future__ import annotations

import json
import os
import random
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.audit import GENESIS, AuditLog, Verification, read, replay, verify
from guard.errors import IntegrityError, MedwardError, UnavailableError
from guard.pipeline import Guard
from guard.policy import Policy
from guard.screen.conformal import GRID
from guard.types import ModelSpec, Outputs, Query

CHAIN = {"seq", "time", "prev", "hash"}
RECORDS = [
    {"query": "q1", "p_values": [0.005, 1.0, None], "peak": 1e-07, "principal": "hôpital-a/key"},
    {"query": "q2", "p_values": [], "evidence": {"n": 2.0, "log_e": -0.0}},
    {"query": "q3", "text": 'quote " backslash \\ newline \n', "ok": True},
]
SCALAR = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUE = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.text(), SCALAR, max_size=3)
RECORD = st.dictionaries(st.text().filter(lambda key: key not in CHAIN), VALUE, max_size=4)


def write(path, records):
    log = AuditLog(path)
    for record in records:
        log.append(record)
    return path


def content(record):
    return {key: value for key, value in record.items() if key not in CHAIN}


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "audit.jsonl", RECORDS)


def test_what_is_appended_is_read_back_in_order_and_verifies(path):
    records = list(read(path))
    assert [content(record) for record in records] == RECORDS
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert [record["prev"] for record in records] == [GENESIS, *(record["hash"] for record in records[:-1])]
    assert verify(path) == Verification(records=3, head=records[-1]["hash"], torn=0)


def test_the_chain_goes_on_after_reopening_and_for_records_larger_than_a_block(path):
    write(path, [{"large": "x" * 100_000}, {"small": 1}, {"large": ["y" * 9] * 20_000}, {"small": 2}])
    assert verify(path).records == 7


def test_an_empty_log_verifies_and_a_missing_one_is_named(tmp_path):
    AuditLog(tmp_path / "a")
    assert verify(tmp_path / "a") == Verification(records=0, head=GENESIS, torn=0)
    with pytest.raises(MedwardError, match=r"b: there is no such audit log"):
        verify(tmp_path / "b")


@pytest.mark.parametrize("record", [{"p": float("nan")}, {"p": {1}}, {("a",): 1}, {1: 2, "a": 3}])
def test_a_record_that_is_not_json_is_refused_and_leaves_the_log_alone(path, record):
    before = path.read_bytes()
    with pytest.raises(MedwardError, match="must be finite JSON"):
        AuditLog(path).append(record)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_a_record_cannot_take_a_field_of_the_chain(path, name):
    with pytest.raises(MedwardError, match=name):
        AuditLog(path).append({name: "x"})


# Tampering


def test_flipping_any_bit_of_any_byte_is_caught_and_the_record_named(path):
    whole = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(whole):
            number = whole[:position].count(b"\n") + 1
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), position)
                with pytest.raises(IntegrityError, match=rf"record {number} \(line {number}\): "):
                    verify(path)
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert verify(path).records == 3


@settings(deadline=None)
@given(records=st.lists(RECORD, min_size=2, max_size=4), data=st.data())
def test_changing_any_byte_of_any_log_is_caught(records, data):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "audit.jsonl", records)
        assert [content(record) for record in read(path)] == json.loads(json.dumps(records))
        whole = path.read_bytes()
        position = data.draw(st.integers(0, len(whole) - 1))
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([whole[position] ^ data.draw(st.integers(1, 255))]))
        with pytest.raises(IntegrityError, match=r"record \d+ \(line \d+\)"):
            verify(path)


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (
            lambda lines: lines[:1] + lines[2:],
            r"record 2 \(line 2\): broken sequence: it says it is record 3",
        ),
        (lambda lines: [lines[1], lines[0], lines[2]], r"record 1 \(line 1\): broken sequence"),
        (lambda lines: [lines[0], b"\n", *lines[1:]], r"record 2 \(line 2\): not JSON"),
        (lambda lines: [lines[0], b"[1]\n", *lines[1:]], r"record 2 \(line 2\): not an audit record"),
        (lambda lines: [lines[0], b"[" * 100_000 + b"\n"], r"record 2 \(line 2\): not JSON"),
        (lambda lines: [lines[0].replace(b'"q1"', b'"q9"'), *lines[1:]], r"record 1 .*broken hash"),
        (lambda lines: [lines[0].replace(b":", b": ", 1), *lines[1:]], r"record 1 .*not in canonical form"),
        (lambda lines: [lines[0].replace(b"1e-07", b"1E-07"), *lines[1:]], r"record 1 .*canonical"),
        (lambda lines: [lines[0].replace(b"\\u00f4", b"\\u00F4"), *lines[1:]], r"record 1 .*canonical"),
        (lambda lines: [lines[0].replace(b"null", b"NaN"), *lines[1:]], r"record 1 .*canonical"),
        (lambda lines: [lines[0].replace(b"{", b'{"seq":1,', 1), *lines[1:]], r"record 1 .*canonical"),
        (lambda lines: [lines[0].replace(b"\\u00f4", "ô".encode()), *lines[1:]], r"record 1 .*not JSON"),
        (lambda lines: [lines[0].replace(b"\n", b"\r\n"), *lines[1:]], r"record 1 .*canonical"),
    ],
)
def test_what_is_wrong_is_said(path, tamper, says):
    before = path.read_bytes()
    path.write_bytes(b"".join(tamper(before.splitlines(keepends=True))))
    assert path.read_bytes() != before
    with pytest.raises(IntegrityError, match=says):
        verify(path)
    with pytest.raises(IntegrityError, match=says):
        list(read(path))


def test_a_record_rewritten_with_a_new_hash_breaks_the_link_of_the_next(tmp_path, path):
    other = write(tmp_path / "other.jsonl", [{"query": "forged"}, *RECORDS[1:]])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(other.read_bytes().splitlines(keepends=True)[0] + b"".join(lines[1:]))
    with pytest.raises(IntegrityError, match=r"record 2 \(line 2\): broken link"):
        verify(path)


def test_a_head_kept_elsewhere_shows_truncation_and_rewriting_but_allows_growth(path):
    head = verify(path).head
    assert verify(path, head=GENESIS).head == head
    write(path, [{"query": "q4"}])
    assert verify(path, head=head).records == 4
    lines = path.read_bytes().splitlines(keepends=True)

    path.write_bytes(b"".join(lines[:2]))
    assert verify(path).records == 2  # the chain alone does not show it
    with pytest.raises(IntegrityError, match="cut short or rewritten"):
        verify(path, head=head)

    path.unlink()
    write(path, [*RECORDS, {"query": "rewritten"}])
    assert verify(path).records == 4
    with pytest.raises(IntegrityError, match="cut short or rewritten"):
        verify(path, head=head)


def test_nothing_is_appended_to_a_log_whose_last_record_is_damaged(path):
    log = AuditLog(path)
    path.write_bytes(path.read_bytes().replace(b'"q3"', b'"q9"'))
    before = path.read_bytes()
    with pytest.raises(UnavailableError, match="broken hash"):
        log.append({"query": "q4"})
    with pytest.raises(IntegrityError, match="broken hash"):
        AuditLog(path)
    assert path.read_bytes() == before


# Torn lines. Several processes, kill -9 and full disks are in test_stores.py, with those of the store.


def test_a_torn_last_line_is_reported_then_moved_aside_and_the_chain_goes_on(path):
    whole = path.read_bytes()
    first_two = whole[: whole[:-1].rindex(b"\n") + 1]
    for cut in [len(first_two) + 1, *range(len(first_two) + 2, len(whole) - 1, 9), len(whole) - 1]:
        torn = whole[len(first_two) : cut]
        path.write_bytes(whole[:cut])
        found = verify(path)
        assert (found.records, found.torn) == (2, len(torn))
        assert len(list(read(path))) == 2
        aside = Path(f"{path}.torn")
        aside.unlink(missing_ok=True)
        write(path, [{"query": "next"}])
        assert aside.read_bytes() == torn + b"\n"
        found = verify(path)
        assert (found.records, found.torn) == (3, 0)


def test_a_running_log_moves_the_torn_line_of_another_process_aside(path):
    log = AuditLog(path)
    for torn in (b'{"query":"fir', b'{"query":"seco'):
        with path.open("ab") as other:
            other.write(torn)
        log.append({"query": "next"})
    assert Path(f"{path}.torn").read_bytes() == b'{"query":"fir\n{"query":"seco\n'
    assert verify(path).records == 5


def test_a_damaged_final_newline_is_not_taken_for_a_torn_line(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x8a")
    for open_ in (verify, AuditLog):
        with pytest.raises(IntegrityError, match="a whole record that does not end in a newline"):
            open_(path)
    assert path.read_bytes() == whole[:-1] + b"\x8a"


# Replay: a real guard over a model and a profile that need no training. A row is (its own score, a number).

POLICY = Policy(on_error="withhold")
KEYS = [("hospital", "ward", "key-1"), ("hospital", "ward", "key-2"), ("hospital", "lab")]
CUTS = dict(zip(GRID, (6.0, 5.0, 4.0, 3.0, 2.0, 1.0), strict=True))


class FirstColumn:
    spec = ModelSpec(name="m", modality="tabular", shape=(2,), classes=("a", "b"), output="logits")

    def predict(self, inputs):
        return Outputs(inputs)


@dataclass
class FirstColumnProfile:
    levels: tuple[float, ...] = GRID

    @property
    def thresholds(self):
        return self

    def score(self, inputs, outputs):
        return inputs[:, 0]

    def p_values(self, scores):
        return np.array([min([tau for tau, cut in CUTS.items() if s >= cut], default=1.0) for s in scores])

    def screen_p(self, scores):
        return np.ones(len(scores))


class Records(list):
    """An audit sink in memory, numbered as the log would."""

    def append(self, record):
        super().append({**json.loads(json.dumps(record)), "seq": len(self) + 1})


def guarded(audit):
    return Guard(model=FirstColumn(), policy=POLICY, profile=FirstColumnProfile(), audit=audit)


def traffic(count, *, seed=0):
    """Batches of 1 to 3 rows from three keys; strange ones now and then; many repeats."""
    rng = random.Random(seed)
    for _ in range(count):
        rows = [
            (rng.choice([0.0, 0.0, 1.0, 3.0, 6.0]), rng.randrange(12))
            for _ in range(rng.choice([1, 1, 1, 3]))
        ]
        yield Query(principal=rng.choice(KEYS), inputs=rows)


def answered(count, audit, *, seed=0):
    guard_ = guarded(audit)
    for query in traffic(count, seed=seed):
        guard_.answer(query)
    return guard_


def test_replay_reproduces_the_verdicts_of_a_log(tmp_path):
    path = tmp_path / "audit.jsonl"
    answered(120, AuditLog(path))
    found = replay(read(path), [POLICY], GRID)
    assert found.verdicts == sum(len(record["verdicts"]) - 1 for record in read(path))
    assert found.restarts == {}
    actions = {verdict["action"] for record in read(path) for verdict in record["verdicts"]}
    assert actions >= {"allow", "flag", "coarsen"}  # the log has something to reproduce


@pytest.mark.parametrize("seed", range(5))
def test_replay_finds_the_order_of_records_that_were_logged_out_of_order(seed):
    records = Records()
    answered(400, records, seed=seed)
    rng = random.Random(seed)
    windows = [records[i : i + 6] for i in range(0, len(records), 6)]
    shuffled = [record for window in windows for record in rng.sample(window, len(window))]
    assert shuffled != records
    assert replay(shuffled, [POLICY], GRID).restarts == {}


def test_replay_of_a_guard_asked_from_eight_threads(tmp_path):
    path = tmp_path / "audit.jsonl"
    guard_ = guarded(AuditLog(path))
    threads = [
        threading.Thread(target=lambda seed=seed: [guard_.answer(query) for query in traffic(25, seed=seed)])
        for seed in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read(path))) == 200
    assert replay(read(path), [POLICY], GRID).restarts == {}


def bet_on(records):
    """(record, row) of every p-value that moved the state of its key."""
    recent = {}
    for number, record in enumerate(records):
        digests = recent.setdefault(record["principal"], [])
        for row, digest in enumerate(record["inputs"]):
            if digest not in digests:
                digests[:] = [*digests, digest][-16:]
                yield number, row


def test_any_p_value_that_was_bet_on_cannot_change_even_in_a_rehashed_chain(tmp_path):
    records = Records()
    answered(40, records)
    for number, row in bet_on(records):
        tampered = json.loads(json.dumps(records))
        was = tampered[number]["p_values"][row]
        tampered[number]["p_values"][row] = 1.0 if was < 1.0 else 0.005
        with pytest.raises(IntegrityError, match=rf"record {number + 1}: "):
            replay(tampered, [POLICY], GRID)
    path = write(tmp_path / "forged.jsonl", [content(record) for record in tampered])
    assert verify(path).records == 40
    with pytest.raises(IntegrityError, match=rf"record {number + 1}: account '.*': recorded .* replayed "):
        replay(read(path), [POLICY], GRID)


def test_a_changed_action_or_evidence_or_a_removed_record_is_named():
    records = Records()
    answered(40, records)

    def named(change, says):
        tampered = json.loads(json.dumps(records))
        change(tampered)
        with pytest.raises(IntegrityError, match=says):
            replay(tampered, [POLICY], GRID)

    for level in (1, 2):
        named(lambda log, v=level: log[20]["verdicts"][v].update(action="withhold"), "record 21: ")
        named(lambda log, v=level: log[20]["verdicts"][v]["evidence"].update(peak=9.0), "record 21: ")
        named(lambda log, v=level: log[20]["verdicts"][v]["evidence"].pop("peak"), "record 21: ")
        named(lambda log, v=level: log[20]["verdicts"].pop(v), "record 21: not the record .*e-process")
    named(lambda log: log[20]["p_values"].__setitem__(0, 0.3), r"record 21: the p-value 0\.3 is not on")
    named(lambda log: log[20]["p_values"].append(1.0), "record 21: needs as many p-values as inputs")
    removed = next(number for number, _ in bet_on(records) if number >= 20)
    named(lambda log: log.pop(removed), "a record before it is missing")


def test_a_reset_is_reported_as_a_new_start_and_not_refused():
    records = Records()
    guard_ = answered(60, records)
    guard_.reset(("hospital", "ward"))
    guard_.answer(Query(principal=KEYS[0], inputs=[(0.0, 99)]))
    for query in traffic(20, seed=1):
        guard_.answer(query)
    assert replay(records, [POLICY], GRID).restarts == {"hospital/ward": [61]}


def test_a_record_under_an_unknown_policy_is_named_and_known_policies_may_mix():
    records = Records()
    guard_ = answered(20, records)
    stricter = Policy.model_validate({"on_error": "flag", "monitor": {"parents": "withhold"}})
    later = Guard(
        model=guard_.model, policy=stricter, profile=guard_.profile, store=guard_.store, audit=records
    )
    for query in traffic(20, seed=1):
        later.answer(query)
    with pytest.raises(MedwardError, match=f"record 21: made under policy {stricter.fingerprint}"):
        replay(records, [POLICY], GRID)
    assert replay(records, [POLICY, stricter], GRID).verdicts > 0


def test_records_without_monitor_verdicts_are_passed_over():
    records = Records()
    guard_ = guarded(records)
    records.append({"event": "started"})
    guard_.store.close()
    guard_.answer(Query(principal=KEYS[0], inputs=[(0.0, 1)]))
    assert records[-1]["p_values"] == [None]
    assert replay(records, [POLICY], GRID).verdicts == 0
