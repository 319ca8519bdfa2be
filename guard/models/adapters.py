"""Which adapter takes a model: by its base class, or by the file that a bundle holds it in; others are refused."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from medward.guard.errors import MedwardError
from medward.guard.models.base import Adapter, read_model_file

BASES = {
    "torch.jit._script.ScriptModule": "torchscript_model.TORCHSCRIPT_ADAPTER",
    "transformers.modeling_utils.PreTrainedModel": "huggingface_model.HUGGINGFACE_ADAPTER",
    "torch.nn.modules.module.Module": "torch_model.TORCH_ADAPTER",
    "medward.guard.models.greedy_decoding.PretrainedWriter": "huggingface_report.HUGGINGFACE_REPORT_ADAPTER",
    "catboost.core.CatBoost": "sklearn_model.SKLEARN_ADAPTER",
    "sklearn.base.BaseEstimator": "sklearn_model.SKLEARN_ADAPTER",
}
"""Base classes by full name, most specific first, and the adapter that takes their instances."""

FILES = {
    "model.onnx": "onnx_model.ONNX_ADAPTER",
    "model.skops": "sklearn_model.SKLEARN_ADAPTER",
    "entrypoint.json": "callable_model.CALLABLE_ADAPTER",
    "report.zip": "huggingface_report.HUGGINGFACE_REPORT_ADAPTER",
}
"""The files a bundle may hold its model in, and the adapter that loads each."""

WRITING_ADAPTERS = {
    "callable_model.CALLABLE_ADAPTER": "report_model.REPORT_FUNCTION_ADAPTER",
    "huggingface_report.HUGGINGFACE_REPORT_ADAPTER": "huggingface_report.HUGGINGFACE_REPORT_ADAPTER",
}
"""The adapter that takes the place of another where the task is a report."""

REMEDIES = {
    (
        ".pt",
        ".pth",
        ".ts",
        ".ckpt",
        ".bin",
        ".safetensors",
    ): "weights need their code (TorchScript does not): write a module mine.py with "
    "net = Net(); net.load_state_dict(torch.load(path)), and give mine:net",
    (".pkl", ".pickle", ".joblib"): "a pickle runs code when it is read: if you trust it, write a module mine.py with "
    "model = joblib.load(path), and give mine:model; or save it with skops as *.skops",
    (".h5", ".keras", ".pb", ".tflite"): "convert it with tf2onnx (python -m tf2onnx.convert ... --output model.onnx)",
    (".bst", ".ubj", ".xgb", ".lgb", ".cbm"): "convert it with onnxmltools, or write a module mine.py that loads its "
    "scikit-learn form (XGBClassifier, LGBMClassifier), and give mine:model",
    (".mlmodel", ".mar", ".engine", ".plan", ".trt"): "export the model it was made from to ONNX",
    (".npz", ".npy", ".csv", ".parquet", ".dcm", ".png", ".jpg"): "that is data; it goes to --data",
}
"""What to do with files that hold a model in a form that is not read, by how their names end."""


def find_adapter(x: object, *, report: bool = False) -> tuple[Adapter, object]:
    """The adapter for `x`, and what to give it: entry points are resolved unless of a function.

    `report` says that it writes reports. Raises `MedwardError` for what is no model, and where no adapter takes it.
    """
    found = x
    if isinstance(x, str | Path) and str(x).endswith(".skops"):
        found = importlib.import_module("medward.guard.models.skops_file").load_skops(read_model_file(Path(x)))
    elif isinstance(x, str) and ":" in x and not x.endswith(".onnx"):
        found = importlib.import_module("medward.guard.models.callable_model").resolve_entrypoint(x)
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(found).__mro__}
    kind = next((adapter for base, adapter in BASES.items() if base in bases), None)
    if kind is None and not isinstance(found, type):
        _refuse_data(found, bases)
    if isinstance(found, str | Path):
        _refuse_file(found)
        kind = "onnx_model.ONNX_ADAPTER"
    elif isinstance(found, type):
        raise MedwardError(f"model: {found.__name__} is a class, not a model; give an instance of it: {_instance(x)}")
    elif kind is None:
        if not callable(found):
            raise MedwardError(_no_model(found))
        kind, found = "callable_model.CALLABLE_ADAPTER", x
    return _found(_writing(kind) if report else kind), found


def adapter_of_file(file: str, *, report: bool = False) -> Adapter:
    """The adapter that loads what a bundle holds in `file`, one of `FILES`; `report` says that it writes reports."""
    return _found(_writing(FILES[file]) if report else FILES[file])


def _refuse_file(path: str | Path) -> None:
    """Refuse a path that is no ONNX file, with what to do for the kind that its name tells."""
    text = str(path)
    if text.endswith(".onnx"):
        return
    known = next((words for ends, words in REMEDIES.items() if text.lower().endswith(ends)), None)
    if known is None and Path(text).is_dir():
        known = (
            "a folder is a model where it holds config.json and model.safetensors (Hugging Face, "
            "model.save_pretrained(folder)) or configs/metadata.json (a MONAI bundle)"
        )
    wanted = f'{path}: expected a path *.onnx or *.skops, or a name "package.module:attribute"'
    if known is None and not Path(text).exists():
        wanted = f"{wanted}, or a Hugging Face or MONAI folder, and there is no such folder"
    raise MedwardError(f"{wanted}; {known}" if known else wanted)


def _found(name: str) -> Adapter:
    """The adapter of ``module.NAME``, whose library is loaded only now."""
    module, _, attribute = name.partition(".")
    adapter: Adapter = getattr(importlib.import_module(f"medward.guard.models.{module}"), attribute)
    return adapter


def _writing(kind: str) -> str:
    """The adapter of the same kind of model that writes reports."""
    if kind not in WRITING_ADAPTERS:
        raise MedwardError(
            "model: a report is written by a function (images to texts), a Hugging Face folder that writes, or "
            "PretrainedWriter(network=..., tokenizer=...); this is another kind of model"
        )
    return WRITING_ADAPTERS[kind]


def _instance(x: object) -> str:
    """How a class, given itself or by the name of where it is, becomes a model that can be given."""
    name, said = (x.rpartition(":")[2], True) if isinstance(x, str) else (getattr(x, "__name__", "Model"), False)
    made = f"net = {name}(); net.load_state_dict(torch.load(path))"
    return f"write {made} in that module and name :net" if said else made


def _refuse_data(found: object, bases: set[str]) -> None:
    """Refuse data where a model is wanted, and Keras models, which are called in a way of their own."""
    kind, name = type(found).__module__.partition(".")[0], type(found).__name__
    data = any(base.endswith((".DataFrame", ".Dataset", "numpy.ndarray", ".Tensor", ".DataLoader")) for base in bases)
    if data:
        raise MedwardError(f"model: a {kind}.{name} is data, not a model; give it as the benign rows (--data)")
    if kind in ("keras", "tensorflow", "tf_keras"):
        raise MedwardError(
            f"model: {kind}.{name} is a Keras model; save it (model.export('saved')), convert that (python -m "
            "tf2onnx.convert --saved-model saved --output model.onnx) and give model.onnx"
        )


def _no_model(found: object) -> str:
    """Why `found` is no model, by what it is."""
    kind = f"{type(found).__module__.partition('.')[0]}.{type(found).__name__}"
    if isinstance(found, Mapping):
        return (
            f"model: a {type(found).__name__} is no model; if it is a state dict, load it: "
            "net = Net(); net.load_state_dict(state)"
        )
    if kind in ("xgboost.Booster", "lightgbm.Booster"):
        return (
            f"model: {kind} is no classifier by itself; give its scikit-learn form (XGBClassifier, LGBMClassifier), or "
            "an ONNX file made with onnxmltools"
        )
    return f"model: {type(found).__name__} is no torch module, classifier, ONNX path or callable"
