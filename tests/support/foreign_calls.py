"""Calls of foreign clients, tritonclient and kserve, to a server of Medward; runs in an environment that has them.

``python foreign_calls.py SETTING.json`` prints for each call, by name, "" if it answered as it should, or what it did
instead, and how often they ask the model. The setting holds url, model, version, two tokens, rows, the model's own
scores of them, and a row that the guard withholds.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tritonclient.http as triton
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tritonclient.utils import InferenceServerException

SETTING = json.loads(Path(sys.argv[1]).read_text())
URL, MODEL, VERSION = SETTING["url"], SETTING["model"], SETTING["version"]
KEY, WATCH = {"X-API-Key": SETTING["token"]}, {"X-API-Key": SETTING["watcher"]}
ROWS, OWN = np.float32(SETTING["rows"]), np.array(SETTING["own"])
BOTH = np.concatenate([np.float32([SETTING["strange"]]), ROWS])
DECIDED = OWN.argmax(axis=1)
CALLS: dict[str, tuple[Callable[[], Any], int, bool]] = {}


def call(name: str, job: Callable[[], Any], *, asks: int = 1, scores: bool = True) -> None:
    """Add a call that leaves `asks` records in the audit log, and fails where `scores` that it needs are kept back."""
    assert name not in CALLS
    CALLS[name] = (job, asks, scores)


def refused(words: str, job: Callable[[], Any], *, kind: type[Exception] = InferenceServerException) -> None:
    """Succeeds when `job` raises the client's own error, with `words` of the server's sentence in it."""
    try:
        job()
    except kind as error:
        if words not in str(error):
            raise
        return
    raise AssertionError("answered, but should be refused")


def check(scores: Any, labels: Any, levels: Any) -> None:
    """The answer to `BOTH`: the first row is withheld, of the others the model's own scores left."""
    assert [each.decode() if isinstance(each, bytes) else each for each in levels] == ["withheld"] + ["full"] * len(
        ROWS
    )
    scores, labels = np.asarray(scores, dtype=float).reshape(len(BOTH), -1), np.asarray(labels)
    assert labels[0] == -1
    assert np.isnan(scores[0]).all()
    np.testing.assert_allclose(scores[1:], OWN, atol=1e-4)
    assert (labels[1:] == DECIDED).all()


# tritonclient


def tensor(rows: np.ndarray, datatype: str = "FP32", *, binary: bool = True, shape: Any = None) -> Any:
    found = triton.InferInput("inputs", [*(rows.shape if shape is None else shape)], datatype)
    found.set_data_from_numpy(rows, binary_data=binary) if shape is None else found.set_data_from_numpy(
        rows.reshape(shape)
    )
    return found


def wanted(*, binary: bool) -> list[Any]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in ("scores", "labels", "levels")]


def read(result: Any) -> None:
    check(*(result.as_numpy(name) for name in ("scores", "labels", "levels")))


def infer(
    rows: np.ndarray = BOTH, datatype: str = "FP32", *, binary: bool = True, headers: Any = None, **more: Any
) -> Any:
    return CLIENT.infer(
        MODEL, [tensor(rows, datatype, binary=binary)], headers=dict(KEY if headers is None else headers), **more
    )


def with_id() -> None:
    result = infer(request_id="case-7")
    assert result.get_response()["id"] == "case-7"
    read(result)


def numbers(datatype: str, dtype: Any) -> None:
    rows = np.round(ROWS).astype(int).clip(0, 1)
    expected = infer(rows.astype(np.float32))
    found = infer(rows.astype(dtype), datatype)
    assert np.isfinite(expected.as_numpy("scores")).any()
    np.testing.assert_array_equal(found.as_numpy("labels"), expected.as_numpy("labels"))
    np.testing.assert_allclose(found.as_numpy("scores"), expected.as_numpy("scores"))


def some_outputs() -> None:
    result = infer(outputs=[triton.InferRequestedOutput("labels")])
    assert result.as_numpy("scores") is None
    assert result.as_numpy("labels").tolist() == [-1, *DECIDED]


