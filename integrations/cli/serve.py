"""A serving host: ``medward serve``, and its keys, audit log and accounts."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.options import AllowCode, BundlePath, Expect, console, see_working_directory

keys_app = typer.Typer(no_args_is_help=True, help="API keys of a serving host.")
audit_app = typer.Typer(no_args_is_help=True, help="The audit log of a serving host.")
accounts_app = typer.Typer(no_args_is_help=True, help="What the monitors know of an account.")
State = Annotated[Path, typer.Option("--state", help="the serving host's state folder")]
Shared = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="MEDWARD_STORE",
        help="where accounts are kept: redis://host:6379/0, one for all replicas of a bundle; default: in --state",
    ),
]


def serve_command(
    bundle: BundlePath,
    state: State = Path("state"),
    store: Shared = None,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="answer anyone; only on this machine")] = False,
    resize: Annotated[bool, typer.Option("--resize", help="resize uploaded images to the model's size")] = False,
    allow_code: AllowCode = False,
    expect: Expect = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM; with --private-key serves TLS")] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM")] = None,
) -> None:
    """Serve a bundle behind its guard over HTTP."""
    from medward.integrations.serving import serve_bundle as run

    if allow_code:
        see_working_directory()
    run(
        bundle,
        state=state,
        store=store,
        host=host,
        port=port,
        anonymous=no_keys,
        resize=resize,
        allow_code=allow_code,
        expect=expect,
        certificate=certificate,
        private_key=private_key,
    )


@keys_app.command("add")
def keys_add(
    principal: Annotated[str, typer.Argument(help="who holds it, as a path: hospital-a/radiology/key-17")],
    state: State = Path("state"),
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="valid for so many days")] = None,
    scope: Annotated[Literal["predict", "metrics"], typer.Option(help="what the key opens")] = "predict",
) -> None:
    """Make a key and print its token, once."""
    from medward.integrations.serving.keys import KeyStore

    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    token = KeyStore(state / "keys.json").add(tuple(principal.split("/")), expires=expires, scope=scope)
    sys.stdout.write(token + "\n")


@keys_app.command("list")
def keys_list(state: State = Path("state")) -> None:
    """Show who holds keys; never the keys."""
    from medward.integrations.serving.keys import KeyStore

    for key in KeyStore(state / "keys.json").list():
        end = "revoked" if key.revoked else f"expires {key.expires:%Y-%m-%d}" if key.expires else "no end"
        console.print(f"{key.id}  {'/'.join(key.principal)}  {key.scope}  {end}", markup=False)


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], state: State = Path("state")) -> None:
    """Refuse a key from now on, running servers included."""
    from medward.integrations.serving.keys import KeyStore

    KeyStore(state / "keys.json").revoke(key_id)
    console.print(f"{key_id}: revoked")


@audit_app.command("verify")
def audit_verify(
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
    head: Annotated[str | None, typer.Option(help="the head you kept elsewhere; finds a cut or rewritten log")] = None,
) -> None:
    """Check the hash chain; names the first broken record."""
    from medward.guard.audit.log import verify_log

    log = log / "audit.jsonl" if log.is_dir() else log
    result = verify_log(log, head=head)
    console.print(f"{log}: {result.records} records, chain whole, head {result.head}", markup=False)
    if result.back:
        console.print(f"the clock went back {result.back} times; the records stand in the order they were written in")


@accounts_app.command("reset")
def accounts_reset(
    principal: Annotated[str, typer.Argument(help="hospital-a/radiology/key-17, or one of its parents")],
    state: State = Path("state"),
    store: Shared = None,
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
