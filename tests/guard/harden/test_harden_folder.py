"""The folder: complete or not there, what it holds is what was trained, and who chooses the epoch."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from support.faint import EPSILON, images, net
from support.journeys import importable
from support.report_networks import encoder_decoder

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden import HARDENERS, RobustnessCertificate
from medward.guard.harden.division import divide_splits
from medward.guard.harden.folder import harden
from medward.guard.harden.result_folder import replaced_folder

METHOD = replace(
    HARDENERS["pgd"], epsilon=EPSILON, training=replace(HARDENERS["pgd"].training, epochs=1, batch=32, rate=0.02)
)
FILES = {"model.onnx", "original.onnx", "weights.pt", "certificate.json"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, victim, data):
    out = tmp_path_factory.mktemp("hardening") / "hardened"
    certificate, chosen_on = harden(victim, {"train": data[0], "val": data[1]}, out, METHOD, low=0.0, high=1.0)
    return out, certificate, chosen_on


def scores(path, x):
    return onnxruntime.InferenceSession(path).run(["scores"], {"input": x})[0]


def test_both_models_answer_as_they_should(made, victim, data):
    out, certificate, chosen_on = made
    assert {path.name for path in out.iterdir()} == FILES
    x = data[1].inputs
    weights = torch.load(out / "weights.pt", weights_only=True)
    fresh = net()
    fresh.load_state_dict(weights)
    with torch.no_grad():
        hardened, original = (network.eval()(torch.from_numpy(x)).numpy() for network in (fresh, victim))
    np.testing.assert_allclose(scores(out / "model.onnx", x), hardened, atol=1e-4)
    np.testing.assert_allclose(scores(out / "original.onnx", x), original, atol=1e-4)
    assert np.abs(hardened - original).max() > 0.05
    assert RobustnessCertificate.model_validate_json((out / "certificate.json").read_text()) == certificate
    assert set(certificate.files) == FILES - {"certificate.json"}
    for name, digest in certificate.files.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert chosen_on == 'epochs are chosen on the 80 rows of "val"'
    assert [path.name for path in out.parent.iterdir()] == ["hardened"]


def test_an_existing_folder_is_only_replaced_when_asked_and_only_an_earlier_result(tmp_path):
    out = tmp_path / "out"
    for round_ in (1, 2):
        with replaced_folder(out, overwrite=round_ == 2) as build:
            (build / "certificate.json").write_text(str(round_))
    assert (out / "certificate.json").read_text() == "2"
    with pytest.raises(MedwardError, match=r"is not empty; .*--overwrite"), replaced_folder(out, overwrite=False):
        pytest.fail("nothing is trained before the folder is known to be free")
    (out / "thesis.tex").write_text("")
    with (
        pytest.raises(MedwardError, match=r"holds more than a hardened model .* and is not overwritten"),
        replaced_folder(out, overwrite=True),
    ):
        pytest.fail("nothing is trained")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_training_that_ends_badly_leaves_what_was_there(tmp_path):
    out = tmp_path / "out"
    for text in ("first", None):
        try:
            with replaced_folder(out, overwrite=True) as build:
                (build / "certificate.json").write_text(text or "second")
                if text is None:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert (out / "certificate.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_run_left_is_cleared_and_a_result_it_was_replacing_is_put_back(tmp_path):
    out, left, old = (tmp_path / name for name in ("out.v1", ".out.v1.tmp", ".out.v1.old"))
    left.mkdir()
    (left / "model.onnx").write_text("half")
    old.mkdir()
    (old / "certificate.json").write_text("first")
    with pytest.raises(MedwardError, match="is not empty"), replaced_folder(out, overwrite=False):
        pytest.fail("the earlier result is back, and is not overwritten unasked")
    assert (out / "certificate.json").read_text() == "first"
    left.mkdir()
    (left / "model.onnx").write_text("half")
    with replaced_folder(out, overwrite=True) as build:
        assert not list(build.iterdir())
        (build / "certificate.json").write_text("second")
    assert (out / "certificate.json").read_text() == "second"
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_at_work_is_left_alone(tmp_path):
    out = tmp_path / "out"
    with replaced_folder(out, overwrite=False) as build:
        (build / "certificate.json").write_text("first")
        with (
            pytest.raises(MedwardError, match="another run is hardening into it"),
            replaced_folder(out, overwrite=True),
        ):
            pytest.fail("two runs would write one folder")
        assert (build / "certificate.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_a_selection_split_no_patient_is_on_both_sides(data):
    train = images(100, 3)
    clinic = Split(train.inputs, np.repeat(np.arange(20) % 2, 5), np.repeat(np.arange(20), 5))
    fit, chosen, told = divide_splits({"train": clinic, "test": clinic}, seed=0)
    assert not set(fit.patients) & set(chosen.patients)
    assert (len(fit), len(chosen)) == (80, 20)
    assert set(chosen.labels) == set(fit.labels) == {0, 1}
    assert told == ('the data has no split "selection" or "val": 20 rows (4 patients) of train are set apart for it')
    rare = Split(train.inputs, (np.arange(100) >= 95).astype(np.int64))
    fit, chosen, told = divide_splits({"data": rare}, seed=1)
    assert [np.bincount(part.labels).tolist() for part in (fit, chosen)] == [[76, 4], [19, 1]]
    assert "20 rows of train" in told
    again = divide_splits({"data": rare}, seed=1)[1]
    np.testing.assert_array_equal(chosen.inputs, again.inputs)


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        ({"test": images(30, 0)}, 'needs a split "train"; the data has test'),
        ({"train": Split(np.ones((30, 2)))}, "labels"),
    ],
)
def test_data_that_cannot_be_divided_is_refused(splits, sentence):
    with pytest.raises(MedwardError, match=sentence):
        divide_splits(splits, seed=0)


def test_8_bit_images_are_scaled(tmp_path, monkeypatch, victim, data):
    seen = {}

    class Spy:
        name = "spy"

        def harden(self, network, train, selection, *, low, high, seed, task):
            seen.update(train=train, selection=selection, low=low, high=high)
            raise MedwardError("enough")

    raw = [Split((part.inputs[:, 0] * 255).round().astype(np.uint8), part.labels) for part in data]
    splits = {"train": raw[0], "selection": raw[1]}
    with pytest.raises(MedwardError, match="say --low 0 --high 1"):
        harden(victim, splits, tmp_path / "out", Spy())
    with pytest.raises(MedwardError, match="enough"):
        harden(victim, splits, tmp_path / "out", Spy(), low=0, high=1)
    assert (seen["low"], seen["high"]) == (0, 1)
    np.testing.assert_allclose(seen["train"].inputs, data[0].inputs, atol=1 / 255)
    assert seen["selection"].inputs.shape == (80, 1, 8, 8)
    first = {name: replace(split, inputs=split.inputs[:, None]) for name, split in splits.items()}
    with pytest.raises(MedwardError, match="say --layout NCHW"):
        harden(victim, first, tmp_path / "out", Spy(), low=0, high=1)
    seen.clear()
    with pytest.raises(MedwardError, match="enough"):
        harden(victim, first, tmp_path / "out", Spy(), low=0, high=1, layout="NCHW")
    np.testing.assert_allclose(seen["train"].inputs, data[0].inputs, atol=1 / 255)
    assert not list(tmp_path.iterdir())


def test_labels_that_are_names_need_the_order_of_the_scores(tmp_path, victim, data):
    train, val = (
        Split(part.inputs, names=np.array(["well", "sick"])[part.labels], patients=part.patients) for part in data
    )
    splits = {"train": train, "val": val}
    with pytest.raises(MedwardError, match="labels are names, and a network's scores have none; name the classes in"):
        harden(victim, splits, tmp_path / "out", METHOD, low=0, high=1)
    with pytest.raises(MedwardError, match=r"train: labels must be names of the classes well, ill, .*'sick'"):
        harden(victim, splits, tmp_path / "out", METHOD, low=0, high=1, classes=("well", "ill"))
    named, _ = harden(victim, splits, tmp_path / "out", METHOD, low=0.0, high=1.0, classes=("well", "sick"))
    numbered, _ = harden(victim, dict(zip(splits, data, strict=True)), tmp_path / "b", METHOD, low=0.0, high=1.0)
    assert named.hardened == numbered.hardened
    assert named.task.classes == ("well", "sick")


def test_a_network_that_writes_is_hardened_in_python(tmp_path, data):
    with pytest.raises(MedwardError, match=r"writes reports is hardened in Python, .*TowerTraining"):
        harden(encoder_decoder(), {"train": data[0]}, tmp_path / "out", METHOD, low=0, high=1)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("model.onnx", "only torch modules can be hardened, .*got 'model.onnx'"),
        ("site_for_hardening:number", "got int for 'site_for_hardening:number'"),
        ("site_for_hardening:absent", "cannot import it"),
    ],
)
def test_only_a_torch_module_can_be_named(name, sentence, tmp_path, data):
    Path(tmp_path / "site_for_hardening.py").write_text("number = 7\n")
    with importable(tmp_path), pytest.raises(MedwardError, match=sentence):
        harden(name, {"train": data[0]}, tmp_path / "out", METHOD)


@pytest.mark.parametrize("head", [[], [torch.nn.Softmax(1)]], ids=["logits", "probabilities"])
def test_a_network_of_three_classes_is_hardened_with_nothing_more_said(head, tmp_path):
    network, rows = three_classes(*head)
    certificate, _ = harden(network, {"train": rows}, tmp_path / "out", METHOD, low=0.0, high=1.0)
    assert len(certificate.task.classes) == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_a_network_of_another_kind_is_refused_before_it_is_trained(tmp_path):
    network, rows = three_classes(torch.nn.Sigmoid())
    none = replace(METHOD, training=None)  # whoever trains with it fails otherwise
    with pytest.raises(MedwardError, match=r"this is a multi-label model .*--task classification"):
        harden(network, {"train": rows}, tmp_path / "out", none, low=0.0, high=1.0)
    with pytest.raises(MedwardError, match="this is a survival model"):
        harden(network, {"train": rows}, tmp_path / "out", none, low=0.0, high=1.0, task="survival")
    assert not (tmp_path / "out").exists()
    made = harden(network, {"train": rows}, tmp_path / "out", METHOD, low=0.0, high=1.0, task="classification")
    assert len(made[0].task.classes) == 3


def three_classes(*head):
    """A network whose scores end in `head`, and rows whose brightness tells their class."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    inputs = (0.2 + 0.25 * labels[:, None, None, None] + rng.uniform(0, 0.1, (200, 1, 8, 8))).astype(np.float32)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), *head), Split(inputs, labels)


