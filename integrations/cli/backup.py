"""``medward backup`` and ``medward restore``: the accounts of a serving host, and how far its audit log had come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.integrations.cli.accounts import Operator, operator_name
from medward.integrations.cli.options import StateOption, console

BackupFolder = Annotated[Path, typer.Argument(help="the folder of the backup")]


def backup_command(folder: BackupFolder, state: StateOption = Path("state")) -> None:
    """Copy accounts and salt to a new folder, also under a running server, with the head of the audit log.

    Whoever reads the folder reads the salt. The log's own files and keys.json are yours to copy.
    """
    from medward.guard.accounts_backup import back_up_accounts

    made = back_up_accounts(state, folder)
    console.print(f"{folder}: backed up through record {made.seq}, head {made.head}", markup=False)


def restore_command(
    folder: BackupFolder,
    reason: Annotated[str, typer.Option("--reason", help="why, for the audit log; no patient's data")],
    state: StateOption = Path("state"),
    operator: Operator = "",
) -> None:
    """Put the accounts of a backup back, on record first; refused where the log has an alarm that they lack.

    Stop the server before.
    """
    from medward.guard.accounts_backup import restore_accounts

    done = restore_accounts(folder, state, reason=reason, operator=operator_name(operator))
    since = f"monitors and budgets do not know of {done.forgotten} queries since"
    console.print(f"{state}: restored as of {done.backup.time}; {since}", markup=False)
