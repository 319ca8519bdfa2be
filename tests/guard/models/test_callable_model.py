from __future__ import annotations

import functools
import sys

import numpy as np
import pytest

from medward.guard import models
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SPEC = ModelSpec(name="m", modality="tabular", shape=(3,), task=Classification(classes=("a", "b"), output="logits"))
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
SOURCE = "import functools\ndef score(batch):\n    return batch[:, :2]\npartial = functools.partial(score)\n"


def top_level(batch):
    return batch[:, :2]


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"planted_{tmp_path.name}".replace("-", "_")
    path = tmp_path / "code" / f"{name}.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(path.parent)
    yield name, path
    sys.modules.pop(name, None)


def reload(folder, exported, **options):
    data = (folder / exported.file).read_bytes()
    return models.load_model(exported.file, data, spec=SPEC, options=exported.options, **options)


def test_code_is_named_not_stored(tmp_path):
    exported = models.wrap(top_level, spec=SPEC, sample=X).export(tmp_path)
    text = (tmp_path / "entrypoint.json").read_text()
    assert "test_callable_model:top_level" in text
    assert "return" not in text
    np.testing.assert_array_equal(reload(tmp_path, exported, allow_code=True).predict(X).scores, X[:, :2])


def test_loading_code_must_be_allowed(tmp_path, module):
    name, _ = module
    exported = models.wrap(f"{name}:score", spec=SPEC, sample=X).export(tmp_path)
    del sys.modules[name]
    with pytest.raises(MedwardError, match="allow_code=True"):
        reload(tmp_path, exported, allow_code=False)
    assert name not in sys.modules


def test_changed_source_is_refused_before_it_runs(tmp_path, module):
    name, path = module
    exported = models.wrap(f"{name}:score", spec=SPEC, sample=X).export(tmp_path)
    del sys.modules[name]
    path.write_text(SOURCE + "\n")
    with pytest.raises(IntegrityError, match=f"{name}:score: its source changed"):
        reload(tmp_path, exported, allow_code=True)
    assert name not in sys.modules


@pytest.mark.parametrize("attribute", ["score", "partial"])
def test_any_named_callable_can_be_protected(tmp_path, module, attribute):
    name, _ = module
    exported = models.wrap(f"{name}:{attribute}", spec=SPEC, sample=X).export(tmp_path)
    assert reload(tmp_path, exported, allow_code=True).spec == SPEC


@pytest.mark.parametrize("function", [lambda batch: batch[:, :2], functools.partial(top_level)])
def test_what_has_no_name_is_refused(tmp_path, function):
    with pytest.raises(MedwardError, match="only name a callable"):
        models.wrap(function, spec=SPEC, sample=X).export(tmp_path)


@pytest.mark.parametrize("name", ["absent_module:f", "medward.guard.models:absent", ":", "guard.types:"])
def test_a_wrong_name_is_one_sentence(name):
    with pytest.raises(MedwardError, match="cannot import it"):
        models.wrap(name, spec=SPEC, sample=X)


@pytest.mark.parametrize("data", [b"{}", b"[]", b"\xff", b'{"entrypoint": "absent_module:f", "source_sha256": ""}'])
def test_a_damaged_entry_point_is_one_sentence(data):
    with pytest.raises(MedwardError, match=r"entrypoint|cannot find the source"):
        models.load_model("entrypoint.json", data, spec=SPEC, options={}, allow_code=True)


def test_features_are_refused():
    with pytest.raises(MedwardError, match="a callable shows none"):
        models.wrap(top_level, spec=SPEC, sample=X, features="x")
