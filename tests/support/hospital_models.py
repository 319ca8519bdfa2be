"""The models that hospitals have, small, each through every command: what the documents' table says of them.

A cell is "yes" with what was found, or the sentence that refuses. `tests/contracts/test_models_and_data.py` runs each
cell and compares it with what the table shows.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from starlette.testclient import TestClient
from support.clinical import NUMBERS, PIPELINES, records, sepsis_table
from support.model_kinds import FINDINGS, Named, cnn, images
from torch import nn

import medward
from medward.guard.harden import HARDENERS
from medward.integrations.serving import load_app

FULL = medward.Policy(on_error="withhold", release={"level": "full"}, screen={"action": "flag"})
IMAGE = {"low": 0.0, "high": 1.0, "classes": ("absent", "present"), "output": "logits"}
ROWS, ASKED, NEAR = 160, 8, 1e-5


@dataclass(frozen=True, kw_only=True)
class HospitalModel:
    """What a user has: a model, benign rows, options of `protect`, and the model's own outputs on rows.

    `body` makes the JSON of a request, `labels` are right answers for hardening, `attack` is what validates it.
    """

    model: object
    benign: Any
    own: Callable[[Any], np.ndarray]
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: np.ndarray | None = None
    attack: str = "fgsm"
    attacked: int = 40
    body: Callable[[Any], dict[str, Any]] = lambda rows: {"inputs": np.asarray(rows).tolist()}


def called(net: Callable[[torch.Tensor], Any], dtype: torch.dtype = torch.float32) -> Callable[[Any], np.ndarray]:
    """A user's own call of a network."""

    def own(rows: Any) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(net(torch.tensor(np.asarray(rows), dtype=dtype)).float().numpy())

    return own


def on_images(net: nn.Module, own: Callable[[Any], np.ndarray] | None = None, **options: Any) -> HospitalModel:
    """A network on small images."""
    rows = images(n=ROWS)
    labels = (rows.mean(axis=(1, 2, 3)) > np.median(rows.mean(axis=(1, 2, 3)))).astype(int)
    return HospitalModel(
        model=net, benign=rows, own=own or called(net.eval()), options={**IMAGE, **options}, labels=labels
    )


class Signals(nn.Module):
    """A convolution over the samples of twelve leads."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(12, 8, 7, stride=3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of ``(n, 12, T)``."""
        return 20 * self.head(self.body(x))


class Volumes(nn.Module):
    """A convolution over the voxels of a scan."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of ``(n, 1, D, H, W)``."""
        return 20 * self.head(self.body(x))


def several_findings() -> HospitalModel:
    """Several findings at once."""
    net = cnn(1, 5)
    return on_images(net, classes=FINDINGS[:5], task="multilabel")


def single_logit() -> HospitalModel:
    """One logit, the second of two classes."""
    return on_images(cnn(1, 1), threshold=0.3)


def bone_age() -> HospitalModel:
    """A number from an image."""
    net = cnn(1, 1)
    return on_images(net, classes=("bone age",), output=None, task="regression", tolerance=0.5, unit="months")


def pipeline_with_gaps() -> HospitalModel:
    """A scikit-learn pipeline over categories and missing values."""
    train, benign = sepsis_table(300, seed=0), sepsis_table(ROWS, seed=1)
    inputs = [*NUMBERS, "sex", "ward"]
    return of_table(PIPELINES["logistic"]().fit(train[inputs], train["sepsis"]), benign[inputs])


def of_table(model: Any, frame: Any) -> HospitalModel:
    """An estimator on a DataFrame, asked by column name."""
    return HospitalModel(
        model=model,
        benign=frame,
        own=model.predict_proba,
        attack="hopskipjump",
        attacked=12,
        body=lambda rows: {"rows": records(rows)},
    )


def boosted(build: Callable[[], Any]) -> HospitalModel:
    """Boosted trees over numbers with gaps."""
    train, benign = sepsis_table(300, seed=0), sepsis_table(ROWS, seed=1)
    fitted = build().fit(train[NUMBERS].astype(np.float32), (train["sepsis"] == "yes").astype(int))
    return of_table(fitted, benign[NUMBERS].astype(np.float32))


def xgboost_model() -> HospitalModel:
    """XGBoost."""
    import xgboost

    return boosted(lambda: xgboost.XGBClassifier(n_estimators=10, max_depth=3))


def lightgbm_model() -> HospitalModel:
    """LightGBM."""
    import lightgbm

    return boosted(lambda: lightgbm.LGBMClassifier(n_estimators=10, max_depth=3, verbose=-1))


def catboost_model() -> HospitalModel:
    """CatBoost."""
    import catboost

    return boosted(lambda: catboost.CatBoostClassifier(iterations=10, depth=3, verbose=0, allow_writing_files=False))


def hugging_face() -> HospitalModel:
    """A Hugging Face image classifier in its folder, with its processor."""
    import transformers

    torch.manual_seed(0)
    small = {"image_size": 16, "patch_size": 8, "num_channels": 3, "hidden_size": 16, "num_hidden_layers": 1}
    config = transformers.ViTConfig(**small, num_attention_heads=2, intermediate_size=16, num_labels=2)
    net = transformers.ViTForImageClassification(config).eval()
    with torch.no_grad():
        net.classifier.weight *= 30
    folder = Path(tempfile.mkdtemp())
    net.save_pretrained(folder)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 16, "width": 16},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    by_channel = [np.array(each, np.float32)[:, None, None] for each in (mean, std)]
    own = called(lambda x: net(pixel_values=x).logits)
    rows = images((3, 16, 16), n=ROWS)
    return HospitalModel(
        model=str(folder),
        benign=rows,
        own=lambda x: own((np.asarray(x) - by_channel[0]) / by_channel[1]),
        labels=(rows.mean(axis=(1, 2, 3)) > rows.mean()).astype(int),
    )


