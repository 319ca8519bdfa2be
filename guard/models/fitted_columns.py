"""The names of the columns that a model was fitted on, as the libraries of models of tables keep them."""

from __future__ import annotations

import re
from pathlib import Path

from medward.guard.errors import MedwardError
from medward.guard.models.callable_model import resolve_entrypoint
from medward.guard.models.skops_file import load_skops

_NUMBERED = re.compile(r"(Column_)?[0-9]+")  # what LightGBM and CatBoost call the columns of an array


def fitted_columns(model: object) -> list[str] | None:
    """The names of the columns that `model`, or what it names, was fitted on; None where it knows none."""
    if isinstance(model, str) and ":" in model and not model.endswith((".onnx", ".skops")):
        try:
            model = resolve_entrypoint(model)
        except MedwardError:
            return None  # `infer_spec` says what is wrong with it
    elif str(model).endswith(".skops") and Path(str(model)).is_file():
        model = load_skops(Path(str(model)).read_bytes())
    for attribute in ("feature_names_in_", "feature_names_"):
        names = getattr(model, attribute, None)
        if names is not None and not callable(names):
            found = [str(each) for each in names]
            return None if all(_NUMBERED.fullmatch(each) for each in found) else found
    return None
