"""Where a model comes from and what is written beside it: a folder that says more than weights is read for all it says.

A Hugging Face folder has a configuration and often an image processor, a MONAI bundle its metadata. What they say of
classes, range and preparation need not be said again, and must not be said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medward.guard.errors import MedwardError
from medward.guard.models import describe_model
from medward.guard.models.base import read_json_object, require_extra
from medward.guard.preparation import AS_IT_IS, Preparation
from medward.guard.spec import ModelSpec

PROCESSOR = "preprocessor_config.json"
_SCRIPTS = (".pt", ".pth", ".ts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source is a model that can be wrapped, and what is known besides of its classes, range and preparation."""

    model: object
    classes: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    prepare: Preparation = AS_IT_IS

    def file_channels(self, data: object) -> int | None:
        """How many channels of an image the model says that it takes, where it does and `data` is a folder of files."""
        if not (isinstance(data, str | Path) and Path(data).is_dir()):
            return None
        shape = describe_model(self.model).get("shape")
        return shape[0] if shape is not None and len(shape) == 3 and isinstance(shape[0], int) else None


def open_source(
    model: object,
    processor: object = None,
    *,
    low: float | None = None,
    high: float | None = None,
    prepare: Preparation | None = None,
    allow_code: bool = False,
) -> Source:
    """The model that `model` is or names, with what its folder, its `processor` and the user say together.

    Raises `MedwardError` where two of them contradict each other.
    """
    found = _found(model, allow_code)
    folder = Path(model) if isinstance(model, str | Path) and Path(model).is_dir() else None
    if processor is None and folder is not None and (folder / PROCESSOR).is_file():
        processor = folder
    if processor is not None:
        require_extra("transformers", "huggingface")
        from medward.guard.models.huggingface_processor import read_processor

        said = read_processor(processor)
        found = Source(model=found.model, classes=found.classes, low=said.low, high=said.high, prepare=said.prepare)
    for name, own, given in (("low", found.low, low), ("high", found.high, high)):
        if own is not None and given is not None and abs(own - given) > 1e-6 * max(1.0, abs(own)):
            raise MedwardError(f"{name}: {given:g} was said, and what is beside the model says {own:g}; leave it out")
    prepare = prepare or AS_IT_IS
    steps = replace(prepare, window=None, frame=None)  # of DICOM files processors know nothing
    if steps != AS_IT_IS and found.prepare not in (AS_IT_IS, steps):
        raise MedwardError(
            f"prepare: {steps.words} was said, and the model's processor says {found.prepare.words}; leave it out"
        )
    steps = steps if found.prepare == AS_IT_IS else found.prepare
    return Source(
        model=found.model,
        classes=found.classes,
        low=low if found.low is None else found.low,
        high=high if found.high is None else found.high,
        prepare=replace(steps, window=prepare.window, frame=prepare.frame),
    )


def check_size(spec: ModelSpec) -> None:
    """Refuse rows of another height and width than the preparation of files ends with."""
    size = spec.prepare.size
    if size is not None and spec.modality == "image" and spec.sent is None and spec.shape[1:] != size:
        raise MedwardError(
            f"{spec.name}: files are prepared to {size[0]} x {size[1]} (height x width), and the rows are "
            f"{spec.shape[1]} x {spec.shape[2]}; give rows as they are after that"
        )


def _found(model: object, allow_code: bool) -> Source:
    """What stands behind a folder or a TorchScript file; anything else as it is."""
    if not isinstance(model, str | Path):
        return Source(model=model)
    path = Path(model)
    if path.is_dir():
        if (path / "configs" / "metadata.json").is_file():
            require_extra("monai", "monai")
            from medward.guard.models.monai_bundle import open_bundle

            read = open_bundle(path, allow_code=allow_code)
            return Source(model=read.model, classes=read.classes, low=read.low, high=read.high)
        if (path / "config.json").is_file():
            require_extra("transformers", "huggingface")
            from medward.guard.models.huggingface_processor import load_classifier
            from medward.guard.models.huggingface_report import open_writer, writes_reports

            if writes_reports(read_json_object(path / "config.json")):
                return Source(model=open_writer(path))

            return Source(model=load_classifier(path))
    elif path.suffix in _SCRIPTS and path.is_file():
        require_extra("torch", "torch")
        from medward.guard.models.torchscript_model import load_script

        return Source(model=load_script(path) or model)
    return Source(model=model)
