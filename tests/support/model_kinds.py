"""The kinds of model that hospitals deploy, small: each with what must come of protecting it.

An attempt either serves the model's own decisions, or is refused in one sentence that names the kind and a remedy.
`own` gives the user's own scores ``(n, K)`` on the rows as the user has them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy.ndimage import gaussian_filter
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from medward.attacks.validate import validate
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.preparation import Preparation
from medward.guard.release.scores import probabilities
from medward.guard.types import Level, Query

ROWS = 400
TWO = {"classes": ["absent", "present"], "output": "logits"}
IMAGE = {**TWO, "low": 0, "high": 1}
FINDINGS = [f"finding {k}" for k in range(14)]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What the user has: a model, benign rows, options of `protect`, and scores of his own to compare with."""

    model: object
    split: Split
    options: Mapping[str, Any] = field(default_factory=dict)
    own: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`refused` holds words that the one sentence must have; "" where the model must be served as it decides.

    `white_box` says that an attacker with the file must be able to follow its gradients.
    """

    attempt: Callable[[Path], Attempt]
    refused: str = ""
    white_box: bool = False


def images(shape: tuple[int, ...] = (1, 16, 16), n: int = ROWS, seed: int = 0) -> np.ndarray:
    """Smooth images in [0, 1]."""
    rng = np.random.default_rng(seed)
    x = gaussian_filter(rng.normal(size=(n, *shape)), (0, *[0] * (len(shape) - 2), 1.5, 1.5))
    return ((x - x.min()) / np.ptp(x)).astype(np.float32)


def table(n: int = ROWS, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Rows in float64 and labels of two classes."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, width))
    return x, (x[:, 0] + x[:, 1] + rng.normal(size=n) > 0).astype(int)


def cnn(channels: int = 1, classes: int = 2, *last: nn.Module) -> nn.Module:
    """Convolution, pooling, a linear layer, and `last` ones."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    net = nn.Sequential(*body, nn.Linear(32, classes))
    with torch.no_grad():  # near-equal scores of an untrained net would tell nothing
        net[-1].weight *= 20
        net[-1].bias -= net(torch.from_numpy(images((channels, 16, 16), 64))).mean(0)
    return nn.Sequential(*net, *last)


