"""The command ``medward``. Every mistake of a user ends in one sentence on stderr and exit code 3.

``medward validate`` exits 0 when everything held, 1 when something broke, 2 when it is inconclusive.
``medward compare`` exits 1 for evidence, 0 for none, 2 where it cannot be told.
``medward doctor`` exits 0 when all is well, 1 when there is something to mend.
``medward changes`` exits 0 within intervals, 1 beyond them, 2 where it must be tested again.
``medward attest verify`` exits 1 when a signed result did not pass.
``medward deidentify`` exits 1 when a file was refused, ``medward harden`` when training collapsed.
"""

from __future__ import annotations

import sys

import typer

from medward.guard.errors import MedwardError, UnavailableError
from medward.integrations.cli.accounts import accounts_app
from medward.integrations.cli.advise import advise_command
from medward.integrations.cli.attest import attest_app
from medward.integrations.cli.audit import audit_app
from medward.integrations.cli.backup import backup_command, restore_command
from medward.integrations.cli.bench import bench_app
from medward.integrations.cli.bom import bom_command
from medward.integrations.cli.calibrate import calibrate_command
from medward.integrations.cli.changes import changes_command
from medward.integrations.cli.compare import compare_command
from medward.integrations.cli.deidentify import deidentify_command
from medward.integrations.cli.demo import demo_command
from medward.integrations.cli.doctor import doctor_command
from medward.integrations.cli.drift import drift_command
from medward.integrations.cli.federate import federate_app
from medward.integrations.cli.fingerprint import fingerprint_command
from medward.integrations.cli.harden import harden_command
from medward.integrations.cli.incidents import incidents_command
from medward.integrations.cli.keys import keys_app
from medward.integrations.cli.protect import protect_command
from medward.integrations.cli.said_once import SaidOnce
from medward.integrations.cli.seal import seal_command
from medward.integrations.cli.serve import serve_command
from medward.integrations.cli.threats import threats_command
from medward.integrations.cli.validate import validate_command

try:
    from typer.exceptions import TyperException
except ModuleNotFoundError:  # Typer before 0.29, which Flower holds on to, raises Click's
    from click import ClickException as TyperException  # type: ignore[assignment]

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for command in (
    protect_command,
    calibrate_command,
    harden_command,
    validate_command,
    advise_command,
    changes_command,
    threats_command,
    bom_command,
    serve_command,
    drift_command,
    incidents_command,
    backup_command,
    restore_command,
    fingerprint_command,
    compare_command,
    deidentify_command,
    demo_command,
    doctor_command,
    seal_command,
):
    app.command(command.__name__.removesuffix("_command"), cls=SaidOnce)(command)
for name, group in {
    "attest": attest_app,
    "keys": keys_app,
    "audit": audit_app,
    "accounts": accounts_app,
    "bench": bench_app,
    "federate": federate_app,
}.items():
    app.add_typer(group, name=name)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a command and exit with its code."""
    try:
        code = app(arguments, standalone_mode=False)
    except (MedwardError, UnavailableError) as error:
        _fail(str(error))
    except TyperException as error:
        _fail(error.format_message() or "name a command")  # a bare group has printed its help
    except typer.Abort:
        sys.exit(130)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}")
    except ModuleNotFoundError as error:
        _fail(f"this command needs {error.name}: pip install 'medward[all]'")
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str) -> None:
    sys.stderr.write(f"medward: {sentence}\n")
    sys.exit(3)
