"""Reports that are written once about a row, for measurements that ask about the same rows again and again.

Writing takes most of an answer's time, and what defenses judge is known before it. Of networks that Medward decodes
itself a text rests on its own row alone, and is the same each time: asked again, it is recalled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medward.guard.bundle.folder import Bundle
from medward.guard.models.base import Exported, Prefill, written_outputs
from medward.guard.models.huggingface_report import HuggingFaceReportModel
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints, Outputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RememberedReports:
    """Remembered reports are those of a `model`, each recalled where its row was asked about to the end before.

    Never time it: what is recalled costs nothing.
    """

    model: HuggingFaceReportModel
    _written: dict[bytes, str] = field(default_factory=dict, repr=False)

    @property
    def spec(self) -> ModelSpec:
        """The model's."""
        return self.model.spec

    def predict(self, inputs: Array) -> Outputs:
        """What the model gives."""
        return written_outputs(self.spec, self.prefill(inputs))

    def prefill(self, inputs: Array) -> Prefill:
        """The model's features, and texts that are recalled or yet to be written."""
        begun = self.model.prefill(inputs)
        names = [hashlib.sha256(row.tobytes()).digest() for row in inputs]
        texts = zip(names, begun.texts, strict=True)
        return Prefill(begun.features, tuple(self._recalled(name, pieces) for name, pieces in texts))

    def own_decisions(self, rows: NDArray[Any]) -> Ints | None:
        """The model's."""
        return self.model.own_decisions(rows)

    def export(self, folder: Path) -> Exported:
        """The model's."""
        return self.model.export(folder)

    def _recalled(self, name: bytes, pieces: Iterable[str]) -> Iterator[str]:
        if (text := self._written.get(name)) is None:
            text = self._written[name] = "".join(pieces)
        yield text


def with_remembered_reports(bundle: Bundle) -> Bundle:
    """`bundle` with its reports remembered; as it is where a text may rest on more than its row."""
    if not isinstance(bundle.model, HuggingFaceReportModel):
        return bundle
    return replace(bundle, model=RememberedReports(model=bundle.model))
