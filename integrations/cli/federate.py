"""``medward federate``: what the server of a federation did with its clients."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from medward.guard.errors import MedwardError
from medward.integrations.cli.options import console
from medward.integrations.cli.said_once import SaidOnce

if TYPE_CHECKING:
    from medward.guard.audit.log import Verification
    from medward.guard.federated.client_history import ClientHistory, ClientRound, FederationHistory

_COLUMNS = (
    *("client", "rounds", "suspected", "from round", "to round", "why at last (peak > threshold)"),
    *("refused", "longest", "weight now"),
)

federate_app = typer.Typer(no_args_is_help=True, help="What the server of a federation did with its clients.")


@federate_app.command("audit", cls=SaidOnce)
def federate_audit(
    log: Annotated[Path, typer.Argument(help="the server's audit log, or the folder that holds its audit.jsonl")],
    client: Annotated[str | None, typer.Option(help="the rounds of this client, one a line")] = None,
    head: Annotated[str | None, typer.Option(help="the head you kept elsewhere; finds a cut or rewritten log")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="every round of every client, for a program")] = False,
) -> None:
    """Say which clients were suspected or refused, when and why, and what each counts now; checks the chain first."""
    from medward.guard.audit.log import read_log, verify_log
    from medward.guard.federated.client_history import federation_history

    log = log / "audit.jsonl" if log.is_dir() else log
    verification = verify_log(log, head=head)
    if verification.torn and not as_json:
        _line(
            f"{log}: its last line is unfinished, {verification.torn} bytes of a killed writer or of damage: not read"
        )
    history = federation_history(read_log(log), str(log))
    clients = history.clients
    if client is not None and client not in clients:
        raise MedwardError(_printable(f"--client: {client} sent nothing; there are {', '.join(sorted(clients)[:20])}"))
    shown = list(clients.values()) if client is None else [clients[client]]
    if as_json:
        sys.stdout.write(json.dumps(_said(history, shown, verification), indent=2) + "\n")
        return
    _line(f"{log}: {history.rounds} rounds, {len(clients)} clients, chain whole, head {verification.head}")
    if history.repeated:
        _line(f"rounds whose number had been there before: {history.repeated}; the server was started again")
    for rule, count in history.rules.items():
        _line(f"aggregated by {rule} in {count} of {history.rounds} rounds")
    for reason, count in history.unchanged.items():
        _line(f"model unchanged in {count} of {history.rounds} rounds: {reason}")
    for sentence, count in history.unprotected.items():
        _line(f"unprotected in {count} of {history.rounds} rounds: {sentence}")
    if client is None:
        _print_table(history)
    else:
        _print_rounds(shown[0])


def _print_table(history: FederationHistory) -> None:
    """One row a client: those suspected most often come first, then those refused."""
    table = Table(*_COLUMNS, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    ranked = sorted(history.clients.values(), key=lambda each: (-len(each.suspected), -len(each.refused), each.node))
    for each in ranked:
        table.add_row(*(Text(_printable(cell)) for cell in _row(each, history.last)))
    console.print(table)
    for each in ranked:
        for reason, rounds in _reasons(each).items():
            _line(f"{each.node} refused in {_listed(rounds)}: {reason}")


def _row(client: ClientHistory, last: int) -> tuple[str, ...]:
    suspected = client.suspected
    final = suspected[-1].suspicion if suspected else None
    return (
        client.node,
        str(len(client.rounds)),
        str(len(suspected)),
        str(suspected[0].round) if suspected else "-",
        str(suspected[-1].round) if suspected else "-",
        f"{final.view} {final.peak:.2f} > {final.threshold:.2f}" if final else "-",
        str(len(client.refused)),
        "-" if client.longest is None else f"{client.longest:.4g}",
        _weight(client, last),
    )


def _weight(client: ClientHistory, last: int) -> str:
    """Its weight in its last aggregate; where others came after, with the round."""
    if client.weight is None:
        return "never counted"
    counted = next(each.round for each in reversed(client.rounds) if each.weight is not None)
    return f"{client.weight:.4f}" + ("" if counted == last else f" (round {counted})")


def _print_rounds(client: ClientHistory) -> None:
    for each in client.rounds:
        _line(f"round {each.round}: {'; '.join(_events(each))}")


def _events(each: ClientRound) -> list[str]:
    said = [] if each.weight is None else [f"weight {each.weight:.4f}"]
    said += [] if each.length is None else [f"length {each.length:.4g} medians"]
    said += [] if each.trust is None else [f"trust {each.trust:.3f}"]
    for word, found in (("suspected", each.suspicion), ("as suspicious, but spared", each.spared)):
        said += [] if found is None else [f"{word}: {found.view} {found.peak:.2f} > {found.threshold:.2f}"]
    if each.suspicion is None and each.spared is None and each.peak is not None:
        said.append(f"stands out most in {each.peak[0]}: {each.peak[1]:.2f}")
    said += [] if each.refusal is None else [f"refused: {each.refusal}"]
    return said + ([] if each.epsilon is None else [f"says it has spent epsilon {each.epsilon:.3g}"])


def _reasons(client: ClientHistory) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for each in client.refused:
        found.setdefault(each.refusal or "", []).append(each.round)
    return found


def _listed(rounds: list[int]) -> str:
    if len(rounds) == 1:
        return f"round {rounds[0]}"
    if len(rounds) <= 5:
        return f"rounds {', '.join(map(str, rounds))}"
    return f"{len(rounds)} rounds from {rounds[0]} to {rounds[-1]}"


def _said(history: FederationHistory, clients: list[ClientHistory], verification: Verification) -> dict[str, Any]:
    return {
        "head": verification.head,
        "torn": verification.torn,
        "rounds": history.rounds,
        "last": history.last,
        "repeated": history.repeated,
        "unprotected": dict(history.unprotected),
        "rules": dict(history.rules),
        "unchanged": dict(history.unchanged),
        "clients": {
            each.node: {
                "weight": each.weight,
                "epsilon": each.epsilon,
                "longest": each.longest,
                "suspected": [seen.round for seen in each.suspected],
                "refused": [seen.round for seen in each.refused],
                "rounds": [asdict(seen) for seen in each.rounds],
            }
            for each in clients
        },
    }


def _line(text: str) -> None:
    console.print(_printable(text), markup=False)


def _printable(text: str) -> str:
    """The text without what could steer a terminal: names and reasons are partly the clients' own words."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
