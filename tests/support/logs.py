"""Audit logs, written at once and read without what the chain adds."""

from __future__ import annotations

from medward.guard.audit.chain import CHAIN
from medward.guard.audit.log import AuditLog


def write(path, records):
    """Append `records` to the log at `path`."""
    log = AuditLog(path)
    for record in records:
        log.append(record)
    return path


def content(record):
    """A record without the fields of the chain."""
    return {key: value for key, value in record.items() if key not in CHAIN}