def monai_densenet() -> HospitalModel:
    """MONAI's DenseNet121 on one channel."""
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    net = DenseNet121(spatial_dims=2, in_channels=1, out_channels=2).eval()
    rows = images((1, 32, 32), n=ROWS)
    return HospitalModel(model=net, benign=rows, own=called(net), options=IMAGE, labels=(rows[:, 0, 0, 0] > 0.5) * 1)


def torchscript() -> HospitalModel:
    """TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return on_images(torch.jit.trace(cnn().eval(), torch.zeros(1, 1, 16, 16)))


def twelve_leads() -> HospitalModel:
    """A 12-lead signal."""
    torch.manual_seed(0)
    net, rows = Signals().eval(), images((12, 200), n=ROWS)
    options = {**IMAGE, "layout": "NLT"}
    return HospitalModel(
        model=net, benign=rows, own=called(net), options=options, labels=(rows[:, 0, 0] > 0.5).astype(int)
    )


def three_dimensions() -> HospitalModel:
    """A volume of voxels."""
    torch.manual_seed(0)
    net, rows = Volumes().eval(), images((1, 8, 12, 12), n=ROWS)
    return HospitalModel(
        model=net,
        benign=rows,
        own=called(net),
        options={**IMAGE, "layout": "NCDHW"},
        labels=(rows.mean(axis=(1, 2, 3, 4)) > rows.mean()).astype(int),
    )


def tuple_outputs() -> HospitalModel:
    """A module that returns a tuple."""
    net = Named("tuple").eval()
    return on_images(net, called(lambda x: net(x)[0]), output_key="0")


def dict_outputs() -> HospitalModel:
    """A module that returns a dict."""
    net = Named("dict").eval()
    return on_images(net, called(lambda x: net(x)["logits"]), output_key="logits")


def half_precision() -> HospitalModel:
    """A module in half precision: the float32 copy of it is what is guarded."""
    net = cnn().half().eval()
    copy = cnn().half().float().eval()
    return on_images(net, called(copy))


MODELS: Mapping[str, Callable[[], HospitalModel]] = {
    "several findings": several_findings,
    "single logit": single_logit,
    "regression": bone_age,
    "pipeline with categories and gaps": pipeline_with_gaps,
    "XGBoost": xgboost_model,
    "LightGBM": lightgbm_model,
    "CatBoost": catboost_model,
    "Hugging Face folder with processor": hugging_face,
    "MONAI DenseNet121, one channel": monai_densenet,
    "TorchScript": torchscript,
    "12-lead signal": twelve_leads,
    "3-D volume": three_dimensions,
    "tuple output": tuple_outputs,
    "dict output": dict_outputs,
    "half precision": half_precision,
}
SLOW = ("MONAI DenseNet121, one channel",)
COMMANDS = ("protect", "serve", "validate", "harden")


def protect_cell(subject: HospitalModel, folder: Path) -> str:
    """Protect the model; "yes", or the sentence that refuses."""
    try:
        medward.protect(subject.model, subject.benign, FULL, folder / "bundle", name="m", **subject.options)
    except medward.MedwardError as error:
        return str(error)
    return "yes"


def serve_cell(subject: HospitalModel, folder: Path) -> str:
    """Ask the served bundle; "yes" where every answer at level full is the model's own."""
    rows = subject.benign[:ASKED]
    own = np.asarray(subject.own(rows), np.float64).reshape(len(rows), -1)
    with TestClient(load_app(folder / "bundle", state=folder / "state", anonymous=True)) as client:
        reply = client.post("/v1/predict", json=subject.body(rows))
    answer = reply.json()
    if reply.status_code != 200:
        return str(answer["detail"])
    told = np.array(answer.get("scores", answer.get("values")), np.float64).reshape(len(rows), -1)[:, -own.shape[1] :]
    off = float(np.abs(told - own).max())
    return "yes" if off <= NEAR * max(1.0, np.abs(own).max()) else f"off by {off:.2g}"


def validate_cell(subject: HospitalModel, folder: Path) -> str:
    """Attack the bundle; how the attacker knows the model."""
    test = {"test": subject.benign[-subject.attacked :]}
    try:
        report = medward.validate(
            medward.load(folder / "bundle"),
            test,
            folder / "report",
            names=None if subject.attack is None else [subject.attack],
            progress=False,
        )
    except medward.MedwardError as error:
        return str(error)
    return str(report.findings[0].threat.knowledge)


def harden_cell(subject: HospitalModel, folder: Path) -> str:
    """Harden the model for one epoch; "yes", or the sentence that refuses."""
    options = {k: v for k, v in subject.options.items() if k != "unit"}
    if subject.labels is None:
        rows = subject.benign
    else:
        labels: Any = subject.labels
        if options.get("task") == "multilabel":
            labels = np.stack([labels, 1 - labels, labels, 1 - labels, labels], axis=1)
        if options.get("task") == "regression":
            labels = labels.astype(np.float64)
        rows = medward.Split(subject.benign, labels)
    method = HARDENERS["pgd"]
    method = replace(method, epsilon=4 / 255, training=replace(method.training, epochs=1))
    try:
        medward.harden(subject.model, {"train": rows}, folder / "hardened", method, **options)
    except medward.MedwardError as error:
        return str(error)
    return "yes"


CELLS: Mapping[str, Callable[[HospitalModel, Path], str]] = {
    "protect": protect_cell,
    "serve": serve_cell,
    "validate": validate_cell,
    "harden": harden_cell,
}
