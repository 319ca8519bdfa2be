"""From a network and raw labels to a folder: what it answers is said or seen; labels of another task are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from support.faint import EPSILON, images
from support.faint import net as class_net
from support.faint_tasks import MONTHS, TASK, finding_images, number_images, outputs_net
from torch import nn

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden import HARDENERS, RobustnessCertificate
from medward.guard.harden.folder import harden
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.regression import Regression

METHOD = replace(
    HARDENERS["pgd"], epsilon=EPSILON, training=replace(HARDENERS["pgd"].training, epochs=1, batch=32, augment=None)
)
NOBODY = replace(METHOD, training=None)  # whoever trains with it fails otherwise


def tables(n=160, seed=0):
    """Images with findings as a table of 0 and 1, as an npz holds them."""
    rows = finding_images(n, seed)
    return Split(rows.inputs, unpacked_findings(rows.labels, 3).astype(np.int64))


def hardened(network, splits, out, method=METHOD, **said):
    return harden(network, splits, out, method, low=0.0, high=1.0, **said)


def sigmoid(network):
    return nn.Sequential(network, nn.Sigmoid())


SEEN = {
    "findings": (lambda: outputs_net(3), tables, {}, replace(TASK, findings=("0", "1", "2"), thresholds=(0.5,) * 3)),
    "findings by name": (
        lambda: sigmoid(outputs_net(3)),
        tables,
        {"classes": TASK.findings, "threshold": {"nodule": 0.5, "effusion": 0.3, "mass": 0.5}},
        replace(TASK, output="probabilities"),
    ),
    "one logit": (
        lambda: class_net(1),
        lambda: images(160, 0),
        {"threshold": 0.2},
        Classification(classes=("0", "1"), output="logits", threshold=0.2, one_column=True),
    ),
    "one probability": (
        lambda: sigmoid(class_net(1)),
        lambda: images(160, 0),
        {"classes": ("well", "ill")},
        Classification(classes=("well", "ill"), output="probabilities", one_column=True),
    ),
    "number": (
        lambda: outputs_net(1, centre=100.0),
        lambda: number_images(160, 0),
        {"tolerance": 6.0, "cut_points": (95.0, 110.0)},
        Regression(tolerance=6.0, cut_points=(95.0, 110.0)),
    ),
    "the task itself": (lambda: outputs_net(1, 100.0), lambda: number_images(160, 0), {"task": MONTHS}, MONTHS),
}


@pytest.mark.parametrize("kind", SEEN)
def test_what_a_network_answers_is_seen_or_said_and_the_folder_answers_so(kind, tmp_path):
    network, rows, said, task = SEEN[kind]
    network, rows = network().eval(), rows()
    certificate, chosen_on = hardened(network, {"train": rows}, tmp_path / "out", **said)
    assert certificate.task == task
    assert "of train are set apart" in chosen_on
    assert RobustnessCertificate.model_validate_json((tmp_path / "out" / "certificate.json").read_text()) == certificate
    network.load_state_dict(torch.load(tmp_path / "out" / "weights.pt", weights_only=True))
    with torch.no_grad():
        own = network(torch.from_numpy(rows.inputs)).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    exported = session.run(["scores"], {"input": rows.inputs})[0]
    np.testing.assert_allclose(exported.reshape(own.shape), own, atol=1e-3)


REFUSED = {
    "opaque": ({}, {"task": "opaque"}, "opaque outputs cannot be hardened"),
    "names without order": ({"labels": np.array(["a", "b"])[np.arange(160) % 2]}, {}, "name the classes in the order"),
    "one-hot": ({"labels": np.eye(3, dtype=int)[np.arange(160) % 3]}, {}, "exactly one 1, .*or say --task multilabel"),
    "table of two": ({"labels": tables().labels[:, :2]}, {"task": "multilabel"}, "train: labels has 2 columns, .* 3"),
    "classes for findings": ({"labels": np.arange(160) % 3}, {"task": "multilabel"}, "train: labels: .* needs a table"),
    "numbers for findings": ({"labels": np.linspace(0, 1, 160)}, {"task": "multilabel"}, "needs a table of 0 and 1"),
    "findings for classes": ({}, {"task": "classification"}, "several findings per row; say --task multilabel"),
    "numbers for classes": ({"labels": np.linspace(0, 1, 160)}, {}, "regression model"),
    "no labels": ({"labels": None}, {}, "train: hardening needs labels; add train_labels to the data"),
    "a number of three": ({"labels": np.linspace(0, 1, 160)}, {"tolerance": 1.0}, "gives one number for an input"),
    "logits that are none": ({"head": nn.Sigmoid()}, {"output": "logits"}, "all lie in .*--output probabilities"),
    "probabilities that are none": ({"head": nn.Identity()}, {"output": "probabilities"}, "claims probabilities"),
    "an operating point too few": ({}, {"threshold": [0.5, 0.2]}, "thresholds: needs one for each of the 3 findings"),
    "a tolerance for findings": ({}, {"task": "multilabel", "tolerance": 1.0}, "tolerance: means nothing"),
    "both": ({}, {"task": TASK, "tolerance": 1.0}, "give the task itself, or words that tell it, not both"),
    "classes of another number": ({}, {"classes": ("a", "b")}, r"\(n, 2\), got \(160, 3\)"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_trained(mistake, tmp_path):
    change, said, sentence = REFUSED[mistake]
    rows, network = tables(), nn.Sequential(outputs_net(3), change.get("head", nn.Identity()))
    if "labels" in change:
        rows = Split(rows.inputs, change["labels"])
    with pytest.raises(MedwardError, match=sentence) as caught:
        hardened(network, {"train": rows}, tmp_path / "out", NOBODY, **said)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_single_output_is_refused_until_it_is_said(tmp_path):
    rows = {"train": images(160, 0)}
    with pytest.raises(MedwardError, match=r"single-output model .*name both with --classes .*--tolerance"):
        hardened(class_net(1), rows, tmp_path / "out", NOBODY)
    certificate, _ = hardened(class_net(1), rows, tmp_path / "out", task="classification")
    assert certificate.task.one_column


def test_one_hot_rows_of_findings_harden_when_it_is_said(tmp_path):
    rows = Split(tables().inputs, np.eye(3, dtype=int)[np.arange(160) % 3])
    certificate, _ = hardened(outputs_net(3), {"train": rows}, tmp_path / "out", task="multilabel")
    assert isinstance(certificate.task, Multilabel)


def test_findings_known_by_one_patient_alone_stay_in_training(tmp_path):
    rows = tables()
    rows.labels[:, 2] = 0
    rows.labels[7, 2] = 1
    certificate, _ = hardened(outputs_net(3), {"train": rows}, tmp_path / "out", task="multilabel")
    assert certificate.rows["train"] + certificate.rows["selection"] == 160