def parameters() -> None:
    said = infer(priority=1, timeout=10**6).get_response()["parameters"]
    assert said["not_honoured"] == "timeout, priority", said


def answers(job: Callable[[], Any]) -> None:
    assert job() is True


def metadata(version: str = "") -> None:
    found = CLIENT.get_model_metadata(MODEL, version, headers=dict(KEY))
    assert found["versions"] == [VERSION]
    assert found["inputs"][0]["name"] == "inputs"


def configuration(version: str = "") -> None:
    found = CLIENT.get_model_config(MODEL, version, headers=dict(KEY))
    assert found["name"] == MODEL
    assert found["input"][0]["dims"] == [ROWS.shape[1]]


def statistics(name: str = "", version: str = "") -> None:
    (found,) = CLIENT.get_inference_statistics(name, version, headers=dict(WATCH))["model_stats"]
    assert found["name"] == MODEL
    assert found["inference_stats"]["success"]["count"] > 0


def repository() -> None:
    (found,) = CLIENT.get_model_repository_index(headers=dict(KEY))
    assert (found["name"], found["state"]) == (MODEL, "READY")


CLIENT = triton.InferenceServerClient(URL.removeprefix("http://"))


def triton_calls() -> None:
    call("triton live", lambda: answers(CLIENT.is_server_live), asks=0)
    call("triton ready", lambda: answers(CLIENT.is_server_ready), asks=0)
    call("triton model ready", lambda: answers(partial(CLIENT.is_model_ready, MODEL)), asks=0)
    call("triton version ready", lambda: answers(partial(CLIENT.is_model_ready, MODEL, VERSION)), asks=0)
    call("triton server metadata", lambda: CLIENT.get_server_metadata(headers=dict(KEY))["extensions"], asks=0)
    call("triton model metadata", metadata, asks=0)
    call("triton version metadata", partial(metadata, VERSION), asks=0)
    call("triton configuration", configuration, asks=0)
    call("triton version configuration", partial(configuration, VERSION), asks=0)
    call("triton repository index", repository, asks=0)
    call("triton infer", lambda: read(infer()))
    for name, inside, outside in (("JSON", False, False), ("JSON in", False, True), ("JSON out", True, False)):
        call(
            f"triton infer {name}",
            partial(lambda i, o: read(infer(binary=i, outputs=wanted(binary=o))), inside, outside),
        )
    call("triton infer all outputs of JSON in", lambda: read(infer(binary=False)))
    call("triton infer with a content type", lambda: read(infer(headers=KEY | {"Content-Type": "application/json"})))
    call("triton infer as a bearer", lambda: read(infer(headers={"authorization": f"bearer {SETTING['token']}"})))
    call("triton infer with an id", with_id)
    call("triton infer some outputs", some_outputs)
    call("triton infer a version", lambda: read(infer(model_version=VERSION)))
    call("triton infer with hints", parameters, scores=False)
    call("triton async infer", lambda: read(CLIENT.async_infer(MODEL, [tensor(BOTH)], headers=dict(KEY)).get_result()))
    for coding in ("gzip", "deflate"):
        call(f"triton infer {coding} in", partial(lambda c: read(infer(request_compression_algorithm=c)), coding))
        call(f"triton infer {coding} out", partial(lambda c: read(infer(response_compression_algorithm=c)), coding))
        call(
            f"triton infer {coding} both, JSON",
            partial(
                lambda c: read(
                    infer(
                        binary=False,
                        outputs=wanted(binary=False),
                        request_compression_algorithm=c,
                        response_compression_algorithm=c,
                    )
                ),
                coding,
            ),
        )
    call("triton infer FP64", lambda: read(infer(BOTH.astype(np.float64), "FP64")))
    types = {"FP16": np.float16, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64}
    types |= {"UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "BOOL": np.bool_}
    for name, dtype in types.items():
        call(f"triton infer {name}", partial(numbers, name, dtype), asks=2)
    call("triton statistics", statistics, asks=0)
    call("triton model statistics", partial(statistics, MODEL), asks=0)
    call("triton version statistics", partial(statistics, MODEL, VERSION), asks=0)
    for name, words, job in (
        ("another version", f"version {VERSION} only", lambda: infer(model_version="7")),
        ("another model", "no model of that name", lambda: CLIENT.infer("other", [tensor(ROWS)], headers=dict(KEY))),
        ("no key", "send a valid key", lambda: infer(headers={})),
        (
            "a wrong shape",
            "expected shape",
            lambda: CLIENT.infer(MODEL, [tensor(ROWS[:, :2].copy())], headers=dict(KEY)),
        ),
        ("NaN", "finite", lambda: infer(np.full_like(ROWS, np.nan))),
        ("a sequence", "sequence_id", lambda: infer(sequence_id=7, sequence_start=True)),
        ("a parameter of its own", "parameters.tta", lambda: infer(parameters={"tta": 4})),
        (
            "a classification",
            "classification",
            lambda: infer(outputs=[triton.InferRequestedOutput("scores", class_count=2)]),
        ),
        ("texts as BYTES", "datatype", lambda: infer(ROWS.astype(str).astype(np.object_), "BYTES")),
        ("an output of other models", "no texts", lambda: infer(outputs=[triton.InferRequestedOutput("texts")])),
        ("an unknown output", "outputs.0.name", lambda: infer(outputs=[triton.InferRequestedOutput("verdicts")])),
        ("too many rows", "at most 64 rows", lambda: infer(np.repeat(ROWS, 30, axis=0))),
        (
            "statistics without their key",
            "needs one for metrics",
            lambda: CLIENT.get_inference_statistics(headers=dict(KEY)),
        ),
        ("loading a model", "Not Found", lambda: CLIENT.load_model(MODEL, headers=dict(KEY))),
        ("another encoding", "as gzip or deflate", lambda: infer(headers=KEY | {"Content-Encoding": "br"})),
    ):
        call(f"triton refused {name}", partial(refused, words, job), asks=0)
    call("triton not ready another version", lambda: not CLIENT.is_model_ready(MODEL, "7") or answers(bool), asks=0)


# kserve


def asked(rows: np.ndarray, *, binary: bool, outputs: Any = None, name: str = MODEL) -> Any:
    found = InferInput("inputs", [*rows.shape], "FP32")
    found.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(name, [found], request_outputs=outputs)


def kserve(protocol: str, job: Callable[[Any], Any]) -> Any:
    async def main() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol=protocol, timeout=30))
        try:
            return await job(client)
        finally:
            await client.close()

    return asyncio.run(main())


