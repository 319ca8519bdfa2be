"""A deployed file of every task becomes a torch network that says what the file says, and decides as it decides."""

import numpy as np
import pytest
import torch
from support.task_models import column_model, findings_model, mask_model, number_model, table
from torch import nn

from medward.attacks.whitebox.network import as_attacker_sees
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression

POLICY = Policy.model_validate({"on_error": "withhold", "release": {"level": "full"}})
BENIGN = table(400, 11)
MODELS = {
    "findings": lambda: findings_model(
        Multilabel(findings=("p", "q", "r"), output="logits", thresholds=(0.02, 0.5, 0.8))
    ),
    "probabilities of findings": lambda: findings_model(
        Multilabel(findings=("p", "q", "r"), output="probabilities", thresholds=(0.02, 0.5, 0.8)), nn.Sigmoid()
    ),
    "one logit": lambda: column_model(Classification(classes=("a", "b"), output="logits", one_column=True)),
    "one probability, no axis": lambda: column_model(
        Classification(classes=("a", "b"), output="probabilities", threshold=0.1, one_column=True)
    ),
    "a number": lambda: number_model(Regression(tolerance=0.5, cut_points=(0.0,))),
    "a mask": lambda: mask_model(Opaque(what="mask")),
}


@pytest.fixture(scope="module", params=MODELS)
def deployed(request, tmp_path_factory):
    """The network, its bundle, and the deployed file as attackers get it."""
    model = MODELS[request.param]()
    out = tmp_path_factory.mktemp("bundle") / "b"
    bundle = protect(model.network, Split(BENIGN), POLICY, out, task=model.spec.task, modality="tabular")
    file, own = bundle.path / "model.onnx", bundle.model
    network, reason = white_box(file, own.predict, BENIGN[:64], bundle.card.options, spec=own.spec)
    assert reason == ""
    return model, bundle, as_attacker_sees(network, own.spec)


def test_it_decides_as_the_deployed_model_and_has_a_gradient(deployed):
    _, bundle, network = deployed
    x = torch.as_tensor(table(200, 12)).requires_grad_(True)
    scores, own = network(x), bundle.model.predict(x.detach().numpy()).scores
    task = bundle.model.spec.task
    if isinstance(task, Multilabel):
        assert np.array_equal((scores > 0).numpy(), unpacked_findings(task.decide(own), 3))
    elif isinstance(task, Classification):
        assert np.array_equal(scores.argmax(dim=1).numpy(), task.decide(own))
    else:
        np.testing.assert_allclose(scores.detach().numpy(), own, atol=1e-4)
    (slope,) = torch.autograd.grad(scores.sum(), x)
    assert (slope.flatten(1).abs().amax(dim=1) > 0).all()


def test_saturated_probabilities_keep_a_gradient(tmp_path):
    task = Multilabel(findings=("p", "q", "r"), output="probabilities", thresholds=(0.5, 0.5, 0.5))

    class Sure(nn.Module):
        def forward(self, z):
            return torch.sigmoid(40 * z)

    model = findings_model(task, Sure())
    bundle = protect(model.network, Split(BENIGN), POLICY, tmp_path / "b", task=task, modality="tabular")
    file, own = bundle.path / "model.onnx", bundle.model
    assert ((own.predict(BENIGN).scores == 1) | (own.predict(BENIGN).scores < 1e-30)).mean() > 0.3, "saturated"
    network, reason = white_box(file, own.predict, BENIGN[:64], bundle.card.options, spec=own.spec)
    assert reason == ""
    x = torch.as_tensor(BENIGN).requires_grad_(True)
    (slope,) = torch.autograd.grad(as_attacker_sees(network, own.spec)(x).sum(), x)
    naive = torch.as_tensor(BENIGN).requires_grad_(True)
    (dead,) = torch.autograd.grad(model.network(naive)[:, 0].sum(), naive)
    assert (slope.abs().amax(dim=1) > 1e-3).all()
    assert (dead.abs().amax(dim=1) == 0).float().mean() > 0.2, "the control: the file's own numbers have none"


@pytest.mark.parametrize("deployed", ["findings", "a number"], indirect=True)
def test_another_file_than_the_deployed_one_is_refused(deployed):
    _, bundle, _ = deployed
    file, own = bundle.path / "model.onnx", bundle.model

    def otherwise(rows):
        return own.predict(rows + 0.1)

    network, reason = white_box(file, otherwise, BENIGN[:64], bundle.card.options, spec=own.spec)
    assert network is None
    assert "differ by" in reason
