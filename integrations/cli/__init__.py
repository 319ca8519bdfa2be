"""The command ``medward``. Every mistake of a user ends in one sentence on stderr and exit code 3.

``medward validate`` exits 0 when everything held, 1 when something broke, 2 when it is inconclusive.
"""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from guard.errors import MedwardError, UnavailableError
from integrations.cli.bundles import calibrate, protect, seal
from integrations.cli.experiments import bench
from integrations.cli.host import accounts, audit, keys, serve
from integrations.cli.judging import demo, validate
from integrations.cli.training import harden
from integrations.cli.watching import drift

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for command in (protect, calibrate, harden, validate, serve, drift, demo, seal):
    app.command()(command)
for name, group in {"keys": keys, "audit": audit, "accounts": accounts, "bench": bench}.items():
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
