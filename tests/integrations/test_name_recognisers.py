"""Recognisers of names: what one needs is said, and what a model finds comes back as spans of the right kind."""

from importlib.util import find_spec

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


def test_what_a_token_classifier_finds_is_added(tmp_path):
    """A model whose weights say PER of every word and O of every full stop."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "xqzrv", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=len(words),
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=8,
        id2label={0: "O", 1: "B-PER"},
        label2id={"O": 0, "B-PER": 1},
    )
    model = transformers.BertForTokenClassification(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.bert.embeddings.word_embeddings.weight.copy_(10 * torch.eye(len(words)))
        model.bert.embeddings.LayerNorm.weight.fill_(1)
        model.classifier.weight[1, words.index("xqzrv")] = 10
        model.classifier.bias[0] = 1
    model.save_pretrained(tmp_path)
    recogniser = TokenClassifierRecogniser(tmp_path, {"PER": "name"})
    assert TextFilter().redact("the xqzrv.").text == "the xqzrv."
    assert TextFilter(recogniser=recogniser).redact("the xqzrv.").text == "the [NAME]."
