"""``medward audit``: closing, pruning and verifying the segments of a log."""

from __future__ import annotations

import pytest

from medward.guard.audit.log import AuditLog, verify_log
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


def test_no_log_is_made_where_none_is(medward, tmp_path):
    for command in (("rotate",), ("prune", "--older-than", 1)):
        code, out = medward("audit", *command, tmp_path)
        assert code == 3
        assert "there is no such audit log" in out
    assert not list(tmp_path.iterdir())