def second(request: Any) -> None:
    found = kserve("v2", lambda client: client.infer(URL, request, MODEL, headers=dict(KEY)))
    values = {each.name: each.as_numpy() for each in found.outputs}
    check(values["scores"], values["labels"], values["levels"].ravel())


def first(body: Any, headers: Any = KEY) -> Any:
    return kserve("v1", lambda client: client.infer(URL, body, MODEL, headers=dict(headers)))


def instances() -> None:
    withheld, *rest = first({"instances": BOTH.tolist()})["predictions"]
    assert withheld is None
    check(
        [[np.nan] * OWN.shape[1], *(each["scores"] for each in rest)],
        [-1, *(each["index"] for each in rest)],
        ["withheld", *(each["level"] for each in rest)],
    )


def kserve_calls() -> None:
    from httpx import HTTPStatusError

    for protocol in ("v1", "v2"):
        asked_of = partial(kserve, protocol)
        call(f"kserve {protocol} live", partial(answers, partial(asked_of, lambda c: c.is_server_live(URL))), asks=0)
        ready = partial(asked_of, lambda c: c.is_model_ready(URL, MODEL))
        call(f"kserve {protocol} model ready", partial(answers, ready), asks=0)
    call("kserve v2 ready", partial(answers, partial(kserve, "v2", lambda c: c.is_server_ready(URL))), asks=0)
    named = [RequestedOutput(name, {"binary_data": True}) for name in ("scores", "labels", "levels")]
    call("kserve v2 infer JSON", lambda: second(asked(BOTH, binary=False)))
    call("kserve v2 infer binary in", lambda: second(asked(BOTH, binary=True)))
    call("kserve v2 infer binary in and out", lambda: second(asked(BOTH, binary=True, outputs=named)))
    call("kserve v2 infer binary out", lambda: second(asked(BOTH, binary=False, outputs=named)))
    call("kserve v1 predict", instances)
    for name, words, job in (
        ("v2 another model in the body", "422", lambda: second(asked(BOTH, binary=False, name="other"))),
        ("v2 NaN", "422", lambda: second(asked(np.full_like(BOTH, np.nan), binary=True))),
        ("v1 a wrong shape", "422", lambda: first({"instances": ROWS[:, :2].tolist()})),
        ("v1 inputs", "422", lambda: first({"inputs": ROWS.tolist()})),
        ("v1 no key", "401", lambda: first({"instances": ROWS.tolist()}, {})),
        (
            "v1 explain",
            "405",
            lambda: kserve("v1", lambda c: c.explain(URL, MODEL, {"instances": []}, headers=dict(KEY))),
        ),
    ):
        call(f"kserve refused {name}", partial(refused, words, job, kind=HTTPStatusError), asks=0)