def test_folders_that_are_not_its_own_are_left_alone(tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    (other / "kept").write_text("mine")
    (tmp_path / ".out.tmp").symlink_to(other)
    with pytest.raises(MedwardError, match=r"\.out\.tmp: cannot build there"), replaced_folder(out, overwrite=False):
        pass
    (tmp_path / ".out.tmp").unlink()
    (tmp_path / ".out.tmp").write_text("a file")
    with pytest.raises(MedwardError, match="move it away"), replaced_folder(out, overwrite=False):
        pass
    (tmp_path / ".out.tmp").unlink()
    for name in (".out.tmp", ".out.old"):
        other.rename(tmp_path / name)
        with pytest.raises(MedwardError, match="not from a hardening"), replaced_folder(out, overwrite=False):
            pass
        (tmp_path / name).rename(other)
    assert (other / "kept").read_text() == "mine"


def test_copies_among_the_rows_that_choose_the_epoch_are_a_note(tmp_path, victim, data):
    train, selection = data
    inputs = selection.inputs.copy()
    inputs[:40] = train.inputs[:40]
    method = replace(METHOD, training=replace(METHOD.training, epochs=1))
    for rows, noted in ((selection.inputs, False), (inputs, True)):
        splits = {"train": train, "val": Split(rows, selection.labels)}
        certificate, _ = harden(victim, splits, tmp_path / str(noted), method, low=0.0, high=1.0)
        assert any("50% of the rows of" in note and "also in train" in note for note in certificate.notes) is noted


def test_a_method_can_be_said_by_its_name_and_attacks_as_far_as_it_is_validated(tmp_path, monkeypatch, victim, data):
    quick = replace(HARDENERS["pgd"], training=replace(HARDENERS["pgd"].training, epochs=1))
    monkeypatch.setitem(HARDENERS, "pgd", quick)
    splits = dict(zip(("train", "val"), data, strict=True))
    certificate, _ = harden(victim, splits, tmp_path / "out", "pgd", low=0.0, high=1.0)
    assert (certificate.method, certificate.epsilon) == ("pgd", 10 / 255)
    with pytest.raises(
        MedwardError, match=r"method: there is no 'pdg'; there are uat, pgd, trades, certified, retraining"
    ):
        harden(victim, splits, tmp_path / "other", "pdg", low=0.0, high=1.0)
