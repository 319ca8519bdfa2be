"""A Hugging Face folder: its classifier, and its image processor as a `Preparation`.

A processor whose steps are a resize to one size, a crop at the centre, a scaling and a normalisation is expressed
exactly; any other step is refused by name, for images would be prepared otherwise than the model was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, read_json_object, require_extra
from medward.guard.models.kinds import by_class_name
from medward.guard.preparation import Preparation, Resample

_WHITE = 255  # of the 8-bit pixels that processors take
_FILTERS: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
"""Pillow's numbers of filters."""
_STEPS = ("do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_convert_rgb")
"""The switches of steps that are understood."""
_OWN_WAYS = ("_preprocess", "preprocess", "resize", "rescale", "normalize", "center_crop", "process_image")
"""Methods by which a processor of a model would prepare images in a way of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """Processed images have values from `low` to `high` before they are normalised inside the model."""

    low: float
    high: float
    prepare: Preparation


def load_classifier(folder: Path) -> Any:
    """The image classifier in `folder`, from safetensors and without running code of the folder's."""
    transformers = require_extra("transformers", "huggingface")
    config = read_json_object(folder / "config.json")
    named = config.get("architectures")
    for name in named if isinstance(named, list) else ():
        by_class_name("model", str(name))
    refuse_kernels(folder, config)
    try:
        with quiet_transformers(transformers.utils.logging):
            net, loaded = transformers.AutoModelForImageClassification.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises what its many parts raise
        raise MedwardError(
            f"{folder}: is no image classifier that transformers reads from safetensors: {first_line(error)}; save it "
            "with model.save_pretrained(folder)"
        ) from None
    if lacking := sorted(loaded["missing_keys"]):
        raise MedwardError(
            f"{folder}: has no weights for {lacking[0]} ({len(lacking)} missing), which would be drawn at random; give "
            "the fine-tuned classifier, not its backbone"
        )
    return net.eval()


def refuse_kernels(folder: Path, config: dict[str, Any]) -> None:
    """Refuse the configuration of `folder` where it names code of a hub."""
    if kernel := next(_kernels(config), None):
        raise MedwardError(
            f"{folder}: config.json has {kernel}, code that transformers would load from a hub; take it out if the "
            "model does without"
        )


def _kernels(config: dict[str, Any]) -> Iterator[str]:
    """Where a configuration, or one within, names code of a hub as the implementation of a layer."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _kernels(value)
        elif name.endswith("_implementation") and isinstance(value, str) and "/" in value:
            yield f"{name} = {value!r}"


def read_processor(processor: object) -> Processed:
    """How an image `processor`, or the one in a folder, prepares files; refuses by name what cannot be expressed."""
    made = _opened(processor)
    kind, said = type(made).__name__.removesuffix("Pil"), dict(made.to_dict())
    _check_plain(made, kind)
    for name, value in said.items():
        if name.startswith("do_") and value and name not in _STEPS:
            raise _inexpressible(kind, name, value)
    for name in ("crop_pct", "rescale_offset", "size_divisor", "offset"):
        if said.get(name):
            raise _inexpressible(kind, name, said[name])
    resize = _size(kind, "size", said.get("size")) if said.get("do_resize") else None
    crop = _size(kind, "crop_size", said.get("crop_size")) if said.get("do_center_crop") else None
    if resize and crop and (crop[0] > resize[0] or crop[1] > resize[1]):
        raise _inexpressible(kind, "crop_size", f"{crop}, larger than the size {resize}: it would pad with black")
    number = said.get("resample")
    resample = _FILTERS.get(number) if isinstance(number, int) else None
    if resize and resample is None:
        raise _inexpressible(kind, "resample", number)
    factor = _numbers(kind, "rescale_factor", said)[0] if said.get("do_rescale") else 1.0
    normal = bool(said.get("do_normalize"))
    return Processed(
        low=0.0,
        high=round(_WHITE * factor, 9),
        prepare=Preparation(
            resize=resize,
            resample=resample or "bilinear",
            crop=None if crop == resize else crop,
            mean=_numbers(kind, "image_mean", said) if normal else (),
            std=_numbers(kind, "image_std", said) if normal else (),
        ),
    )


@contextmanager
def quiet_transformers(logging: Any) -> Iterator[None]:
    """Without transformers' progress bars and reports; what they say is read from what it returns."""
    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _opened(processor: object) -> Any:
    """The processor itself; one in a folder is made without torchvision."""
    if not isinstance(processor, str | Path):
        if not hasattr(processor, "to_dict"):
            raise MedwardError(
                f"processor: expected a folder with preprocessor_config.json or an image processor, got "
                f"{type(processor).__name__}"
            )
        return processor
    path = Path(processor)
    folder = path.parent if path.name == "preprocessor_config.json" else path
    if not (folder / "preprocessor_config.json").is_file():
        raise MedwardError(f"processor: {folder} holds no preprocessor_config.json; save it with save_pretrained")
    transformers = require_extra("transformers", "huggingface")
    require_extra("PIL", "images")
    try:
        with quiet_transformers(transformers.utils.logging):
            return transformers.AutoImageProcessor.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, backend="pil"
            )
    except Exception as error:
        raise MedwardError(f"processor: {folder}: transformers cannot read it: {first_line(error)}") from None


def _check_plain(made: Any, kind: str) -> None:
    """Refuse a processor with a way of its own of doing a step."""
    bases = [each for each in type(made).__mro__ if each.__module__ == "transformers.image_processing_backends"]
    plain = bases[0] if bases else None
    own = [
        name for name in _OWN_WAYS if plain is None or getattr(type(made), name, None) is not getattr(plain, name, None)
    ]
    if own:
        raise MedwardError(
            f"processor: {kind} prepares images in a way of its own ({own[0]}), which is not known here; give rows as "
            "it leaves them and say --low, --high, --mean, --std for those"
        )


def _numbers(kind: str, name: str, said: dict[str, Any]) -> tuple[float, ...]:
    """The numbers that the processor calls `name`, also a single one."""
    value = said.get(name)
    found = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not found or not all(isinstance(each, int | float) for each in found):
        raise _inexpressible(kind, name, value)
    return tuple(map(float, found))


def _size(kind: str, name: str, size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if not isinstance(size, Mapping):
        raise _inexpressible(kind, name, size)
    found = dict(size)
    if set(found) - {key for key, value in found.items() if value is None} != {"height", "width"}:
        raise MedwardError(
            f"processor: {kind} has {name} {found}, which keeps each file's aspect ratio; Medward prepares files to "
            'one height and width: if they are square, save the processor with {"height": ..., "width": ...}'
        )
    return int(found["height"]), int(found["width"])


def _inexpressible(kind: str, name: str, value: object) -> MedwardError:
    return MedwardError(
        f"processor: {kind} has {name} = {value}, which cannot be expressed; give rows as it leaves them"
    )