def forward(net: nn.Module, dtype: torch.dtype = torch.float32) -> Callable[[np.ndarray], np.ndarray]:
    """The user's own call of a module."""

    def own(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net.eval()(torch.tensor(rows, dtype=dtype)).float().numpy()

    return own


def torch_kind(
    net: Callable[[], nn.Module],
    refused: str = "",
    *,
    channels: int = 1,
    own: Callable[[nn.Module], Callable[[np.ndarray], np.ndarray]] = forward,
    **options: Any,
) -> Kind:
    """A module on images; `own` makes the user's call of it."""

    def attempt(_: Path) -> Attempt:
        built = net()
        return Attempt(
            model=built, split=Split(images((channels, 16, 16))), options={**IMAGE, **options}, own=own(built)
        )

    return Kind(attempt=attempt, refused=refused, white_box=not refused)


def estimator(
    build: Callable[[], Any], refused: str = "", labels: Callable[[np.ndarray], Any] | None = None, **options: Any
) -> Kind:
    """A fitted scikit-learn estimator on a table in float64, as pandas and NumPy have it."""

    def attempt(_: Path) -> Attempt:
        x, y = table(ROWS + 200)
        fitted = build().fit(x[:200], y[:200] if labels is None else labels(x[:200]))
        own = getattr(fitted, "predict_proba", fitted.predict)

        def columns(rows: np.ndarray) -> np.ndarray:
            found = own(rows)
            return np.stack([each[:, 1] for each in found], axis=1) if isinstance(found, list) else np.asarray(found)

        return Attempt(model=fitted, split=Split(x[200:]), options=options, own=columns)

    return Kind(attempt=attempt, refused=refused)


def graph_kind(
    make: Callable[[], onnx.ModelProto],
    rows: Callable[[], np.ndarray] = lambda: table()[0].astype(np.float32),
    refused: str = "",
    own: Callable[[np.ndarray], np.ndarray] | None = None,
    **options: Any,
) -> Kind:
    """An ONNX file."""

    def attempt(folder: Path) -> Attempt:
        path = folder / "model.onnx"
        path.write_bytes(make().SerializeToString())
        return Attempt(model=str(path), split=Split(rows()), options={**TWO, **options}, own=own)

    return Kind(attempt=attempt, refused=refused, white_box=not refused)


W1 = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
W2 = np.random.default_rng(3).normal(size=(4, 2)).astype(np.float32)


def dense_scores(rows: np.ndarray) -> np.ndarray:
    """The scores of `dense`."""
    return np.maximum(rows.astype(np.float32) @ W1, 0) @ W2


def dense(
    outputs: tuple[str, ...] = ("scores",),
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
    batch: int | str = "n",
    rename: str = "",
) -> onnx.ModelProto:
    """Two layers as a graph; outputs among hidden, scores, probabilities and label."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        helper.make_node("MatMul", ["x", "W1"], ["pre"]),
        helper.make_node("Relu", ["pre"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "W2"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    shapes = {"hidden": [batch, 4], "scores": [batch, 2], "probabilities": [batch, 2], "label": [batch]}
    made = [
        helper.make_tensor_value_info(name, TensorProto.INT64 if name == "label" else kind, shapes[name])
        for name in outputs
    ]
    weights = [numpy_helper.from_array(each.astype(dtype), name) for name, each in (("W1", W1), ("W2", W2))]
    given = [helper.make_tensor_value_info("x", kind, [batch, 6])]
    graph = helper.make_graph(nodes, "g", given, made, weights)
    if rename:
        for node in graph.node:
            node.output[:] = [rename if each == "scores" else each for each in node.output]
            node.input[:] = [rename if each == "scores" else each for each in node.input]
        for each in graph.output:
            each.name = rename if each.name == "scores" else each.name
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def two_candidates() -> onnx.ModelProto:
    """Two matrices of which either could be the scores."""
    model = dense(rename="right")
    model.graph.node.append(helper.make_node("Neg", ["right"], ["left"]))
    model.graph.output.append(helper.make_tensor_value_info("left", TensorProto.FLOAT, ["n", 2]))
    return model


def dense_of(kind: int) -> onnx.ModelProto:
    """`dense` behind a cast from whole numbers."""
    model = dense()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("whole", kind, ["n", 6]))
    model.graph.node.insert(0, helper.make_node("Cast", ["whole"], ["x"], to=TensorProto.FLOAT))
    return model


def whole_rows() -> np.ndarray:
    """Rows of a few whole numbers."""
    return np.clip(np.rint(4 + 1.5 * table()[0]), 0, 255).astype(np.float32)


def strange_input(kind: int, shape: list[Any]) -> onnx.ModelProto:
    """A graph whose input is of another type or rank."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["flat"], axis=1),
        helper.make_node("ReduceMean", ["flat"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["m", "m"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def two_inputs() -> onnx.ModelProto:
    """An image, age and sex."""
    nodes = [helper.make_node("MatMul", ["x", "W"], ["a"]), helper.make_node("Add", ["a", "meta"], ["scores"])]
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6]),
        helper.make_tensor_value_info("meta", TensorProto.FLOAT, ["n", 2]),
    ]
    out = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "g", given, out, [numpy_helper.from_array(np.ones((6, 2), np.float32), "W")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def transformers_kind(build: Callable[[Any], Any], refused: str = "") -> Kind:
    """A Hugging Face model from a small configuration."""

    def attempt(_: Path) -> Attempt:
        torch.manual_seed(0)
        net = build(importlib.import_module("transformers")).eval()
        with torch.no_grad():
            if hasattr(net, "classifier") and isinstance(net.classifier, nn.Linear):
                net.classifier.weight *= 30

        def own(rows: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return net(pixel_values=torch.tensor(rows)).logits.numpy()

        return Attempt(model=net, split=Split(images()), options={"low": 0, "high": 1}, own=own)

    return Kind(attempt=attempt, refused=refused, white_box=not refused)


def vit(library: Any, **config: Any) -> Any:
    """A tiny vision transformer."""
    small = {"image_size": 16, "patch_size": 8, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1}
    chosen = {**small, "num_attention_heads": 2, "intermediate_size": 16, **config}
    return library.ViTForImageClassification(library.ViTConfig(**chosen))


def report_writer(library: Any) -> Any:
    """An encoder of images and a decoder of text."""
    encoder = {"image_size": 16, "patch_size": 8, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1}
    vision = library.ViTConfig(**encoder, num_attention_heads=2, intermediate_size=16)
    words = library.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=30, add_cross_attention=True)
    return library.VisionEncoderDecoderModel(
        library.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, words)
    )


def bert(library: Any) -> Any:
    """A tiny classifier of text."""
    small = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return library.BertForSequenceClassification(library.BertConfig(**small, intermediate_size=16))


class OpNorm(nn.Module):
    """Sigmoids around thresholds of their own, as torchxrayvision gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = cnn(1, 14)
        self.register_buffer("thresholds", torch.linspace(0.1, 0.6, 14))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values in [0, 1], 0.5 at each threshold."""
        p, t = torch.sigmoid(self.net(x)), self.thresholds
        return torch.where(p < t, p / (2 * t), 1 - (1 - p) / (2 * (1 - t)))


class Named(nn.Module):
    """Returns something else than a tensor."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = cnn(), kind

    def forward(self, x: torch.Tensor) -> Any:
        """A dict, a tuple or a list."""
        z = self.net(x)
        return {"dict": {"logits": z, "map": x}, "tuple": (-z, z), "list": [z, z]}[self.kind]


def named_scores(key: str | int) -> Callable[[nn.Module], Callable[[np.ndarray], np.ndarray]]:
    """The user's own call of `Named`."""

    def own(net: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
        def scores(rows: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return net.eval()(torch.tensor(rows))[key].numpy()

        return scores

    return own


class Cumulative(nn.Module):
    """CORAL: P(level > k), or quantiles of a number, in order on every row."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.net, self.columns = cnn(1, 1), columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One number and `columns` offsets that go down."""
        return self.net(x) - torch.arange(self.columns)


class OneLogit(nn.Module):
    """A binary classifier's single logit, as two columns."""

    def __init__(self) -> None:
        super().__init__()
        self.net = cnn(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 2)."""
        z = self.net(x)
        return torch.cat([0 * z, z], 1)


class Volume(nn.Module):
    """A head on something that is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():  # scores of an untrained net would all lie in [0, 1], as sigmoids do
            self.head.weight[:] = torch.tensor([[-40.0], [40.0]])
            self.head.bias[:] = torch.tensor([20.0, -20.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 2) of any input."""
        return self.head(x.flatten(1).mean(1, keepdim=True))


def whole_kind(net: Callable[[], nn.Module]) -> Kind:
    """A module whose outputs leave whole."""
    return torch_kind(net, classes=None, output=None, task="opaque")


def of_rows(net: Callable[[], object], rows: Callable[[], np.ndarray], refused: str, **options: Any) -> Kind:
    """Any module on rows of another rank."""
    return Kind(
        attempt=lambda _: Attempt(model=net(), split=Split(rows()), options={**TWO, **options}), refused=refused
    )


def of_shape(shape: tuple[int, ...], convolution: type[nn.Module], refused: str = "", **options: Any) -> Kind:
    """A convolutional network on signals or volumes of `shape`, as the user calls it."""

    def attempt(_: Path) -> Attempt:
        torch.manual_seed(0)
        pool = {1: nn.AdaptiveMaxPool1d, 3: nn.AdaptiveMaxPool3d}[len(shape) - 1]
        net = nn.Sequential(convolution(shape[0], 8, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(8, 2)).eval()
        prepare = options.get("prepare", Preparation(mean=(0.0,), std=(1.0,)))
        mean, std = (np.reshape(each, (-1, *[1] * (len(shape) - 1))) for each in (prepare.mean, prepare.std))
        rows = images(shape)

        def own(given: np.ndarray) -> np.ndarray:
            return forward(net)(((given - mean) / std).astype(np.float32))

        with torch.no_grad():  # near-equal scores of an untrained net would tell nothing
            net[-1].weight *= 50
            net[-1].bias -= torch.from_numpy(own(rows[:64])).mean(0)
        return Attempt(model=net, split=Split(rows), options={**IMAGE, **options}, own=own)

    return Kind(attempt=attempt, refused=refused, white_box=not refused)


def named_code(source: str, attribute: str, refused: str) -> Kind:
    """Something in a module of the user's own, given by its name."""

    def attempt(folder: Path) -> Attempt:
        name = f"kinds_{abs(hash((str(folder), attribute))) % 10**9}"
        (folder / f"{name}.py").write_text(source)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        return Attempt(model=f"{name}:{attribute}", split=Split(table()[0].astype(np.float32)), options=TWO)

    return Kind(attempt=attempt, refused=refused)


CODE = (
    "import numpy as np\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self, width):\n"
    "        super().__init__()\ndef build():\n    return nn.Linear(6, 2)\ndef build_any(pretrained=False):\n"
    "    return nn.Linear(6, 2)\ndef report(batch):\n    return np.array(['no acute finding'] * len(batch))\n"
    "def codes(batch):\n    z = batch @ np.arange(6.0)\n    return np.stack([-z, z], 1)\n"
)


def booster(_: Path) -> Attempt:
    """A fitted XGBoost-like wrapper: a scikit-learn estimator that skops does not trust."""

    class Boosted(LogisticRegression):
        """Of another library."""

    x, y = table(ROWS + 200)
    fitted = Boosted().fit(x[:200], y[:200])
    return Attempt(model=fitted, split=Split(x[200:]), own=fitted.predict_proba)


def with_nan() -> np.ndarray:
    """A table with a missing value."""
    rows = table()[0].astype(np.float32)
    rows[3, 2] = np.nan
    return rows


KINDS: dict[str, Kind] = {
    "1a multi-label, sigmoids as probabilities": torch_kind(
        lambda: cnn(1, 14, nn.Sigmoid()), "sums to", classes=FINDINGS, output="probabilities"
    ),
    "1b multi-label, sigmoids as logits": torch_kind(lambda: cnn(1, 14, nn.Sigmoid()), "multi-label", classes=FINDINGS),
    "1c multi-label, 14 logits": torch_kind(lambda: cnn(1, 14), "14 findings", classes=FINDINGS),
    "1d Hugging Face multi-label": transformers_kind(
        lambda t: vit(t, num_labels=4, problem_type="multi_label_classification")
    ),
    "1e torchxrayvision style": torch_kind(OpNorm, "multi-label", classes=FINDINGS),
    "1f labels of several findings": Kind(
        attempt=lambda _: Attempt(
            model=cnn(1, 14),
            split=Split(images(), np.zeros((ROWS, 14), int)),
            options={**IMAGE, "classes": FINDINGS},
            own=forward(cnn(1, 14)),
        ),
        white_box=True,
    ),
    "1f labels of one class each, one-hot": Kind(
        attempt=lambda _: Attempt(
            model=cnn(1, 3),
            split=Split(images(), np.eye(3)[np.arange(ROWS) % 3]),
            options={**IMAGE, "task": "classification", "classes": list("abc")},
        ),
        refused="one-hot",
    ),
    "1a multi-label, sigmoids, said": torch_kind(
        lambda: cnn(1, 14, nn.Sigmoid()), task="multilabel", classes=FINDINGS, output="probabilities"
    ),
    "1a multi-label, sigmoids said to be logits": torch_kind(
        lambda: cnn(1, 14, nn.Sigmoid()), "--output probabilities", task="multilabel", classes=FINDINGS
    ),
    "1c multi-label, 14 logits, said": torch_kind(lambda: cnn(1, 14), task="multilabel", classes=FINDINGS),
    "1c multi-label, an operating point for each": torch_kind(
        lambda: cnn(1, 3), classes=["a", "b", "c"], threshold={"a": 0.1, "b": 0.5, "c": 0.02}
    ),
    "1e torchxrayvision style, said": torch_kind(
        OpNorm, task="multilabel", classes=FINDINGS, output="probabilities", low=0, high=1
    ),
    "1f labels of several findings, said": Kind(
        attempt=lambda _: Attempt(
            model=cnn(1, 3),
            split=Split(images(), np.tile([[0, 0, 1], [1, 0, 1]], (ROWS // 2, 1))),
            options={**IMAGE, "classes": list("abc")},
            own=forward(cnn(1, 3)),
        ),
        white_box=True,
    ),
    "1g MultiOutputClassifier": estimator(
        lambda: MultiOutputClassifier(LogisticRegression()),
        labels=lambda x: (x[:, :3] > 0).astype(int),
        classes=list("abc"),
    ),
    "1g OneVsRest, several labels": estimator(
        lambda: OneVsRestClassifier(LogisticRegression()),
        labels=lambda x: (x[:, :3] > 0).astype(int),
        classes=list("abc"),
    ),
    "1g several labels in a forest": estimator(
        lambda: RandomForestClassifier(10, random_state=0),
        labels=lambda x: (x[:, :3] > 0).astype(int),
        classes=list("abc"),
    ),
    "1g names of findings missing": estimator(
        lambda: MultiOutputClassifier(LogisticRegression()), "--classes", lambda x: (x[:, :3] > 0).astype(int)
    ),
    "2a one logit": torch_kind(lambda: cnn(1, 1)),
    "2a one sigmoid": torch_kind(lambda: cnn(1, 1, nn.Sigmoid(), nn.Flatten(0)), output="probabilities"),
    "2a one logit at an operating point": torch_kind(lambda: cnn(1, 1), threshold=0.02),
    "2b ONNX output of one axis": graph_kind(lambda: one_axis(), own=lambda rows: rows.mean(axis=1)),
    "2c one logit as two columns": torch_kind(OneLogit),
    "2d an operating point of its own": estimator(
        lambda: FixedThresholdClassifier(LogisticRegression(), threshold=0.05)
    ),
    "2d a tuned operating point": estimator(lambda: TunedThresholdClassifierCV(LogisticRegression())),
    "2d a threshold on another scale": estimator(
        lambda: FixedThresholdClassifier(LogisticRegression(), threshold=0.3, response_method="decision_function"),
        "response_method='predict_proba'",
    ),
    "3a logistic pipeline": estimator(lambda: make_pipeline(StandardScaler(), LogisticRegression())),
    "3a grid search": estimator(lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3)),
    "3a names as labels": estimator(
        lambda: LogisticRegression(), labels=lambda x: np.where(x[:, 0] > 0, "malignant", "benign")
    ),
    "3a network": estimator(
        lambda: make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=3000, random_state=0))
    ),
    "3a forest": estimator(lambda: RandomForestClassifier(20, random_state=0)),
    "3a stacking": estimator(
        lambda: StackingClassifier([("f", RandomForestClassifier(5, random_state=0)), ("n", GaussianNB())], cv=3)
    ),
    "3b boosting": estimator(lambda: HistGradientBoostingClassifier(max_iter=20)),
    "3b calibrated": estimator(lambda: CalibratedClassifierCV(GaussianNB(), cv=3)),
    "3b soft voting": estimator(
        lambda: VotingClassifier([("f", RandomForestClassifier(5, random_state=0)), ("n", GaussianNB())], voting="soft")
    ),
    "3c missing values": of_rows(lambda: nn.Linear(6, 2), with_nan, "finite"),
    "3d strings in a table": of_rows(lambda: nn.Linear(6, 2), lambda: np.array([["f", "1.0"]] * ROWS), "numbers"),
    "3f regressor": estimator(
        lambda: GradientBoostingRegressor(n_estimators=3), labels=lambda x: x[:, 0], tolerance=0.1
    ),
    "3f regressor with cut points": estimator(
        lambda: make_pipeline(StandardScaler(), Ridge()), labels=lambda x: x[:, 0], tolerance=0.1, cut_points=[0, 0.5]
    ),
    "3f regressor without a tolerance": estimator(
        lambda: GradientBoostingRegressor(n_estimators=3), "--tolerance", lambda x: x[:, 0]
    ),
    "3g SVC without probabilities": estimator(lambda: SVC(), "predict_proba"),
    "4a estimator of another library": Kind(attempt=booster, refused="not trusted"),
    "5a ONNX": graph_kind(dense, own=dense_scores),
    "5a ONNX, fixed batch": graph_kind(lambda: dense(batch=1), own=dense_scores),
    "5a ONNX, opset 11": graph_kind(lambda: dense(opset=11), own=dense_scores),
    "5a ONNX, half precision": graph_kind(lambda: dense(kind=TensorProto.FLOAT16), own=dense_scores),
    "5a ONNX, double precision": graph_kind(lambda: dense(kind=TensorProto.DOUBLE), own=dense_scores),
    "5b ONNX, bytes in": graph_kind(lambda: dense_of(TensorProto.UINT8), whole_rows, own=dense_scores, low=0, high=255),
    "5b ONNX, whole numbers in": graph_kind(lambda: dense_of(TensorProto.INT64), whole_rows, own=dense_scores),
    "5b ONNX, bytes in, fractions given": graph_kind(lambda: dense_of(TensorProto.UINT8), refused="fractions"),
    "5c ONNX, channels last": graph_kind(
        lambda: strange_input(TensorProto.FLOAT, ["n", 16, 16, 3]), lambda: images((3, 16, 16)), refused="16, 16, 3"
    ),
    "5d ONNX, two inputs": graph_kind(two_inputs, refused="one"),
    "5e ONNX, hidden state first": graph_kind(lambda: dense(("hidden", "scores")), own=dense_scores),
    "5e ONNX, three outputs": graph_kind(lambda: dense(("scores", "probabilities", "label")), own=dense_scores),
    "5e ONNX, two matrices": graph_kind(lambda: two_candidates(), refused="--output-key"),
    "5e ONNX, two matrices, one chosen": graph_kind(lambda: two_candidates(), own=dense_scores, output_key="right"),
    "5e ONNX, scores and an embedding": graph_kind(
        lambda: dense(("hidden", "scores"), rename="output"), own=dense_scores
    ),
    "6a left in training mode": torch_kind(lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.3), cnn()).train()),
    "6b range not said": replace(torch_kind(cnn, "", low=None, high=None), white_box=False),
    "6b bytes whose range is not said": Kind(
        attempt=lambda _: Attempt(model=cnn(), split=Split((images()[:, 0] * 255).astype(np.uint8)), options=TWO),
        refused="--low",
    ),
    "6b normalised outside": torch_kind(
        lambda: cnn(3),
        channels=3,
        own=lambda net: lambda rows: forward(net)(((rows - 0.5) / 0.2).astype(np.float32)),
        prepare=Preparation(mean=(0.5,), std=(0.2,)),
    ),
    "6c TorchScript": torch_kind(lambda: torch.jit.trace(cnn().eval(), torch.zeros(1, 1, 16, 16))),
    "6d a dict": torch_kind(lambda: Named("dict"), "dict with logits: "),
    "6d a tuple": torch_kind(lambda: Named("tuple"), "1: "),
    "6d a list": torch_kind(lambda: Named("list"), "--output-key"),
    "6d a dict, one chosen": torch_kind(lambda: Named("dict"), own=named_scores("logits"), output_key="logits"),
    "6d a tuple, one chosen": torch_kind(lambda: Named("tuple"), own=named_scores(1), output_key="1"),
    "6d an output that is not there": torch_kind(lambda: Named("list"), "list with 0: ", output_key="scores"),
    "6e half precision": Kind(
        attempt=lambda _: Attempt(model=cnn().half(), split=Split(images()), options=IMAGE, own=forward(cnn())),
        white_box=True,
    ),
    "6e double precision": Kind(
        attempt=lambda _: Attempt(
            model=cnn().double(), split=Split(images()), options=IMAGE, own=forward(cnn().double(), torch.float64)
        ),
        white_box=True,
    ),
    "6f Hugging Face": transformers_kind(lambda t: vit(t, num_labels=2)),
    "6h four channels": torch_kind(lambda: cnn(4), channels=4),
    "6h sixteen slices as channels": torch_kind(lambda: cnn(16), channels=16),
    "6i volumes": of_shape((1, 4, 8, 8), nn.Conv3d),
    "6i volumes of two channels": of_shape((2, 4, 8, 8), nn.Conv3d, "--layout"),
    "6i volumes of two channels, said": of_shape((2, 4, 8, 8), nn.Conv3d, layout="NCDHW"),
    "6j segmentation": torch_kind(lambda: nn.Conv2d(1, 2, 3, padding=1), "segmentation"),
    "6j segmentation, whole": whole_kind(lambda: nn.Conv2d(1, 2, 3, padding=1)),
    "6k bone age": torch_kind(lambda: cnn(1, 1), "--task regression", classes=None, output=None),
    "6k bone age, said": torch_kind(
        lambda: cnn(1, 1), classes=["bone age"], output=None, task="regression", tolerance=0.5, unit="months"
    ),
    "6l quantiles": torch_kind(lambda: Cumulative(3), "in order on every row", classes=["p10", "p50", "p90"]),
    "6l quantiles, whole": whole_kind(lambda: Cumulative(3)),
    "6l hazards": torch_kind(lambda: cnn(1, 6, nn.Sigmoid()), "[0, 1]", classes=[f"year {k}" for k in range(6)]),
    "6l hazards, whole": whole_kind(lambda: cnn(1, 6, nn.Sigmoid())),
    "6l ordinal": torch_kind(lambda: Cumulative(4), "in order on every row", classes=list("abcd")),
    "6l ordinal, each threshold a finding": torch_kind(
        lambda: Cumulative(4), classes=[f"above {k}" for k in range(4)], task="multilabel"
    ),
    "7 ECG": of_shape((12, 50), nn.Conv1d, "--layout NLT"),
    "7 ECG, said": of_shape((12, 50), nn.Conv1d, layout="NLT"),
    "7 ECG, normalised by lead": of_shape(
        (3, 50), nn.Conv1d, layout="NLT", prepare=Preparation(mean=(0.4, 0.5, 0.6), std=(0.5, 1, 2))
    ),
    "7 ECG as an image of one row": of_rows(Volume, lambda: images((1, 12, 50)), "", low=0, high=1),
    "8 mean of three networks": torch_kind(lambda: Mean3()),
    "9 text classifier": transformers_kind(bert, "text"),
    "9 report writer": transformers_kind(report_writer, "text"),
    "9 function that writes": named_code(CODE, "report", "text"),
    "3e function over codes": named_code(CODE, "codes", ""),
    "10 weights alone": of_rows(lambda: "model.pt", lambda: table()[0].astype(np.float32), "torch.load"),
    "10 Keras": of_rows(lambda: "model.keras", lambda: table()[0].astype(np.float32), "tf2onnx"),
    "10 joblib": of_rows(lambda: "risk.joblib", lambda: table()[0].astype(np.float32), "joblib.load"),
    "11 a class": named_code(CODE, "Net", "is a class"),
    "11 a factory": named_code(CODE, "build", "build()"),
    "11 a factory with a default": named_code(CODE, "build_any", "build_any()"),
}


class Mean3(nn.Module):
    """The mean of three networks."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([cnn(), cnn(), cnn()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 2)."""
        return torch.stack([net(x) for net in self.nets]).mean(0)


def one_axis() -> onnx.ModelProto:
    """An ONNX file whose only output, called scores, has one axis."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["scores"], axes=[1], keepdims=0)]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])]
    out = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"])]
    return helper.make_model(
        helper.make_graph(nodes, "g", given, out), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def tried(kind: Kind, folder: Path) -> str:
    """What came of protecting one `kind`: "served", "refused", or WRONG or BAD with the reason."""
    attempt = kind.attempt(folder)
    before = attempt.split.inputs.copy()
    try:
        made = protect(attempt.model, attempt.split, Policy(on_error="flag"), folder / "bundle", **attempt.options)
    except MedwardError as error:
        said = str(error)
        odd = len(said) > 600 or "\n" in said or "\x1b" in said or "Traceback" in said
        if odd or not kind.refused or kind.refused not in said:
            return f"BAD: {said}"
        return "refused"
    except Exception as error:
        return f"BAD: traceback {type(error).__name__}: {error}"
    if kind.refused:
        return "WRONG: accepted"
    if before.tobytes() != attempt.split.inputs.tobytes():
        return "WRONG: the caller's rows were changed"
    if attempt.own is None:
        return "served"
    rows, guard = attempt.split.inputs[:40], made.guard(ephemeral=True)
    task, scores = made.card.spec.task, np.asarray(attempt.own(rows))
    own = decided_by_hand(task, scores)
    for i, row in enumerate(rows):
        answer = guard.answer(Query(principal=(f"clinic {i}",), inputs=row[None]))
        if answer.levels[0] is Level.WITHHELD:
            continue
        near, allowed = shown_by_hand(task, scores[i : i + 1])
        if (own is not None and answer.labels[0] != own[i]) or np.abs(answer.scores - near).max() > allowed:
            return f"WRONG: own {near.round(3).tolist()}, served {answer.scores.tolist()}"
    return "served"


def decided_by_hand(task: Any, scores: np.ndarray) -> np.ndarray | None:
    """The user's own decisions, written down anew: the largest, from a threshold on, or between cut points."""
    if task.kind == "opaque":
        return None
    if task.kind == "regression":
        cells = [sum(value >= cut for cut in task.cut_points) for value in scores.reshape(-1)]
        return np.array(cells) if task.cut_points else None
    likely = scores if task.output == "probabilities" else 1 / (1 + np.exp(-scores))
    if task.kind == "multilabel":
        return (likely >= np.array(task.thresholds)) @ (1 << np.arange(scores.shape[1]))
    if task.one_column or scores.ndim == 1:
        return (likely.reshape(-1) >= (0.5 if task.threshold is None else task.threshold)).astype(int)
    return scores.argmax(axis=1) if task.threshold is None else (scores[:, 1] >= task.threshold).astype(int)


def shown_by_hand(task: Any, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """What an answer should be near, and how near."""
    if task.kind == "opaque":
        return scores, 1e-5 * max(1.0, float(np.abs(scores).max()))
    if task.kind == "regression":
        return scores.reshape(-1, 1), 0.1 * task.tolerance
    if task.kind == "multilabel":
        return (scores if task.output == "probabilities" else 1 / (1 + np.exp(-scores))), 0.0101
    if task.one_column:
        second = scores.reshape(-1) if task.output == "probabilities" else 1 / (1 + np.exp(-scores.reshape(-1)))
        return np.stack([1 - second, second], axis=1), 0.0101
    return probabilities(scores, task.output), 0.0101


def first_value(outputs: np.ndarray) -> np.ndarray:
    """The first number of a row, in twentieths."""
    return np.abs(np.round(20 * outputs.reshape(len(outputs), -1)[:, 0])).astype(np.int64)


def attacked(kind: Kind, folder: Path) -> str:
    """How an attacker with the file knows the model: "white-box", or what else the report says."""
    attempt = kind.attempt(folder)
    made = protect(attempt.model, attempt.split, Policy(on_error="flag"), folder / "bundle", **attempt.options)
    test = {"test": attempt.split.take(slice(0, 40))}
    decide = first_value if made.card.spec.task.kind == "opaque" else None
    report = validate(made, test, folder / "report", names=["fgsm"], decide=decide, progress=False)
    return str(report.findings[0].threat.knowledge)
