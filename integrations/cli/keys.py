"""``medward keys``: the API keys of a serving host."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from medward.integrations.cli.options import StateOption, console

keys_app = typer.Typer(no_args_is_help=True, help="API keys of a serving host.")


@keys_app.command("add")
def keys_add(
    principal: Annotated[str, typer.Argument(help="who holds it, as a path: hospital-a/radiology/key-17")],
    state: StateOption = Path("state"),
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
def keys_list(state: StateOption = Path("state")) -> None:
    """Show who holds keys; never the keys."""
    from medward.integrations.serving.keys import KeyStore

    for key in KeyStore(state / "keys.json").list():
        end = "revoked" if key.revoked else f"expires {key.expires:%Y-%m-%d}" if key.expires else "no end"
        console.print(f"{key.id}  {'/'.join(key.principal)}  {key.scope}  {end}", markup=False)


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], state: StateOption = Path("state")) -> None:
    """Refuse a key from now on, running servers included."""
    from medward.integrations.serving.keys import KeyStore

    KeyStore(state / "keys.json").revoke(key_id)
    console.print(f"{key_id}: revoked")
