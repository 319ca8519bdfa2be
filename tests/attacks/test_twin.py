"""The model before hardening: evasion must fool it, everything else is about the deployed model."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from validation_fakes import SPEC, SPLITS, WEIGHTS, Scripted, deployment

from medward.attacks.validate import model_before
from medward.attacks.validation.deployment import Deployment, ModelBefore
from medward.attacks.validation.finding import Status
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.models import wrap
from medward.guard.policy import Policy
from medward.guard.preparation import Preparation
from medward.guard.types import Outputs

RUNS, SOURCES = [], []


@dataclass(frozen=True)
class Flipped:
    """The same two logits, the other way round where the first feature is large: another model, much the same."""

    beyond: float = 1.5
    spec = SPEC

    def predict(self, inputs):
        return Outputs(np.where(inputs[:, :1] > self.beyond, -1, 1) * (inputs @ WEIGHTS))


@dataclass(frozen=True, kw_only=True)
class Probe(Scripted):
    """Keeps what it was given; as strong on the twin as `free`, on the deployed model as `bare`."""

    bare: float = 0.02

    def run(self, target, data, *, seed):
        if data.reference is None:  # a model of the examiner
            return super().run(target, data, seed=seed)
        labels = target.query(data.test.inputs[:20]).labels
        own = (data.test.inputs[:20] @ WEIGHTS).argmax(1)
        deployed = bool((labels == own)[labels >= 0].all())
        RUNS.append((self.family, target._profile is not None, deployed, target._network, data.reference[:20], labels))
        SOURCES.append(target.twin)
        result = super().run(target, data, seed=seed)
        if self.family != "evasion":
            return result
        power = self.free if not deployed else self.bare
        return replace(result, outcome=np.arange(len(data.test)) < power * len(data.test))


def network(sign):
    module = torch.nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(sign * WEIGHTS.T))
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def bundle():
    return deployment()


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr("medward.attacks.validation.clean_cost.CLEAN_QUERIES", 20)
    RUNS.clear()
    SOURCES.clear()


TWIN = ModelBefore(model=Flipped(), digest="cd" * 32, network=network(-1))


def run(bundle, out, *attacks, before=TWIN, splits=SPLITS, **settings):
    known = Deployment(bundle=bundle, before=before, **({"network": network(1)} | settings))
    return run_validation(known, splits, out, attacks=attacks, progress=False)


def test_a_hardened_model_can_be_held_only_because_its_twin_was_fooled(bundle, tmp_path):
    attack = Probe()
    alone = run(bundle, tmp_path / "alone", attack, before=None).findings[0]
    assert alone.status is Status.INCONCLUSIVE
    assert "too weak" in " ".join(alone.reasons)
    finding = run(bundle, tmp_path / "twin", attack).findings[0]
    assert finding.status is Status.HELD
    assert finding.undefended.value == pytest.approx(0.95)
    assert finding.guarded.value == finding.adaptive.value == pytest.approx(0.02)
    assert finding.reasons[-1] == "The undefended run is on the model as it was before hardening."
    assert finding.hardened == alone.undefended
    assert alone.hardened is None
    page, plain = ((tmp_path / name / "report.html").read_text() for name in ("twin", "alone"))
    assert '<th scope="col">Hardened</th>' in page
    assert "Hardened</th>" not in plain


def test_a_model_that_is_no_twin_lends_no_weakness(bundle, tmp_path):
    stranger = replace(TWIN, model=Flipped(beyond=-99.0))
    finding = run(bundle, tmp_path, Probe(), before=stranger).findings[0]
    assert finding.status is Status.INCONCLUSIVE
    assert any("not the model before hardening" in flag for flag in finding.flags)


def test_a_twin_at_chance_proves_nothing(bundle, tmp_path):
    drawn = np.random.default_rng(0).integers(0, 2, len(SPLITS["test"]))
    splits = {**SPLITS, "test": replace(SPLITS["test"], labels=drawn)}
    report = run(bundle, tmp_path, Probe(), Probe(family="extraction", name="thief"), splits=splits)
    finding, other = report.findings
    assert report.provenance.twin.balanced < 0.6
    assert finding.status is Status.INCONCLUSIVE
    assert any(flag.startswith("the model before hardening is at chance: balanced") for flag in finding.flags)
    assert not any("chance" in flag for flag in other.flags)


def test_each_run_gets_its_own_models_answers_decisions_and_gradients(bundle, tmp_path):
    mine = network(1)
    run(bundle, tmp_path, Probe(), network=mine)
    assert [(guarded, deployed) for _, guarded, deployed, *_ in RUNS] == [
        (False, False),
        (True, True),
        (True, True),
        (False, True),
    ]
    plain, guarded, adaptive, after = SOURCES
    assert plain is adaptive is after is None
    assert guarded is TWIN.network, "what transfers from it is compared with the plain attack"
    for _, _, deployed, given, reference, labels in RUNS:
        assert given is (mine if deployed else TWIN.network)
        np.testing.assert_array_equal(reference[labels >= 0], labels[labels >= 0])


@pytest.mark.parametrize("family", ["extraction", "membership"])
def test_hardening_defends_against_evasion_only(family, bundle, tmp_path):
    report = run(bundle, tmp_path, Scripted(family=family), Probe(family=family, name="probe"))
    assert [(guarded, deployed) for _, guarded, deployed, *_ in RUNS] == [
        (False, True),
        (True, True),
        (True, True),
        (False, False),  # the model before, for what training changed
    ]
    assert not any(SOURCES)
    assert not any("before hardening" in " ".join(finding.reasons) for finding in report.findings)


def test_a_kept_run_belongs_to_its_twin(bundle, tmp_path):
    attack = Probe()
    run(bundle, tmp_path, attack)
    run(bundle, tmp_path, attack)
    assert len(RUNS) == 4
    run(bundle, tmp_path, attack, before=replace(TWIN, digest="ef" * 32))
    assert len(RUNS) == 5, "only the undefended run is another"
    run(bundle, tmp_path, attack, before=replace(TWIN, network=None))
    assert len(RUNS) == 7, "nothing can be transferred from it"
    run(bundle, tmp_path, attack, before=None)
    assert len(RUNS) == 7, "the bare deployed model was run for what training changed"


def test_the_report_names_the_twin_and_what_hardening_cost(bundle, tmp_path):
    report = run(bundle, tmp_path, Probe())
    facts = Report.load(tmp_path / "report.json").provenance.twin
    assert facts == report.provenance.twin
    assert facts.digest == TWIN.digest
    assert facts.white_box
    assert 0.7 < facts.agreement.value == facts.accuracy.value < 1 == facts.deployed_accuracy.value
    page = (tmp_path / "report.html").read_text()
    assert TWIN.digest in page
    share = f"{facts.agreement.value:.1%}"
    assert f"the model before hardening, which decides {share} of rows alike; accuracy {share} before" in page
    run(bundle, tmp_path / "alone", Probe(), before=None)
    assert "before hardening" not in (tmp_path / "alone" / "report.html").read_text()


def test_a_twin_without_gradients_says_so(bundle, tmp_path):
    blind = replace(TWIN, network=None, no_network="operator Foo")
    finding = run(bundle, tmp_path, Probe(), before=blind).findings[0]
    assert "on the model before hardening: operator Foo" in finding.threat.knowledge


def test_a_twin_is_read_under_the_bundles_specification(tmp_path):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 6)).astype(np.float32)
    protect(
        network(1), Split(inputs), Policy(on_error="withhold"), tmp_path / "bundle", classes=("a", "b"), output="logits"
    )
    bundle = load_bundle(tmp_path / "bundle")
    twin = model_before(network(2), bundle, SPLITS)
    assert twin.digest != bundle.card.files["model.onnx"]
    assert twin.network is not None
    with torch.no_grad():
        own = network(2)(torch.as_tensor(inputs)).numpy()
    np.testing.assert_allclose(twin.model.predict(inputs).scores, own, atol=1e-5)
    with pytest.raises(MedwardError, match="is the bundle's own model; give the model as it was before"):
        model_before(str(tmp_path / "bundle" / "model.onnx"), bundle, SPLITS)
    remedy = "; give the model that was hardened, as it was before"
    for other, sentence in (
        (exported(tmp_path, 5, 2), r"takes inputs of shape \(5,\), the bundle's model takes \(6,\)" + remedy),
        (exported(tmp_path, 6, 3), "scores 3 classes, the bundle's model scores 2" + remedy),
        (
            torch.nn.Linear(5, 2),
            r"does not work as the bundle's model, which takes inputs of shape \(6,\) and scores 2",
        ),
        (torch.nn.Linear(6, 3), "one column per class"),
        (tmp_path / "absent.onnx", ".*absent.onnx: cannot read the model: No such file or directory"),
        ("absent.pt", "absent.pt: expected a path"),
        ("absent", "absent: expected a path .* and there is no such folder"),
    ):
        with pytest.raises(MedwardError, match=f"^before: .*{sentence}") as caught:
            model_before(other, bundle, SPLITS)
        assert "\n" not in str(caught.value)
    with pytest.raises(MedwardError, match=r"^before: (?!.*shape).*cannot read"):
        model_before("absent.onnx", bundle, SPLITS)


def test_a_twin_of_a_file_that_normalises_itself_is_not_left_without(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32) + 2
    said = {"classes": ("a", "b"), "output": "logits"}
    normal = Preparation(mean=(2.0,), std=(3.0,))
    policy = Policy(on_error="withhold")
    plain = protect(network(1), Split(inputs), policy, tmp_path / "said", prepare=normal, **said)
    file = str(tmp_path / "said" / "model.onnx")
    bundle = protect(file, Split(inputs), policy, tmp_path / "bundle", **said)
    assert bundle.model.spec.prepare == Preparation(), "the file does it, and nothing says so but its mark"
    with pytest.raises(MedwardError, match="normalises its rows itself, and nothing says how this model's are"):
        model_before(network(2), bundle, SPLITS)
    original = wrap(network(2), spec=plain.model.spec, sample=inputs)
    original.export(tmp_path)
    for before in (model_before(str(tmp_path / "model.onnx"), bundle, SPLITS), model_before(network(2), plain, SPLITS)):
        np.testing.assert_allclose(before.model.predict(inputs).scores, original.predict(inputs).scores, atol=1e-5)


def test_a_twin_of_three_classes_of_logits_needs_nothing_said(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    torch.manual_seed(0)
    classes, policy = ("a", "b", "c"), Policy(on_error="withhold")
    hardened, before = (torch.nn.Linear(6, 3).eval().requires_grad_(False) for _ in range(2))
    bundle = protect(
        hardened, Split(inputs), policy, tmp_path / "b", classes=classes, output="logits", task="classification"
    )
    twin = model_before(before, bundle, {"test": Split(inputs)})
    assert twin.network is not None


def exported(folder, width, classes):
    """The path of a linear model as ONNX."""
    path = folder / f"{width}-{classes}.onnx"
    weights = numpy_helper.from_array(np.ones((width, classes), np.float32), "w")
    rows, scores = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", width), ("y", classes))
    )
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "line", [rows], [scores], [weights])
    opset = [helper.make_opsetid("", 18)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
    return path
