"""``medward accounts``: what the monitors of a serving host know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.options import StateOption, StoreOption, console

accounts_app = typer.Typer(no_args_is_help=True, help="What the monitors know of an account.")


@accounts_app.command("reset")
def accounts_reset(
    principal: Annotated[str, typer.Argument(help="hospital-a/radiology/key-17, or one of its parents")],
    state: StateOption = Path("state"),
    store: StoreOption = None,
) -> None:
    """Forget an account's alarm after a person has looked into it."""
    from medward.guard.accounts.names import checked_principal
    from medward.guard.accounts.transaction import reset_account
    from medward.guard.audit.log import AuditLog
    from medward.integrations.serving.store import open_store

    account = checked_principal(tuple(principal.split("/")))
    opened = open_store(store or state / "accounts.db", existing=True)
    try:
        if opened.get("/".join(account)) is None:
            raise MedwardError(f"{principal}: no account of that name has asked anything")
        reset_account(opened, account, AuditLog(state / "audit.jsonl", fsync=True))
    finally:
        opened.close()
    console.print(
        f"{principal}: its monitors start afresh; accounts above and below it, and what it was told, stand",
        markup=False,
    )
