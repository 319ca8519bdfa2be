"""The endpoint against its own OpenAPI schema: schemathesis sends what it allows and what it forbids."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from support.models import LinearModel, MeanModel, benign_rows

from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.integrations.serving import Limits, create_app
from medward.integrations.serving.keys import KeyStore

KINDS = {"table": LinearModel, "image": MeanModel}
POLICY = Policy(on_error="withhold", screen={"rate": 0.2, "action": "withhold"})
PREDICTS = ("/v1/predict", "/v1/models/{name}:predict", "/v2/models/{name}/infer")


@schemathesis.serializer("multipart/related")
def related_bytes(context: Any, value: Any) -> bytes:
    """Whatever was made up, as it is: schemathesis knows no such bodies, and none of its texts are DICOM instances."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


class Endpoint:
    """An app around a model of `kind`, and the tokens of an account and of an operator."""

    def __init__(self, kind: str, folder: Path) -> None:
        model = KINDS[kind]()
        profile = Profile.fit(model, benign_rows(KINDS[kind]), risk=0.001)
        keys = KeyStore(folder / f"{kind}.json")
        self.ask, self.watch = keys.add(("a", "b")), keys.add(("ops",), scope="metrics")
        self.administer = keys.add(("ops",), scope="admin")
        guard = Guard(model=model, policy=POLICY, profile=profile)
        self.app: FastAPI = create_app(guard, keys=keys, limits=Limits(rows=3))

    def operations(self) -> dict[str, Any]:
        """The schema's operations by path."""
        schema = schemathesis.openapi.from_asgi("/openapi.json", self.app, headers={"X-API-Key": self.ask})
        return {each.path: each for each in (found.ok() for found in schema.get_all_operations())}

    def token(self, path: str) -> str:
        """The key that opens `path`."""
        if path.startswith("/admin/"):
            return self.administer
        return self.watch if path == "/metrics" or path.endswith("/stats") else self.ask


def statuses(
    operation: Any, token: str, mode: GenerationMode, *, examples: int, checks: tuple[Any, ...] = ()
) -> Counter[int]:
    """Fuzz one operation; how often each status came back. With `checks`, a reply that fails one raises."""
    seen: Counter[int] = Counter()
    headers = {"Authorization": f"Bearer {token}"}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def fuzz(case: Any) -> None:
        reply = case.call(headers=headers)
        seen[reply.status_code] += 1
        if checks:
            case.validate_response(reply, checks=list(checks), headers=headers)

    fuzz()
    return seen
