"""Where a killed private training left its ledger, and what becomes of it: gone on with, or cleared once it is done.

The ledger lies beside the folder that is written and not in it, for what a killed run built is cleared and what it
spent must not be forgotten.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.harden.certificate import Hardened
from medward.guard.harden.private.method import PrivateTraining

_log = logging.getLogger("medward.harden")


def training_ledger(out: Path) -> Path:
    """The ledger of a training whose result becomes the folder `out`."""
    return out.absolute().with_name(f".{out.name}.ledger")


def harden_with_ledger(method: PrivateTraining, out: Path, *, resume: bool, **given: Any) -> Hardened:
    """``method.harden(**given)`` with the ledger beside `out`, unless it has one of its own.

    With `resume` a training that was killed goes on where it was. Raises `MedwardError` for a ledger that was not to be
    gone on with, and for one that is not there; one that fails before it begins leaves none.
    """
    if method.checkpoint is not None:
        return method.harden(**given)
    ledger = training_ledger(out)
    if resume and not ledger.exists():
        raise MedwardError(f"resume: there is no killed training to go on with at {ledger}; leave it out")
    if ledger.exists() and not resume:
        raise MedwardError(
            f"{ledger}: is of a training that was killed; go on with it by --resume, or delete it, and its epsilon "
            "counts besides if anything of it was seen"
        )
    try:
        return replace(method, checkpoint=ledger).harden(**given)
    except KeyboardInterrupt:
        if ledger.exists():
            _log.warning("stopped; what was spent is in %s: go on with the same command and --resume", ledger)
        else:
            clear_ledger(out)
        raise
    except MedwardError:
        if not ledger.exists():
            clear_ledger(out)
        raise


def clear_ledger(out: Path) -> None:
    """Delete the ledger beside `out`, and what was noted with it."""
    ledger = training_ledger(out)
    for each in ledger.parent.glob(f"{ledger.name}*"):
        each.unlink()
