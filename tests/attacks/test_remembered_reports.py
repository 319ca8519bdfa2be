"""Reports that are remembered are the model's own, written once a row."""

from collections import Counter

import numpy as np
import pytest
from support.report_models import report_policy
from support.report_networks import encoder_decoder

from medward.attacks.validation.deployment import fresh_guard
from medward.attacks.validation.remembered_reports import with_remembered_reports
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.types import Query

ROWS = np.random.default_rng(0).random((4, 1, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    benign = Split(np.random.default_rng(1).random((300, 1, 16, 16)).astype(np.float32))
    said = {"task": "report", "classes": ("effusion", "cardiomegaly"), "low": 0.0, "high": 1.0}
    writer = encoder_decoder(1)
    writer.network.generation_config.max_new_tokens = 6
    return protect(writer, benign, report_policy(), tmp_path_factory.mktemp("remembered") / "bundle", **said)


def test_they_are_the_models_own_and_each_row_is_written_about_once(bundle, monkeypatch):
    own, written, plain = bundle.model.predict(ROWS), Counter(), PretrainedWriter.pieces

    def counted(self, pixels, *given):
        written[pixels.numpy().tobytes()] += 1
        yield from plain(self, pixels, *given)

    monkeypatch.setattr(PretrainedWriter, "pieces", counted)
    remembered = with_remembered_reports(bundle)
    guard = fresh_guard(remembered)
    for _ in range(3):
        found = remembered.model.predict(ROWS)
        assert found.texts == own.texts
        np.testing.assert_array_equal(found.scores, own.scores)
        np.testing.assert_array_equal(found.features, own.features)
        for row in range(len(ROWS)):
            answer = guard.answer(Query(principal=("clinic",), inputs=ROWS[row : row + 1]))
            assert answer.texts in ((own.texts[row],), (None,))
    assert set(written.values()) == {1}
    assert len(written) == len(ROWS)


def test_other_models_are_asked_as_ever(bundle):
    assert with_remembered_reports(with_remembered_reports(bundle)).model.model is bundle.model
