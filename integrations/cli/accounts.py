"""``medward accounts``: what the guard of a serving host knows of accounts, and what a person decides about them."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medward.guard.errors import MedwardError
from medward.guard.types import Principal
from medward.integrations.cli.options import AllowCode, BundlePath, StateOption, StoreOption, console

if TYPE_CHECKING:
    from medward.guard.accounts.overview import AccountOverview, AccountReader
    from medward.guard.accounts.stores import Store
    from medward.guard.audit.log import AuditLog

accounts_app = typer.Typer(no_args_is_help=True, help="What the guard knows of an account, and who is suspended.")
AccountPath = Annotated[str, typer.Argument(help="hospital-a/radiology/key-17, or one of its parents")]
Reason = Annotated[str, typer.Option("--reason", help="why, for the audit log; no patient's data")]
Operator = Annotated[str, typer.Option("--operator", help="who decides it; default: the login name")]
AsJson = Annotated[bool, typer.Option("--json", help="everything, for a program")]
SHARES_SHOWN = 3


@accounts_app.command("list")
def accounts_list(
    bundle: BundlePath,
    state: StateOption = Path("state"),
    store: StoreOption = None,
    alarmed: Annotated[bool, typer.Option("--alarmed", help="those only that are acted upon or suspended")] = False,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """List the accounts that asked: how much, how far their alarms have risen, and what is done."""
    with _reader(bundle, state, store, allow_code=allow_code) as reader:
        found = [each for each in reader.overviews() if each.acted_upon or not alarmed]
    if as_json:
        sys.stdout.write(json.dumps([each.content for each in found], indent=2) + "\n")
        return
    for line in overview_lines(found):
        console.print(line, markup=False)
    if not found:
        console.print("no account is acted upon" if alarmed else "no account has asked anything yet")


@accounts_app.command("show")
def accounts_show(
    bundle: BundlePath,
    account: AccountPath,
    state: StateOption = Path("state"),
    store: StoreOption = None,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """Show one account: its e-value by monitor, near-duplicates, budget, and whether it is suspended."""
    with _reader(bundle, state, store, allow_code=allow_code) as reader:
        found = reader.overview("/".join(_principal(account)))
    if found is None:
        raise MedwardError(f"{account}: no account of that name has asked anything")
    if as_json:
        sys.stdout.write(json.dumps(found.content, indent=2) + "\n")
        return
    for line in overview_sentences(found):
        console.print(line, markup=False)


@accounts_app.command("suspend")
def accounts_suspend(
    account: AccountPath,
    reason: Reason,
    operator: Operator = "",
    state: StateOption = Path("state"),
    store: StoreOption = None,
) -> None:
    """Refuse an account and all below it, on all replicas of a store within a second, until it is released."""
    from medward.guard.accounts.suspension import suspend_account

    with _opened(state, store) as (opened, audit):
        suspend_account(opened, audit, _principal(account), reason=reason, operator=operator_name(operator))
    console.print(f"{account}: suspended, with all accounts below it", markup=False)


@accounts_app.command("release")
def accounts_release(
    account: AccountPath,
    reason: Reason,
    operator: Operator = "",
    state: StateOption = Path("state"),
    store: StoreOption = None,
) -> None:
    """Let a suspended account ask again; its alarms stand."""
    from medward.guard.accounts.suspension import lift_suspension

    with _opened(state, store) as (opened, audit):
        lift_suspension(opened, audit, _principal(account), reason=reason, operator=operator_name(operator))
    console.print(f"{account}: may ask again; its alarms and what it was told stand", markup=False)


@accounts_app.command("reset")
def accounts_reset(
    principal: AccountPath,
    state: StateOption = Path("state"),
    store: StoreOption = None,
    reason: Annotated[str, typer.Option(help="why, for the audit log; no patient's data")] = "",
    operator: Operator = "",
) -> None:
    """Forget an account's alarm after a person has looked into it."""
    from medward.guard.accounts.transaction import reset_account

    account = _principal(principal)
    with _opened(state, store) as (opened, audit):
        if opened.get("/".join(account)) is None:
            raise MedwardError(f"{principal}: no account of that name has asked anything")
        reset_account(opened, account, audit, reason=reason, operator=operator_name(operator))
    console.print(
        f"{principal}: its monitors start afresh; accounts above and below it, and what it was told, stand",
        markup=False,
    )


def overview_lines(found: Iterable[AccountOverview]) -> Iterator[str]:
    """A line for each account, those that are acted upon first."""
    for each in sorted(found, key=lambda each: (not each.acted_upon, -each.peak)):
        yield f"{each.account}: {_doing(each)}; {each.queries:,} rows, e-value {_factor(each.peak)} at most"


def overview_sentences(found: AccountOverview) -> Iterator[str]:
    """What there is to say of one account."""
    yield f"{found.account}: {_doing(found)}"
    yield f"{found.queries:,} rows judged; e-value {_factor(found.log_e)} now, {_factor(found.peak)} at most"
    shares = sorted(found.shares.items(), key=lambda each: -each[1])[:SHARES_SHOWN]
    yield "of it " + ", ".join(f"{name} {share:.0%}" for name, share in shares)
    if found.near_duplicates:
        yield f"near-duplicates: {found.near_duplicates:g}"
    if found.bits_left is not None:
        yield f"told {found.bits_total:,.3f} bits in all, {found.bits_left:,.3f} are left"
    if held := found.suspension:
        yield f"suspended since {held.time} by {held.operator}: {held.reason}" + (
            "" if held.account == found.account else f" (as part of {held.account})"
        )


def _doing(found: AccountOverview) -> str:
    said = {"allow": "nothing raised", "flag": "flagged", "coarsen": "told labels only", "withhold": "withheld"}
    return said[found.action.label] + (", suspended" if found.suspension else "")


def _factor(log: float) -> str:
    from medward.guard.alarm import factor_text

    return factor_text(log)


def _principal(account: str) -> Principal:
    from medward.guard.accounts.names import checked_principal

    return checked_principal(tuple(account.split("/")))


def operator_name(said: str) -> str:
    """Who acts: as was said, or by the login name."""
    try:
        return said or getpass.getuser()
    except (KeyError, OSError):
        raise MedwardError("operator: this process has no login name; give --operator") from None


@contextmanager
def _opened(state: Path, store: str | None) -> Iterator[tuple[Store, AuditLog]]:
    """The store of a serving host, and its audit log."""
    from medward.guard.audit.log import AuditLog
    from medward.integrations.serving.store import open_store

    opened = open_store(store or state / "accounts.db", existing=True)
    try:
        yield opened, AuditLog(state / "audit.jsonl", fsync=True)
    finally:
        opened.close()


@contextmanager
def _reader(bundle: Path, state: Path, store: str | None, *, allow_code: bool) -> Iterator[AccountReader]:
    """What the guard of `bundle` knows, by the store of a serving host; nothing is written."""
    from medward.guard.bundle.folder import load_bundle
    from medward.integrations.cli.options import see_working_directory
    from medward.integrations.serving.store import open_store

    if allow_code:
        see_working_directory()
    loaded = load_bundle(bundle, allow_code=allow_code)
    with loaded.guard(state=state, store=open_store(store or state / "accounts.db", existing=True)) as guard:
        yield guard.accounts
