"""A Hugging Face folder that writes reports, as a `ReportModel`; a bundle holds all of it in one archive.

What is read are configurations, safetensors and the fast tokenizer's own file: nothing of it runs code, and nothing is
fetched. The prompt is the task's. Each row is written alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.models.base import (
    Adapter,
    Exported,
    Prefill,
    first_line,
    read_json_object,
    require_extra,
    written_outputs,
)
from medward.guard.models.front import as_model_takes
from medward.guard.models.greedy_decoding import PretrainedWriter
from medward.guard.models.huggingface_processor import quiet_transformers, refuse_kernels
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints, Outputs

REPORT_ARCHIVE = "report.zip"
_KEPT = (".json", ".safetensors", ".txt")
_ENCODER_DECODER = "VisionEncoderDecoderModel"
_WRITTEN = (1980, 1, 1, 0, 0, 0)  # of every file of an archive, so that equal models have equal bytes
_LENGTH = 256  # tokens, where generation has no limit of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFaceReportModel:
    """A Hugging Face report model decodes greedily what its `writer` says of rows that are normalised before."""

    spec: ModelSpec
    writer: PretrainedWriter

    def predict(self, inputs: Array) -> Outputs:
        """Map ``(n, *shape)`` float32 to texts, what they say of findings, and features."""
        return written_outputs(self.spec, self.prefill(inputs))

    def prefill(self, inputs: Array) -> Prefill:
        """The mean ``(n, d)`` of what the network sees over an image, and texts that are yet to be written."""
        rows = [self._pixels(inputs[[at]]) for at in range(len(inputs))]
        with torch.inference_mode():
            seen = [self.writer.vision_states(row) for row in rows]
        task = self._task
        texts = tuple(
            self.writer.pieces(row, task.prompt, task.length, states) for row, states in zip(rows, seen, strict=True)
        )
        return Prefill(torch.cat([each.float().mean(dim=1) for each in seen]).cpu().numpy(), texts)

    def own_decisions(self, rows: NDArray[Any]) -> Ints | None:
        """None: a text is all that it says."""
        del rows
        return None

    def export(self, folder: Path) -> Exported:
        """Write ``report.zip``: configuration, weights as safetensors, and the tokenizer."""
        (folder / REPORT_ARCHIVE).write_bytes(_packed(self.writer))
        return Exported(REPORT_ARCHIVE)

    @property
    def _task(self) -> WrittenReport:
        assert isinstance(self.spec.task, WrittenReport)
        return self.spec.task

    def _pixels(self, row: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(as_model_takes(np.array(row, np.float32), self.spec)))


def open_writer(folder: Path) -> PretrainedWriter:
    """The network and tokenizer in `folder`, from safetensors and without running code of the folder's."""
    transformers = require_extra("transformers", "huggingface")
    config = read_json_object(folder / "config.json")
    refuse_kernels(folder, config)
    name = "VisionEncoderDecoderModel" if writes_by_decoder(config) else "AutoModelForImageTextToText"
    if not (folder / "tokenizer.json").is_file():
        raise MedwardError(f"{folder}: has no tokenizer.json; save a fast tokenizer with tokenizer.save_pretrained")
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers(transformers.utils.logging):
            network, loaded = getattr(transformers, name).from_pretrained(
                str(folder), use_safetensors=True, output_loading_info=True, **local
            )
            tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder), **local)
    except Exception as error:  # transformers raises what its many parts raise
        raise MedwardError(
            f"{folder}: is no model that writes about images, as transformers reads it: {first_line(error)}; save it "
            "with model.save_pretrained(folder) and tokenizer.save_pretrained(folder)"
        ) from None
    if lacking := sorted(loaded["missing_keys"]):
        raise MedwardError(
            f"{folder}: has no weights for {lacking[0]} ({len(lacking)} missing), which would be drawn at random"
        )
    return PretrainedWriter(network=network, tokenizer=tokenizer)


def writes_by_decoder(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is that of a vision encoder with a text decoder."""
    return _ENCODER_DECODER in (config.get("architectures") or ())


def writes_reports(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is that of a network that reads an image and writes text."""
    heads = [str(each) for each in config.get("architectures") or ()]
    sees = "vision_config" in config and any("ConditionalGeneration" in each for each in heads)
    return writes_by_decoder(config) or sees


def adapt_writer(
    x: PretrainedWriter, spec: ModelSpec, sample: Array, features: str | None, output_key: str | None
) -> HuggingFaceReportModel:
    """Wrap a network with its tokenizer; features are what it sees of the image."""
    for name, value in (("features", features), ("output_key", output_key)):
        if value is not None:
            raise MedwardError(f"{name}: {value!r} means nothing for a network that writes reports; leave it out")
    task = spec.task
    if not isinstance(task, WrittenReport) or task.vocabulary != x.vocabulary:
        raise MedwardError(
            f"{spec.name}: the network writes reports in tokens of {x.vocabulary} kinds; say --task report, or "
            f"WrittenReport(..., length=TOKENS, vocabulary={x.vocabulary})"
        )
    if x.encodes and task.prompt:
        raise MedwardError(f"{spec.name}: prompt: a vision encoder with a text decoder takes none; leave it out")
    made = HuggingFaceReportModel(spec=spec, writer=x)
    made.prefill(sample[:1])
    return made


def describe_writer(x: PretrainedWriter, _: str | None) -> dict[str, Any]:
    """That it writes reports, in tokens of how many kinds, and how many at most."""
    generation = x.network.generation_config
    limit = getattr(generation, "max_new_tokens", None) or getattr(generation, "max_length", None) or _LENGTH
    return {"task": "report", "vocabulary": x.vocabulary, "length": int(limit)}


def load_writer(data: bytes, spec: ModelSpec, _options: Mapping[str, str]) -> HuggingFaceReportModel:
    """Read the archive that `HuggingFaceReportModel.export` wrote."""
    with TemporaryDirectory() as place:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    if Path(name).name != name or not name.endswith(_KEPT):
                        raise MedwardError(
                            f"{REPORT_ARCHIVE}: {name!r} is no part of a model; restore it from its source"
                        )
                archive.extractall(place)
        except zipfile.BadZipFile as error:
            raise MedwardError(f"{REPORT_ARCHIVE}: cannot be read: {first_line(error)}") from None
        return HuggingFaceReportModel(spec=spec, writer=open_writer(Path(place)))


def _packed(writer: PretrainedWriter) -> bytes:
    """The files of a writer in one archive, not compressed: weights hardly are."""
    buffer = io.BytesIO()
    with TemporaryDirectory() as place, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        writer.network.save_pretrained(place)
        writer.tokenizer.save_pretrained(place)
        for file in sorted(Path(place).iterdir()):
            if file.suffix in _KEPT:
                archive.writestr(zipfile.ZipInfo(file.name, _WRITTEN), file.read_bytes())
    return buffer.getvalue()


HUGGINGFACE_REPORT_ADAPTER = Adapter(adapt_writer, describe_writer, load_writer)
