"""Recognisers of names: what one needs is said, and what a model finds comes back as spans of the right kind."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from medward.guard.errors import MedwardError
from medward.guard.release.text import TextFilter
from medward.integrations.name_recognisers import SpacyRecogniser, TokenClassifierRecogniser


@pytest.mark.skipif(find_spec("spacy") is not None, reason="spaCy is installed here")
def test_without_spacy_its_recogniser_says_what_to_install():
    with pytest.raises(MedwardError, match=r"pip install 'medward\[text-ner\]'"):
        SpacyRecogniser("en_core_web_sm")


@pytest.mark.skipif(find_spec("spacy") is None, reason="needs spaCy")
def test_a_spacy_model_that_is_not_there_is_named():
    with pytest.raises(MedwardError, match="'no_such_model': not installed"):
        SpacyRecogniser("no_such_model")


def test_a_token_classifier_needs_a_folder_and_kinds_that_there_are(tmp_path):
    with pytest.raises(MedwardError, match="no such folder"):
        TokenClassifierRecogniser(tmp_path / "none", {"PER": "name"})
    with pytest.raises(MedwardError, match="'person' is no kind; there are: name, place"):
        TokenClassifierRecogniser(tmp_path, {"PER": "person"})


def test_what_a_token_classifier_finds_is_added(tmp_path, monkeypatch):
    """The library's pipeline is played by one that names what the real one would."""

    def pipeline(task, *, model, tokenizer, aggregation_strategy):
        assert (task, aggregation_strategy) == ("token-classification", "simple")
        assert model == tokenizer == str(tmp_path)
        return lambda text: [
            {"entity_group": label, "start": text.find(word), "end": text.find(word) + len(word), "score": 0.9}
            for label, word in (("PER", "xqzrv"), ("MISC", "film"))
            if word in text
        ]

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    recogniser = TokenClassifierRecogniser(tmp_path, {"PER": "name"})
    assert TextFilter().redact("the film of xqzrv.").text == "the film of xqzrv."
    assert TextFilter(recogniser=recogniser).redact("the film of xqzrv.").text == "the film of [NAME]."
