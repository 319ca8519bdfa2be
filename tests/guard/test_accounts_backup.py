"""Backups of accounts: taken under load, restored whole and on record, and never at the cost of an alarm."""

from __future__ import annotations

import json
import sqlite3
import threading

import numpy as np
import pytest

from medward.guard.accounts.stores import SQLiteStore
from medward.guard.accounts.suspension import lift_suspension, suspend_account, suspensions
from medward.guard.accounts_backup import ACCOUNTS_RESTORED, AccountsBackup, back_up_accounts, restore_accounts
from medward.guard.audit.log import AuditLog, read_log, verify_log
from medward.guard.errors import IntegrityError, MedwardError, UnavailableError
from medward.guard.policy import Policy
from medward.guard.state import open_state
from medward.guard.types import Query

BENIGN = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32)
THEFT = 60 + np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
WHY = {"reason": "the disk failed", "operator": "jo"}


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def guard(make_guard, state):
    opened = open_state(state)
    made = make_guard(
        Policy(on_error="withhold", screen={"action": "flag"}),
        store=opened.store,
        audit=opened.audit,
        salt=opened.salt,
    )
    yield made
    made.store.close()


def ask(guard, rows, *who):
    return [guard.answer(Query(principal=who, inputs=row[None])) for row in rows]


def asked(store, account):
    """How many rows the monitors of an account know of."""
    state = store.get(account)
    return 0 if state is None else state["e-process"]["n"]


def test_a_backup_is_put_back_whole_and_on_record(guard, state, tmp_path):
    ask(guard, BENIGN[:5], "clinic")
    made = back_up_accounts(state, tmp_path / "backup")
    records = list(read_log(state / "audit.jsonl"))
    assert (made.seq, made.head) == (5, records[-1]["hash"])
    assert AccountsBackup.load(tmp_path / "backup") == made
    ask(guard, BENIGN[5:9], "clinic")
    assert asked(guard.store, "clinic") == 9
    done = restore_accounts(tmp_path / "backup", state, **WHY)
    assert (done.forgotten, done.backup) == (4, made)
    assert asked(guard.store, "clinic") == 5, "a server that reads the file now sees what was restored"
    last = [*read_log(state / "audit.jsonl")][-1]
    said = {name: last[name] for name in ("event", "reason", "operator", "through", "head", "forgotten")}
    assert said == {"event": ACCOUNTS_RESTORED, **WHY, "through": 5, "head": made.head, "forgotten": 4}
    ask(guard, BENIGN[9:10], "clinic")
    assert asked(guard.store, "clinic") == 6
    assert verify_log(state / "audit.jsonl", head=made.head).records == 11


def test_lost_accounts_and_salt_come_back(guard, state, tmp_path):
    ask(guard, BENIGN[:5], "clinic")
    back_up_accounts(state, tmp_path / "backup")
    guard.store.close()
    salt = (state / "salt").read_bytes()
    for each in (*state.glob("accounts.db*"), state / "salt"):
        each.unlink()
    restore_accounts(tmp_path / "backup", state, **WHY)
    opened = open_state(state)
    assert (opened.salt, asked(opened.store, "clinic")) == (salt, 5)
    assert {each.stat().st_mode & 0o077 for each in (*state.iterdir(), *(tmp_path / "backup").iterdir())} == {0}
    opened.store.close()


def test_a_backup_that_lacks_an_alarm_of_the_log_is_refused_in_one_sentence(guard, state, tmp_path):
    ask(guard, BENIGN[:5], "clinic", "thief")
    early = back_up_accounts(state, tmp_path / "early")
    ask(guard, THEFT, "clinic", "thief")
    late = back_up_accounts(state, tmp_path / "late")
    before = asked(guard.store, "clinic/thief")
    with pytest.raises(
        MedwardError, match=r"lacks what the log has: .*the alarm of clinic/thief \(withhold since"
    ) as said:
        restore_accounts(tmp_path / "early", state, **WHY)
    assert "\n" not in str(said.value)
    assert "medward accounts reset" in str(said.value)
    assert asked(guard.store, "clinic/thief") == before
    assert early.seq < late.seq == verify_log(state / "audit.jsonl").records, "what is refused is not on record"
    assert restore_accounts(tmp_path / "late", state, **WHY).forgotten == 0, "one that has the alarm is put back"
    assert ask(guard, THEFT[:1], "clinic", "thief")[0].levels[0].label == "withheld"


