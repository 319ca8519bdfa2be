"""``medward audit``: closing, pruning and verifying the segments of a log."""

from __future__ import annotations

import pytest

from medward.guard.accounts.suspension import suspend_account
from medward.guard.audit.log import AuditLog, verify_log
from medward.guard.policy import Policy
from medward.guard.state import open_state
from medward.guard.types import Query
from medward.integrations.cli import main


@pytest.fixture
def medward(capsys):
    """Run the command; gives its exit status and what it printed."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main([*map(str, arguments)])
        printed = capsys.readouterr()
        return done.value.code, " ".join((printed.out + printed.err).split())

    return run


def test_a_log_is_closed_pruned_and_verified_by_command(medward, tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    assert medward("audit", "rotate", tmp_path) == (0, f"{tmp_path}/audit.jsonl: holds no record")
    log.append({"query": 1})
    code, out = medward("audit", "rotate", tmp_path)
    assert code == 0
    assert out.endswith("audit.000001.jsonl: closed")
    code, out = medward("audit", "verify", tmp_path)
    assert code == 0
    assert f"2 records in 2 files, chain whole, head {verify_log(tmp_path / 'audit.jsonl').head}" in out
    assert "no closed segment is that old" in medward("audit", "prune", "--older-than", 1, tmp_path)[1]
    assert (tmp_path / "audit.000001.jsonl").exists()
    (tmp_path / "audit.000001.jsonl").unlink()
    code, out = medward("audit", "verify", tmp_path)
    assert code == 3
    assert "removed or renamed" in out


def test_what_was_pruned_is_said(medward, tmp_path):
    from datetime import UTC, datetime, timedelta

    log = AuditLog(tmp_path / "audit.jsonl")
    log.append({"query": 1})
    log.rotate()
    log.prune(datetime.now(UTC) + timedelta(days=1))
    code, out = medward("audit", "verify", tmp_path)
    assert code == 0
    assert "records 1 to 1 were pruned with their segments, which a record says" in out


def test_accounts_are_backed_up_and_restored_by_command(medward, make_guard, tmp_path):
    state, opened = tmp_path / "state", open_state(tmp_path / "state")
    guard = make_guard(Policy(on_error="withhold"), store=opened.store, audit=opened.audit, salt=opened.salt)
    guard.answer(Query(principal=("clinic",), inputs=[[0.5, -1.0, 2.0]]))
    code, out = medward("backup", tmp_path / "backup", "--state", state)
    assert (code, out) == (
        0,
        f"{tmp_path}/backup: backed up through record 1, head {verify_log(state / 'audit.jsonl').head}",
    )
    guard.answer(Query(principal=("clinic",), inputs=[[0.5, -1.0, 2.0]]))
    said = ("--state", state, "--reason", "disk", "--operator", "jo")
    code, out = medward("restore", tmp_path / "backup", *said)
    assert code == 0
    assert "monitors and budgets do not know of 1 queries since" in out
    suspend_account(opened.store, opened.audit, ("clinic",), reason="lost key", operator="jo")
    code, out = medward("restore", tmp_path / "backup", *said)
    assert code == 3
    assert "lacks what the log has: the suspension of clinic" in out
    opened.store.close()


def test_no_log_is_made_where_none_is(medward, tmp_path):
    for command in (("rotate",), ("prune", "--older-than", 1)):
        code, out = medward("audit", *command, tmp_path)
        assert code == 3
        assert "there is no such audit log" in out
    assert not list(tmp_path.iterdir())
