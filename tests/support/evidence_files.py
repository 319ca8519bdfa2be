"""A report of scripted attacks on disk, beside a copy of the golden bundle that it says it is of, and keys."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from golden import make

from medward.attacks.report.files import save_report
from medward.attacks.validation.deployment import Deployment
from medward.attacks.validation.finding import Acceptance, Finding, Status
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.waiving import today_utc
from medward.guard.bundle.parts import read_card

sys.path.insert(0, str(Path(__file__).parents[1] / "attacks"))
from validation_fakes import SPLITS, Scripted, deployment

OPENSSL = {"ed25519": ["-algorithm", "ed25519"], "p-256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}


def scripted_report(folder: Path) -> Report:
    """HELD, BROKEN, INCONCLUSIVE and a thief's row, judged for good; of the golden bundle, as its provenance says."""
    attacks = (
        Scripted(name="kept-out"),
        Scripted(name="got-through", behind=0.7),
        Scripted(name="weak", free=0.2),
        Scripted(name="thief", family="extraction", behind=0.1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 50)
        report = run_validation(Deployment(bundle=deployment()), SPLITS, folder, attacks=attacks, progress=False)
    facts = report.provenance.model_copy(update={"bundle": read_card(make.HERE / "bundle").digest})
    return report.model_copy(update={"provenance": facts, "places": {}})


def accepted(finding: Finding, days: int) -> Finding:
    """The finding, lived with until so many days from today."""
    until = today_utc() + timedelta(days)
    word = Acceptance(reason="reviewed by the board", by="Dr. Ada Example", until=until, status=finding.status)
    return finding.model_copy(update={"status": Status.ACCEPTED, "accepted": word})


def lay_out(report: Report, folder: Path) -> tuple[Path, Path]:
    """`report` on disk, and the bundle; both below `folder`."""
    shutil.copytree(make.HERE / "bundle", folder / "bundle")
    placed = report.model_copy(update={"places": {"bundle": str(folder / "bundle")}})
    save_report(placed, folder / "report")
    return folder / "report", folder / "bundle"


def key_pair(folder: Path, kind: str) -> tuple[Path, Path]:
    """A private and a public key of `kind`, made by OpenSSL as a hospital would."""
    private, public = folder / f"{kind}.pem", folder / f"{kind}.pub"
    for command in (["genpkey", *OPENSSL[kind], "-out", private], ["pkey", "-in", private, "-pubout", "-out", public]):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return private, public