def test_an_alarm_that_rose_further_since_is_an_alarm_that_the_backup_lacks(guard, state, tmp_path):
    ask(guard, BENIGN[:5], "clinic", "thief")
    for row in THEFT:
        ask(guard, row[None], "clinic", "thief")
        if any("coarsen" in str(each["verdicts"]) for each in read_log(state / "audit.jsonl")):
            break
    back_up_accounts(state, tmp_path / "backup")
    restore_accounts(tmp_path / "backup", state, **WHY)
    ask(guard, THEFT, "clinic", "thief")
    with pytest.raises(MedwardError, match="withhold since"):
        restore_accounts(tmp_path / "backup", state, **WHY)


def test_an_alarm_that_a_person_ended_on_record_is_not_missed(guard, state, tmp_path):
    ask(guard, BENIGN[:5], "clinic", "thief")
    back_up_accounts(state, tmp_path / "backup")
    ask(guard, THEFT, "clinic", "thief")
    for who in (("clinic",), ("clinic", "thief")):
        guard.reset(who)
    assert restore_accounts(tmp_path / "backup", state, **WHY).forgotten == 30


def test_a_suspension_that_the_backup_lacks_is_an_alarm_too(guard, state, tmp_path):
    ask(guard, BENIGN[:2], "clinic")
    back_up_accounts(state, tmp_path / "backup")
    who = {"reason": "lost key", "operator": "jo"}
    suspend_account(guard.store, guard.audit, ("clinic",), **who)
    with pytest.raises(MedwardError, match="the suspension of clinic"):
        restore_accounts(tmp_path / "backup", state, **WHY)
    back_up_accounts(state, tmp_path / "later")
    lift_suspension(guard.store, guard.audit, ("clinic",), **who)
    restore_accounts(tmp_path / "later", state, **WHY)
    assert set(suspensions(guard.store)) == {"clinic"}, "restored with what it had"
    lift_suspension(guard.store, guard.audit, ("clinic",), **who)
    restore_accounts(tmp_path / "backup", state, **WHY)


def test_a_suspension_on_record_whose_state_was_not_yet_written_is_missed(guard, state, tmp_path):
    """The log is first: a backup in between has the record before its head, and not the state."""
    ask(guard, BENIGN[:2], "clinic")
    guard.audit.append({"event": "account suspended", "principal": "clinic", "reason": "x", "operator": "jo"})
    back_up_accounts(state, tmp_path / "backup")
    with pytest.raises(MedwardError, match="the suspension of clinic"):
        restore_accounts(tmp_path / "backup", state, **WHY)


def test_only_the_log_that_it_was_made_beside_will_do(guard, state, tmp_path):
    ask(guard, BENIGN[:5], "clinic")
    back_up_accounts(state, tmp_path / "backup")
    log = state / "audit.jsonl"
    whole = log.read_bytes()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    with pytest.raises(IntegrityError, match="cut short or rewritten"):
        restore_accounts(tmp_path / "backup", state, **WHY)
    log.unlink()
    with pytest.raises(MedwardError, match="no log to tell which alarms"):
        restore_accounts(tmp_path / "backup", state, **WHY)
    log.write_bytes(whole)
    AuditLog(log).rotate()
    restore_accounts(tmp_path / "backup", state, **WHY)


@pytest.mark.parametrize("name", ["accounts.db", "salt", "backup.json"])
def test_a_backup_that_was_changed_or_is_none_is_refused(guard, state, tmp_path, name):
    ask(guard, BENIGN[:5], "clinic")
    back_up_accounts(state, tmp_path / "backup")
    file = tmp_path / "backup" / name
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(IntegrityError, match=name):
        restore_accounts(tmp_path / "backup", state, **WHY)
    file.unlink()
    with pytest.raises(MedwardError, match=name):
        restore_accounts(tmp_path / "backup", state, **WHY)
    assert verify_log(state / "audit.jsonl").records == 5


