"""The models and the data that hospitals have: each kind of model through every command, each form of data read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from claim import Claim
from support.data_forms import FORMS
from support.hospital_models import CELLS, MODELS

from medward.guard.data.objects import as_splits
from medward.guard.errors import MedwardError

CLAIMS = ("models_and_data",)


def measure() -> Iterator[Claim]:
    """Run every cell; a kind counts when it is protected and answers over HTTP as the model itself does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = {name: _in_a_folder(_commands, name) for name in MODELS}
        data = {name: _in_a_folder(_read, name) for name in FORMS}
    served = [name for name, row in models.items() if (row["protect"], row["serve"]) == ("yes", "yes")]
    read = [name for name, row in data.items() if row["read"] == "yes"]
    yield Claim(
        claim="models_and_data",
        value=len(served) + len(read),
        target=f"all {len(MODELS)} kinds of model protected and served to 1e-5, all {len(FORMS)} forms of data read",
        met=len(served) + len(read) == len(MODELS) + len(FORMS),
        n=len(MODELS) + len(FORMS),
        details={"models": models, "data": data},
    )


def _commands(name: str, folder: Path) -> dict[str, str]:
    subject = MODELS[name]()
    return {command: cell(subject, folder) for command, cell in CELLS.items()}


def _read(name: str, folder: Path) -> dict[str, str]:
    form = FORMS[name]
    try:
        as_splits(form.make(folder), form.reading(folder))
    except MedwardError as error:
        return {"reader": form.reader, "read": str(error)}
    return {"reader": form.reader, "read": "yes"}


def _in_a_folder(run: Any, name: str) -> dict[str, str]:
    with TemporaryDirectory() as folder:
        found: dict[str, str] = run(name, Path(folder))
        return found
