"""Every cell of the documents' table of models and data is run, and comes out as the table says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.data_forms import FORMS
from support.hospital_models import CELLS, MODELS, SLOW, protect_cell, serve_cell

from medward.guard.data.objects import as_splits

SHOWN = Path(__file__).parents[2] / "docs" / "results" / "models_and_data.json"


@pytest.fixture(scope="module")
def shown():
    """What the documents say."""
    return json.loads(SHOWN.read_text())["details"]


def test_the_table_has_a_row_for_each_kind(shown):
    assert list(shown["models"]) == list(MODELS)
    assert list(shown["data"]) == list(FORMS)
    assert all(list(row) == list(CELLS) for row in shown["models"].values())


@pytest.mark.parametrize("name", [name for name in MODELS if name not in SLOW])
def test_a_model_is_protected_and_served_as_the_table_says(name, shown, tmp_path):
    subject = MODELS[name]()
    assert protect_cell(subject, tmp_path) == shown["models"][name]["protect"] == "yes"
    assert serve_cell(subject, tmp_path) == shown["models"][name]["serve"] == "yes"


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_goes_through_every_command_as_the_table_says(name, shown, tmp_path):
    subject = MODELS[name]()
    assert {command: cell(subject, tmp_path) for command, cell in CELLS.items()} == shown["models"][name]


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_data_is_read_as_the_table_says(name, shown, tmp_path):
    form = FORMS[name]
    (split,) = as_splits(form.make(tmp_path), form.reading(tmp_path)).values()
    assert shown["data"][name]["read"] == "yes"
    assert len(split) == form.shape[0]
    assert form.shape[1:] in ((), split.inputs.shape[1:])
    assert (split.labels is not None or split.names is not None) is form.labelled
    assert (split.patients is not None) is form.patients