def test_another_salt_is_refused_and_so_is_a_reason_that_says_nothing(guard, state, tmp_path):
    ask(guard, BENIGN[:2], "clinic")
    back_up_accounts(state, tmp_path / "backup")
    with pytest.raises(MedwardError, match="reason: give 1 to"):
        restore_accounts(tmp_path / "backup", state, reason=" ", operator="jo")
    (state / "salt").write_bytes(b"x" * 32)
    with pytest.raises(MedwardError, match="not the salt that the backup was made with"):
        restore_accounts(tmp_path / "backup", state, **WHY)


def test_what_is_there_is_not_written_over_and_what_is_not_there_is_said(guard, state, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(MedwardError, match="is not empty"):
        back_up_accounts(state, tmp_path / "full")
    with pytest.raises(MedwardError, match="no accounts to back up"):
        back_up_accounts(tmp_path / "nothing", tmp_path / "backup")
    with pytest.raises(MedwardError, match="no such backup"):
        restore_accounts(tmp_path / "full", state, **WHY)
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_backup_under_load_knows_of_every_answer_on_record_before_it(guard, state, tmp_path):
    stop = threading.Event()

    def keep_asking(name):
        while not stop.is_set():
            ask(guard, BENIGN[:1], "clinic", name)

    threads = [threading.Thread(target=keep_asking, args=(name,)) for name in "ab"]
    for each in threads:
        each.start()
    backups = []
    for i in range(4):
        backups.append(back_up_accounts(state, tmp_path / f"backup-{i}"))
    stop.set()
    for each in threads:
        each.join()
    records = list(read_log(state / "audit.jsonl"))
    for i, made in enumerate(backups):
        store = SQLiteStore(tmp_path / f"backup-{i}" / "accounts.db")
        known = [each["principal"] for each in records[: made.seq]]
        assert all(asked(store, f"clinic/{name}") >= known.count(f"clinic/{name}") for name in "ab")
        store.close()


def test_a_log_that_goes_on_while_it_is_read_is_not_restored_beside(guard, state, tmp_path, monkeypatch):
    ask(guard, BENIGN[:2], "clinic")
    back_up_accounts(state, tmp_path / "backup")
    verify = verify_log

    def going_on(path, **options):
        found = verify(path, **options)
        ask(guard, BENIGN[2:3], "clinic")
        return found

    monkeypatch.setattr("medward.guard.accounts_backup.verify_log", going_on)
    with pytest.raises(UnavailableError, match="stop the server"):
        restore_accounts(tmp_path / "backup", state, **WHY)
    assert asked(guard.store, "clinic") == 3


def test_accounts_that_are_no_database_is_said(guard, state, tmp_path):
    ask(guard, BENIGN[:2], "clinic")
    guard.store.close()
    for each in state.glob("accounts.db*"):
        each.unlink()
    (state / "accounts.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(UnavailableError, match="cannot be copied"):
        back_up_accounts(state, tmp_path / "backup")
    with pytest.raises(MedwardError, match="no such backup"):
        restore_accounts(tmp_path / "backup", state, **WHY)


def test_a_backup_is_one_file_that_any_sqlite_reads(guard, state, tmp_path):
    ask(guard, BENIGN[:2], "clinic")
    back_up_accounts(state, tmp_path / "backup")
    assert sorted(each.name for each in (tmp_path / "backup").iterdir()) == ["accounts.db", "backup.json", "salt"]
    copy = sqlite3.connect(f"file:{tmp_path}/backup/accounts.db?mode=ro&immutable=1", uri=True)
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    assert set(json.loads((tmp_path / "backup" / "backup.json").read_text())) == {
        "time", "seq", "head", "accounts", "salt"
    }  # fmt: skip
