"""The import arrows on a copy of the packages, so that a wrong import can be planted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("medward", "guard", "attacks", "integrations")
PLANTS = {
    "guard/pipeline.py": "import torch",
    "guard/policy.py": "from medward import attacks",
    "guard/accounts/stores.py": "import sklearn.svm",
    "attacks/target.py": "from medward.integrations import cli",
    "attacks/evasion/pgd.py": "from medward.attacks.membership import loss",
    "attacks/poisoning/mimic.py": "from medward.attacks.membership import pool",
}
"""File -> an import that must not be there."""


def copy(folder: Path) -> None:
    """The packages and their lint settings into `folder`."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the copy in `folder`."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(folder)}
    )


def caught(folder: Path, file: str, planted: str) -> bool:
    """Plant one import in the copy, lint, take it out again: was that import named as broken?"""
    path = folder / file
    good = path.read_text()
    path.write_text(f"{good}\n{planted}\n")
    try:
        done = lint(folder)
    finally:
        path.write_text(good)
    importer = file.removesuffix(".py").replace("/", ".")
    return done.returncode == 1 and "BROKEN" in done.stdout and importer in done.stdout
