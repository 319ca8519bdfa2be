"""Kinds of model that are not guarded yet: each is refused by its name, and no classifier is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    ViTConfig,
    ViTForImageClassification,
)

from medward.guard import models
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.models import kinds
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 6)).astype(np.float32)
ONE = (X[:, 0] > 0).astype(int)
SEVERAL = (X[:, :3] > 0).astype(int)
IMAGES = rng.random((120, 1, 16, 16)).astype(np.float32)
WEIGHTS = rng.normal(size=(6, 4)).astype(np.float32)


def spec(classes, rows=X, output="logits"):
    names = tuple(f"class {k}" for k in range(classes))
    modality = "image" if rows.ndim == 4 else "tabular"
    return ModelSpec(
        name="m", modality=modality, shape=rows.shape[1:], task=Classification(classes=names, output=output)
    )


def vit(**config):
    torch.manual_seed(0)
    small = {"image_size": 16, "patch_size": 8, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1}
    return ViTForImageClassification(ViTConfig(**small, num_attention_heads=2, intermediate_size=16, **config))


def bert():
    small = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(**small, intermediate_size=16))


def segformer():
    small = {"num_channels": 1, "num_encoder_blocks": 1, "depths": [1], "sr_ratios": [1], "hidden_sizes": [8]}
    rest = {"patch_sizes": [3], "strides": [2], "num_attention_heads": [1], "mlp_ratios": [1], "decoder_hidden_size": 8}
    return SegformerForSemanticSegmentation(SegformerConfig(**small, **rest))


def sigmoids(batch):
    return 1 / (1 + np.exp(-batch @ WEIGHTS))


def quantiles(batch):
    middle = batch @ WEIGHTS[:, :1]
    return middle + np.array([-1.0, 0.0, 1.0])


INFERRED = {
    "Hugging Face, several findings": (
        lambda: vit(num_labels=4, problem_type="multi_label_classification"),
        {},
        "multilabel",
    ),
    "Hugging Face, a number": (lambda: vit(num_labels=1), {"tolerance": 0.5}, "regression"),
    "scikit-learn, a number": (
        lambda: GradientBoostingRegressor(n_estimators=2).fit(X, X[:, 0]),
        {"tolerance": 0.5},
        "regression",
    ),
    "scikit-learn, a number in a pipeline": (
        lambda: make_pipeline(StandardScaler(), LinearRegression()).fit(X, X[:, 0]),
        {"tolerance": 0.5},
        "regression",
    ),
    "scikit-learn, several outputs": (
        lambda: MultiOutputClassifier(LogisticRegression()).fit(X, SEVERAL),
        {"classes": list("abc")},
        "multilabel",
    ),
    "scikit-learn, one against the rest": (
        lambda: OneVsRestClassifier(LogisticRegression()).fit(X, SEVERAL),
        {"classes": list("abc")},
        "multilabel",
    ),
    "scikit-learn, several labels in a forest": (
        lambda: RandomForestClassifier(2).fit(X, SEVERAL),
        {"classes": list("abc")},
        "multilabel",
    ),
    "scikit-learn, several labels of neighbours": (
        lambda: KNeighborsClassifier().fit(X, SEVERAL),
        {"classes": list("abc")},
        "multilabel",
    ),
    "scikit-learn, several labels of a network": (
        lambda: make_pipeline(StandardScaler(), MLPClassifier((3,), max_iter=400)).fit(X, SEVERAL),
        {"classes": list("abc")},
        "multilabel",
    ),
    "scikit-learn, one class of several": (lambda: LogisticRegression().fit(X, ONE), {}, "classification"),
    "a logit of the second class": (
        lambda: nn.Linear(6, 1),
        {"classes": ["no", "yes"], "output": "logits"},
        "classification",
    ),
    "a number by its tolerance": (lambda: nn.Linear(6, 1), {"tolerance": 0.1}, "regression"),
    "findings by their thresholds": (
        lambda: nn.Linear(6, 3),
        {"classes": list("abc"), "output": "logits", "threshold": {"a": 0.1, "b": 0.2, "c": 0.3}},
        "multilabel",
    ),
    "findings by their labels": (
        lambda: nn.Linear(6, 3),
        {"classes": list("abc"), "output": "logits", "labels": "findings"},
        "multilabel",
    ),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", INFERRED)
def test_what_shows_need_not_be_said(name):
    build, options, kind = INFERRED[name]
    model = build()
    rows = IMAGES if name.startswith("Hugging Face") else X
    found = models.infer_spec(model, sample=rows, **options)
    assert found.task.kind == kind
    models.wrap(model, spec=found, sample=rows)


def test_two_readings_of_one_column_are_both_named():
    with pytest.raises(MedwardError, match=r"single-output model .*two classes.*--task regression"):
        models.infer_spec(nn.Linear(6, 1), sample=X)
    with pytest.raises(MedwardError, match=r"regression model .*labels are numbers.*--tolerance"):
        models.infer_spec(nn.Linear(6, 1), sample=X, labels="numbers")


def test_all_that_is_missing_is_said_at_once():
    with pytest.raises(MedwardError, match=r"--output logits or --output probabilities and name the .*--classes"):
        models.infer_spec(nn.Linear(6, 3), sample=X, task="multilabel")


def test_settings_of_another_task_are_refused():
    with pytest.raises(MedwardError, match="tolerance: means nothing for a model of task multilabel"):
        models.infer_spec(
            nn.Linear(6, 2), sample=X, task="multilabel", classes=["a", "b"], output="logits", tolerance=1
        )
    with pytest.raises(MedwardError, match="threshold: means nothing for a model of task opaque"):
        models.infer_spec(nn.Linear(6, 2), sample=X, task="opaque", threshold=0.5)
    with pytest.raises(MedwardError, match="needs one for each of a, b, and no other; see 'b'"):
        models.infer_spec(
            nn.Linear(6, 2), sample=X, classes=["a", "b"], output="logits", threshold={"a": 0.1, "c": 0.2}
        )


LIBRARIES = {
    "Hugging Face, text": (bert, "text"),
    "Hugging Face, masks": (segformer, "segmentation"),
    "scikit-learn, groups": (lambda: KMeans(2, n_init=1).fit(X), "clustering"),
    "scikit-learn, unusual": (lambda: IsolationForest(n_estimators=5).fit(X), "outlier"),
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_a_library_says_of_a_model_is_heard(name):
    build, kind = LIBRARIES[name]
    model = build()
    with pytest.raises(MedwardError, match=rf"this is an? {kind} model \(.+\): it "):
        models.infer_spec(model, sample=IMAGES if isinstance(model, nn.Module) else X, classes=["a", "b", "c", "d"])


def test_several_numbers_are_no_regression():
    model = vit(num_labels=3, problem_type="regression")
    found = models.infer_spec(model, sample=IMAGES, tolerance=1.0)
    with pytest.raises(MedwardError, match="several numbers as --task opaque"):
        models.wrap(model, spec=found, sample=IMAGES)


def test_masks_are_guarded_whole_where_that_is_said():
    found = models.infer_spec(segformer(), sample=IMAGES, task="opaque")
    assert models.wrap(segformer(), spec=found, sample=IMAGES).predict(IMAGES[:2]).scores.ndim == 4


@pytest.mark.parametrize("classes", [2, 4])
def test_sigmoids_are_not_taken_for_logits(classes):
    with pytest.raises(MedwardError, match=r"multi-label model \(all its \d scores lie in \[0, 1\]"):
        models.wrap(lambda batch: sigmoids(batch)[:, :classes], spec=spec(classes), sample=X, exclusive=True)


def test_sigmoids_are_not_taken_for_probabilities():
    with pytest.raises(MedwardError, match="a row sums to"):
        models.wrap(sigmoids, spec=spec(4, output="probabilities"), sample=X)


@pytest.mark.parametrize("order", [1, -1])
def test_scores_in_order_on_every_row_are_quantiles_or_thresholds(order):
    with pytest.raises(MedwardError, match="in order on every row"):
        models.wrap(lambda batch: quantiles(batch)[:, ::order], spec=spec(3), sample=X)


def test_benign_rows_that_are_all_clearly_of_the_first_class_are_no_quantiles_where_one_class_is_known_to_be_right():
    def grades(batch):
        return 0.1 * batch[:, :3] + np.array([6.0, 0.0, -6.0])

    assert models.wrap(grades, spec=spec(3), sample=X, exclusive=True)


def test_more_than_two_logits_need_a_word_or_labels(tmp_path):
    def score(batch):
        return batch @ WEIGHTS

    with pytest.raises(
        MedwardError, match=r"4 scores can be logits of 4 classes .* or 4 findings.*--task classification"
    ):
        models.wrap(score, spec=spec(4), sample=X)
    assert models.wrap(score, spec=spec(4), sample=X, task="classification")
    assert models.wrap(score, spec=spec(4), sample=X, exclusive=True)
    net = nn.Linear(6, 4)
    options = {"classes": ["a", "b", "c", "d"], "output": "logits"}
    with pytest.raises(MedwardError, match="give labels"):
        protect(net, Split(X), Policy(on_error="flag"), tmp_path / "unsaid", **options)
    labels = net(torch.tensor(X)).argmax(1).numpy()
    assert protect(net, Split(X, labels), Policy(on_error="flag"), tmp_path / "labels", **options)
    assert protect(net, Split(X), Policy(on_error="flag"), tmp_path / "said", task="classification", **options)


def test_a_word_settles_what_values_only_hint_at():
    assert models.wrap(sigmoids, spec=spec(4), sample=X, task="classification")
    assert models.wrap(quantiles, spec=spec(3), sample=X, task="classification")


@pytest.mark.parametrize("task", sorted(set(kinds.MODEL_KINDS) - set(kinds.TASKS)))
def test_a_task_that_is_not_guarded_is_refused_by_name(task):
    with pytest.raises(MedwardError, match=rf"{task} model \(as the task says\)"):
        models.infer_spec(nn.Linear(6, 2), sample=X, classes=["a", "b"], output="logits", task=task)


def test_an_unknown_task_names_those_there_are():
    with pytest.raises(MedwardError, match="task must be one of classification, multilabel, regression, opaque"):
        models.wrap(nn.Linear(6, 2), spec=spec(2), sample=X, task="diagnosis")


SHAPES = {
    "one column": (lambda batch: batch[:, :1], "single-output"),
    "one number": (lambda batch: batch[:, 0], "single-output"),
    "a mask": (lambda batch: np.zeros((len(batch), 2, 8, 8), np.float32), "segmentation"),
    "strings": (lambda batch: np.array(["no acute finding"] * len(batch)), "text"),
    "strings as objects": (lambda batch: np.array(["no acute finding"] * len(batch), object), "text"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_of_the_scores_names_the_kind(name):
    score, kind = SHAPES[name]
    with pytest.raises(MedwardError, match=f"m: this is a {kind} model"):
        models.wrap(score, spec=spec(2), sample=X)


def test_a_detector_is_named():
    class Detector(nn.Module):
        def forward(self, x):
            return {"boxes": x, "labels": x, "scores": x}

    with pytest.raises(MedwardError, match=r"this is a detection model \(it returns boxes, labels, scores\)"):
        models.wrap(Detector(), spec=spec(2), sample=X)


def test_ordinary_classifiers_are_none_of_these():
    torch.manual_seed(0)
    models.wrap(nn.Linear(6, 2), spec=spec(2), sample=X)
    models.wrap(vit(num_labels=3), spec=spec(3, IMAGES), sample=IMAGES)
    models.wrap(
        MLPClassifier((3,), max_iter=4000, random_state=0).fit(X, ONE), spec=spec(2, output="probabilities"), sample=X
    )
    three = OneVsRestClassifier(LogisticRegression()).fit(X, ONE + (X[:, 1] > 1))
    models.wrap(three, spec=spec(3, output="probabilities"), sample=X)


def test_contradicting_names_of_a_hugging_face_model_are_refused():
    net = vit(num_labels=2)
    net.config.id2label, net.config.label2id = {0: "NORMAL", 1: "PNEUMONIA"}, {"NORMAL": 1, "PNEUMONIA": 0}
    with pytest.raises(MedwardError, match="id2label and label2id disagree about 'NORMAL'"):
        models.infer_spec(net, sample=IMAGES)


# --- things that are no model -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("model.pt", r"torch\.load"),
        ("model.pth", r"torch\.load"),
        ("model.safetensors", r"load_state_dict"),
        ("risk.joblib", r"joblib\.load"),
        ("risk.pkl", "a pickle runs code"),
        ("model.h5", "tf2onnx"),
        ("model.keras", "tf2onnx"),
        ("model.bst", "onnxmltools"),
        ("data.npz", "goes to --data"),
    ],
)
def test_a_file_of_another_kind_gets_its_remedy(path, words):
    with pytest.raises(MedwardError, match=words):
        models.wrap(path, spec=spec(2), sample=X)


def test_a_folder_gets_its_remedy(tmp_path):
    with pytest.raises(MedwardError, match="save_pretrained"):
        models.wrap(str(tmp_path), spec=spec(2), sample=X)


def named_kind(module: str, name: str, **methods: object) -> object:
    """Something of another library, as far as its type shows."""
    return type(name, (), {"__module__": module, **methods})()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            named_kind("keras.src.models.sequential", "Sequential", __call__=np.sum),
            r"keras\.Sequential is a Keras model.*tf2onnx",
        ),
        (named_kind("pandas.core.frame", "DataFrame"), r"pandas\.DataFrame is data.*--data"),
        (named_kind("torch.utils.data.dataset", "Dataset"), "is data, not a model"),
        (X, r"numpy\.ndarray is data"),
        ({"fc.weight": X}, "if it is a state dict"),
        (named_kind("xgboost", "Booster"), "XGBClassifier"),
    ],
)
def test_what_is_no_model_is_named_with_the_line_to_write(found, words):
    with pytest.raises(MedwardError, match=words):
        models.wrap(found, spec=spec(2), sample=X)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.head = nn.Linear(6, width)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"mine_{abs(hash(tmp_path)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    pass\n"
        "def build():\n    return nn.Linear(6, 2)\ndef build_any(pretrained=False):\n    return nn.Linear(6, 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_class_is_no_model(module):
    with pytest.raises(MedwardError, match="Net is a class, not a model; give an instance"):
        models.wrap(Net, spec=spec(2), sample=X)
    with pytest.raises(MedwardError, match=r"Net is a class, not a model; .*net = Net\(\)"):
        models.wrap(f"{module}:Net", spec=spec(2), sample=X)


@pytest.mark.parametrize("factory", ["build", "build_any"])
def test_a_factory_is_no_model(module, factory):
    with pytest.raises(MedwardError, match=rf"write net = {factory}\(\) in its module"):
        models.wrap(f"{module}:{factory}", spec=spec(2), sample=X)


def test_a_state_dict_is_no_model():
    with pytest.raises(MedwardError, match="load_state_dict"):
        models.wrap(nn.Linear(6, 2).state_dict(), spec=spec(2), sample=X)


def test_every_kind_says_what_to_do():
    assert all(len(words) > 40 for words in kinds.MODEL_KINDS.values())


def test_a_hugging_face_model_says_how_many_channels_it_takes(tmp_path):
    color = np.stack([IMAGES[:, 0]] * 3, axis=1)
    with pytest.raises(
        MedwardError, match=r"read as \(channels, height, width\) = \(3, 16, 16\), the model takes \(1,"
    ):
        protect(vit(num_labels=2), Split(color), Policy(on_error="flag"), tmp_path / "b", low=0, high=1, layout="NCHW")
