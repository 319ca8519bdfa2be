"""The mark in a file of bounds: which model file they are of.

Guarantee: bounds that were written for one file are not taken for those of another while nobody rewrites the mark. Who
can write the file can rewrite it; against him stand a bundle's digest that is kept elsewhere, and in part
`Bounds.check_against`.
"""

from __future__ import annotations

import io

import numpy as np

from medward.guard.models.base import require_extra
from medward.guard.models.onnx_model import open_session

MODEL_MARK = "medward.model"
"""The name in a file of bounds of the SHA-256 of the model file that they are of."""
ARCHIVE = b"PK"
"""What a NumPy archive begins with: bounds of trees; those of networks are ONNX files."""


def marked(data: bytes, digest: str) -> bytes:
    """The same bounds, marked as those of the model file whose SHA-256 is `digest`."""
    if data.startswith(ARCHIVE):
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **{**arrays, MODEL_MARK: np.array(digest)})
        return stream.getvalue()
    onnx = require_extra("onnx", "torch")
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, {**{each.key: each.value for each in model.metadata_props}, MODEL_MARK: digest})
    found: bytes = model.SerializeToString()
    return found


def mark_of(data: bytes) -> str:
    """The SHA-256 of the model file that the bounds `data` are marked with, empty where they are not."""
    if not data.startswith(ARCHIVE):
        return str(open_session(data, "bounds.onnx").get_modelmeta().custom_metadata_map.get(MODEL_MARK, ""))
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        return str(held[MODEL_MARK]) if MODEL_MARK in held.files else ""
