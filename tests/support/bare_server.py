"""A model behind FastAPI with nothing to guard it: what a guarded one is compared with.

``python -m support.bare_server MODEL.onnx PORT HTTP WORKERS``; images are 8-bit, rows by JSON or one PNG as the body.
"""

from __future__ import annotations

import io
import sys

import anyio.to_thread
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image
from pydantic import BaseModel


class Rows(BaseModel):
    inputs: list[list[list[list[float]]]]


def bare_app(path: str, workers: int) -> FastAPI:
    """The model's answers, computed by `workers` threads, each with one of its own."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given, threads = session.get_inputs()[0].name, anyio.CapacityLimiter(workers)
    app = FastAPI()

    def answer(rows: np.ndarray) -> dict[str, list]:
        scores = session.run(None, {given: rows})[0]
        return {"labels": scores.argmax(1).tolist(), "scores": scores.tolist()}

    @app.post("/json")
    async def from_json(rows: Rows) -> dict[str, list]:
        return await anyio.to_thread.run_sync(lambda: answer(np.asarray(rows.inputs, np.float32)), limiter=threads)

    @app.post("/png")
    async def from_png(request: Request) -> dict[str, list]:
        body = await request.body()

        def work() -> dict[str, list]:
            pixels = np.asarray(Image.open(io.BytesIO(body)), np.float32)
            return answer((pixels[None, None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[None]) / 255)

        return await anyio.to_thread.run_sync(work, limiter=threads)

    @app.get("/readyz")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    return app


if __name__ == "__main__":
    model, port, http, workers = sys.argv[1:]
    app = bare_app(model, int(workers))
    uvicorn.run(app, host="127.0.0.1", port=int(port), http=http, access_log=False, log_level="warning")
