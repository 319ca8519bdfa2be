"""``medward keys``: the API keys of a serving host, or of all replicas that share a store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medward.integrations.cli.options import StateOption, StoreOption, console

if TYPE_CHECKING:
    from medward.guard.accounts.stores import Store
    from medward.integrations.serving.keys import KeyStore

keys_app = typer.Typer(no_args_is_help=True, help="API keys of a serving host, or of all replicas of one --store.")
DaysOption = Annotated[int | None, typer.Option(min=1, max=3650, help="valid for so many days")]
KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="as `medward keys list` shows it")]


@keys_app.command("add")
def keys_add(
    principal: Annotated[str, typer.Argument(help="who holds it, as a path: hospital-a/radiology/key-17")],
    state: StateOption = Path("state"),
    store: StoreOption = None,
    days: DaysOption = None,
    scope: Annotated[Literal["predict", "metrics", "admin"], typer.Option(help="what the key opens")] = "predict",
) -> None:
    """Make a key and print its token, once."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _opened(state, store) as keys:
        token = keys.add(tuple(principal.split("/")), expires=_end(days), scope=scope)
    sys.stdout.write(token + "\n")


@keys_app.command("list")
def keys_list(state: StateOption = Path("state"), store: StoreOption = None) -> None:
    """Show who holds keys, and the last day on which each was used; never the keys."""
    from medward.integrations.serving.key_use import last_uses

    with _opened(state, store) as keys, _accounts(state, keys.shared) as accounts:
        uses = last_uses(accounts) if accounts else {}
        for key in keys.list():
            end = "revoked" if key.revoked else f"expires {key.expires:%Y-%m-%d}" if key.expires else "no end"
            used = f"used {uses[key.id]}" if key.id in uses else "not used"
            replaces = f"  replaces {key.replaces}" if key.replaces else ""
            said = f"{key.id}  {'/'.join(key.principal)}  {key.scope}  {end}  {used}{replaces}"
            console.print(said, markup=False)


@keys_app.command("rotate")
def keys_rotate(
    key_id: KeyArgument,
    state: StateOption = Path("state"),
    store: StoreOption = None,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=8760, help="hours for which the old key is still valid beside the new one")
    ] = 24,
    days: DaysOption = None,
) -> None:
    """Make a key in the place of another, print its token, once, and let the old one end."""
    with _opened(state, store) as keys:
        token = keys.rotate(key_id, overlap=timedelta(hours=overlap_hours), expires=_end(days))
    sys.stdout.write(token + "\n")


@keys_app.command("revoke")
def keys_revoke(key_id: KeyArgument, state: StateOption = Path("state"), store: StoreOption = None) -> None:
    """Refuse a key from now on, running servers included; on all replicas of --store within a second."""
    with _opened(state, store) as keys:
        keys.revoke(key_id)
    console.print(f"{key_id}: revoked")


@contextmanager
def _opened(state: Path, store: str | None) -> Iterator[KeyStore]:
    """The keys of a host, and those of `store` where replicas share it."""
    from medward.integrations.serving.keys import KeyStore
    from medward.integrations.serving.store import is_shared, open_store

    with ExitStack() as closing:
        shared = open_store(store) if store and is_shared(store) else None
        if shared is not None:
            closing.callback(shared.close)
        yield KeyStore(state / "keys.json", shared=shared)


@contextmanager
def _accounts(state: Path, shared: Store | None) -> Iterator[Store | None]:
    """Where the server noted the use of keys, if it was ever run here."""
    from medward.guard.state import ACCOUNTS_FILE
    from medward.integrations.serving.store import open_store

    if shared is not None or not (state / ACCOUNTS_FILE).exists():
        yield shared
        return
    opened = open_store(state / ACCOUNTS_FILE, existing=True)
    try:
        yield opened
    finally:
        opened.close()


def _end(days: int | None) -> datetime | None:
    return None if days is None else datetime.now(UTC) + timedelta(days=days)