# requests: what no client of the protocol sends, and what scripts do


def plain(path: str, status: int, **said: Any) -> Any:
    found = requests.request(said.pop("method", "POST"), URL + path, timeout=30, **said)
    assert found.status_code == status, f"{found.status_code} {found.text[:200]}"
    return found


def requests_calls() -> None:
    infer_path, own = f"/v2/models/{MODEL}/infer", {"inputs": ROWS.tolist()}
    call("requests json", lambda: plain("/v1/predict", 200, json=own, headers=KEY), scores=False)
    packed = {
        "data": gzip.compress(json.dumps(own).encode()),
        "headers": KEY | {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    }
    call("requests gzip", lambda: plain("/v1/predict", 200, **packed), scores=False)
    for path in ("/healthz", "/readyz", "/v2/health/ready"):
        call(f"requests HEAD {path}", partial(plain, path, 200, method="HEAD"), asks=0)
    bomb = {"data": gzip.compress(b" " * 2**26), "headers": KEY | {"Content-Encoding": "gzip"}}
    call("requests refused a bomb", lambda: plain(infer_path, 413, **bomb), asks=0)
    wrong = {"data": b"{}", "headers": KEY | {"Inference-Header-Content-Length": "9"}}
    call("requests refused a header length", lambda: plain(infer_path, 400, **wrong), asks=0)
    page = {
        "Origin": "https://viewer.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key",
    }

    def allowed(origin: str) -> bool:
        found = requests.options(URL + "/v1/predict", headers=page | {"Origin": origin}, timeout=30)
        return found.headers.get("Access-Control-Allow-Origin") == origin

    call("browser preflight of an origin that may ask", lambda: answers(partial(allowed, page["Origin"])), asks=0)
    call("browser refused another origin", lambda: allowed("https://other.example") and answers(bool), asks=0)


def main() -> None:
    """Make every call."""
    triton_calls()
    kserve_calls()
    requests_calls()
    found = {}
    for name, (job, _, _) in CALLS.items():
        try:
            job()
            found[name] = ""
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"[:300]
    told = {
        "calls": found,
        "asked": sum(asks for _, asks, _ in CALLS.values()),
        "asking": [name for name, (_, asks, _) in CALLS.items() if asks],
        "any_level": [name for name, (_, _, scores) in CALLS.items() if not scores],
        "clients": {name: version(name) for name in ("tritonclient", "kserve", "requests", "numpy")},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
