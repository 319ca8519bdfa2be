"""A certificate goes with the one file that it is of, into the card and under the card's digest."""

import json
import logging
import shutil

import numpy as np
import onnx
import pytest
from sklearn.linear_model import LogisticRegression
from support.certificates import privacy_certificate, robustness_certificate

from medward.guard.bundle.add_site import add_site
from medward.guard.bundle.card import FORMAT, canonical_json, sha256
from medward.guard.bundle.certified import check_range
from medward.guard.bundle.folder import load_bundle, seal_bundle
from medward.guard.bundle.make import protect
from medward.guard.certificate import HARDENED_MARK, certificate_sentence, read_certificate
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.models.onnx_front import add_metadata
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.opaque import Opaque

RNG = np.random.default_rng(0)
X = RNG.normal(size=(260, 4)).astype(np.float32)
Y = (X[:, 0] + 0.3 * RNG.normal(size=260) > 0).astype(np.int64)
POLICY = Policy(on_error="withhold")
CERTIFICATES = {"privacy": privacy_certificate, "robustness": robustness_certificate}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A model as a file that is not what Medward would export of it byte for byte."""
    folder = tmp_path_factory.mktemp("certified")
    model = LogisticRegression().fit(X, Y)
    bundle = protect(model, Split(X), POLICY, folder / "plain", classes=("a", "b"))
    given = onnx.load(bundle.path / "model.onnx")
    given.doc_string = "written by somebody else"
    onnx.save(given, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture
def model(file, tmp_path):
    return shutil.copy(file, tmp_path / "model.onnx")


def certify(model, make=privacy_certificate, **changes):
    """Write the certificate of the file `model` beside it."""
    known = {"files": {"model.onnx": sha256(model.read_bytes()), "original.onnx": "0" * 64}}
    certificate = make(**(known | changes))
    (model.parent / "certificate.json").write_text(certificate.model_dump_json(indent=1))
    return certificate


def protected(model, out, **settings):
    return protect(str(model), Split(X), POLICY, out, classes=("a", "b"), output="probabilities", **settings)


@pytest.mark.parametrize("claim", CERTIFICATES)
def test_the_card_holds_the_certificate_of_the_file_that_was_handed_in(model, tmp_path, claim, caplog):
    certificate = certify(model, CERTIFICATES[claim])
    with caplog.at_level(logging.INFO, "medward.data"):
        bundle = protected(model, tmp_path / "b")
    assert certificate_sentence(certificate) in caplog.text
    card = load_bundle(tmp_path / "b", expect=bundle.digest).card
    assert (card.format, card.certificate, card.certificate.claim) == (FORMAT, certificate, claim)
    assert card.source == sha256(model.read_bytes()) == certificate.files["model.onnx"]
    (tmp_path / "b" / "policy.toml").write_text(POLICY.to_toml() + "\n# read\n")
    seal_bundle(tmp_path / "b")
    sealed = load_bundle(tmp_path / "b")
    site = add_site(sealed, "clinic", sealed.profile, data_digest="0" * 64, sizes={"benign": 1})
    assert site.card.certificate == load_bundle(tmp_path / "b").card.certificate == certificate


def test_without_a_certificate_there_is_none(model, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "medward.data"):
        card = protected(model, tmp_path / "b").card
    assert (card.certificate, card.source) == (None, sha256(model.read_bytes()))
    assert "certificate" not in caplog.text
    assert (
        protect(LogisticRegression().fit(X, Y), Split(X), POLICY, tmp_path / "c", classes=("a", "b")).card.source
        is None
    )


def test_a_hardened_file_that_came_without_its_certificate_is_told(model, tmp_path, caplog):
    add_metadata(model, {HARDENED_MARK: "dp"})
    with caplog.at_level(logging.WARNING, "medward.data"):
        assert protected(model, tmp_path / "b").card.certificate is None
    assert "was hardened, and no certificate.json lies beside it" in caplog.text
    assert "give --certificate" in caplog.text


OTHERS = {
    "of another file": ({"model.onnx": "e" * 64}, "is of another model: it certifies a file of SHA-256 eeeeeeeeeeee"),
    "of the model before": (
        {"model.onnx": "e" * 64, "original.onnx": ""},
        "certifies model.onnx, and the model given is",
    ),
    "of no file": ({}, "is of another model: it certifies a file of SHA-256 none"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_one_of_another_file_is_not_carried_over(model, tmp_path, caplog, other):
    files, sentence = OTHERS[other]
    certify(model, files={name: digest or sha256(model.read_bytes()) for name, digest in files.items()})
    with caplog.at_level(logging.WARNING, "medward.data"):
        assert protected(model, tmp_path / "b").card.certificate is None
    assert sentence in caplog.text
    assert "it is not carried over" in caplog.text
    with pytest.raises(MedwardError, match=sentence):
        protected(model, tmp_path / "c", certificate=tmp_path / "certificate.json")
    assert not (tmp_path / "c").exists()


def test_a_certificate_that_was_said_must_be_one(model, tmp_path):
    certify(model)
    place = shutil.move(tmp_path / "certificate.json", tmp_path / "elsewhere.json")
    assert protected(model, tmp_path / "b", certificate=place).card.certificate == privacy_certificate(
        files={"model.onnx": sha256(model.read_bytes()), "original.onnx": "0" * 64}
    )
    with pytest.raises(MedwardError, match=r"absent\.json: cannot be read: No such file"):
        protected(model, tmp_path / "c", certificate=tmp_path / "absent.json")
    place.write_text('{"claim": "invincibility"}')
    with pytest.raises(MedwardError, match=r"elsewhere\.json: is no certificate of medward harden"):
        protected(model, tmp_path / "c", certificate=place)
    module = LogisticRegression().fit(X, Y)
    with pytest.raises(MedwardError, match="the model was not given as a file"):
        protect(module, Split(X), POLICY, tmp_path / "c", classes=("a", "b"), certificate=place)


def reseal(card, change):
    """What someone with write access can do: edit the card and give it the digest of what it now says."""
    content = json.loads(card.read_bytes())
    content.pop("digest")
    change(content)
    card.write_bytes(canonical_json({**content, "digest": sha256(canonical_json(content))}))


def test_an_edited_certificate_is_refused(model, tmp_path):
    certify(model)
    bundle = protected(model, tmp_path / "b")
    card = tmp_path / "b" / "card.json"
    whole = card.read_bytes()
    card.write_bytes(whole.replace(b'"epsilon": 7.9612', b'"epsilon": 0.9612'))
    with pytest.raises(IntegrityError, match="does not match its own digest"):
        load_bundle(tmp_path / "b")
    card.write_bytes(whole)
    reseal(card, lambda content: content["certificate"].update(epsilon=0.9612))
    with pytest.raises(IntegrityError, match="expected"):
        load_bundle(tmp_path / "b", expect=bundle.digest)
    card.write_bytes(whole)
    reseal(card, lambda content: content["certificate"]["files"].update({"model.onnx": "e" * 64}))
    with pytest.raises(IntegrityError, match="holds the certificate of another model"):
        load_bundle(tmp_path / "b")
    card.write_bytes(whole)
    reseal(card, lambda content: content["certificate"].update(delta=2))
    with pytest.raises(IntegrityError, match=r"certificate\..*delta"):
        load_bundle(tmp_path / "b")


def test_a_card_of_format_3_is_read(model, tmp_path):
    protected(model, tmp_path / "b")

    def older(content):
        content["format"] = 3
        del content["certificate"], content["source"]

    reseal(tmp_path / "b" / "card.json", older)
    assert load_bundle(tmp_path / "b").card.certificate is None


def test_a_certificate_from_before_claims_is_one_of_robustness():
    certificate = robustness_certificate()
    old = certificate.model_dump(mode="json", exclude={"claim"})
    assert read_certificate(json.dumps(old).encode()) == certificate
    with pytest.raises(ValueError, match="claim"):
        read_certificate(json.dumps({**old, "claim": "magic"}).encode())


def test_a_certificate_is_said_in_one_sentence():
    said = certificate_sentence(privacy_certificate())
    assert said == (
        "trained with differential privacy: epsilon 7.96 at delta 1e-05 per patient, by PRV; "
        "2 matters are not covered, see not_covered"
    )
    began = certificate_sentence(privacy_certificate(start="pretrained"))
    assert began.startswith(
        "trained with differential privacy, from weights that are taken never to have seen these rows:"
    )
    assert "balanced accuracy under one change for all rows 0.300 before and 0.800 after; empirical" in (
        certificate_sentence(robustness_certificate())
    )


def test_a_range_that_the_model_was_not_trained_for_is_refused():
    spec = ModelSpec(name="m", modality="image", shape=(1, 8, 8), task=Opaque(), low=0.0, high=255.0)
    trained = robustness_certificate(low=0.0, high=1.0)
    with pytest.raises(MedwardError, match=r"trained for 0 to 1; say --low 0 --high 1"):
        check_range(trained, spec)
    for fitting in (trained.model_copy(update={"high": 255.0}), trained.model_copy(update={"low": None}), None):
        check_range(fitting, spec)
