"""The endpoint against its own OpenAPI schema: schemathesis sends what it allows and what it forbids."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from guard.policy import Policy
from integrations.keys import KeyStore
from integrations.serving import Limits, create_app

CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
)
FUZZ = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[hypothesis.Phase.generate],
)


@pytest.fixture(params=["table", "image"])
def app(request, tmp_path, make_guard, mean_model, image_profile):
    """An app with keys, and the tokens of an account and of an operator."""
    keys = KeyStore(tmp_path / "keys.json")
    tokens = {"ask": keys.add(("a", "b")), "watch": keys.add(("ops",), scope="metrics")}
    policy = Policy(on_error="withhold", screen={"rate": 0.2, "action": "withhold"})
    parts = {"model": mean_model, "profile": image_profile} if request.param == "image" else {}
    return create_app(make_guard(policy, **parts), keys=keys, limits=Limits(rows=3)), tokens


def statuses(operation, token, mode):
    """Fuzz one operation and return the statuses met."""
    seen = set()
    headers = {"Authorization": f"Bearer {token}"}

    @FUZZ
    @given(case=operation.as_strategy(generation_mode=mode))
    def fuzz(case):
        seen.add(case.call_and_validate(checks=list(CHECKS), headers=headers).status_code)

    fuzz()
    return seen


def test_the_schema_describes_the_endpoint_and_no_request_breaks_it(app):
    made, tokens = app
    schema = schemathesis.openapi.from_asgi("/openapi.json", made)
    operations = {each.path: each for each in (found.ok() for found in schema.get_all_operations())}
    allowed = {
        path: statuses(each, tokens["watch" if path == "/metrics" else "ask"], GenerationMode.POSITIVE)
        for path, each in operations.items()
    }
    assert all(200 in seen for path, seen in allowed.items() if not path.endswith("/infer")), allowed
    for path in ("/v1/predict", "/v2/models/{name}/infer"):
        forbidden = statuses(operations[path], tokens["ask"], GenerationMode.NEGATIVE)
        assert 422 in forbidden, "what a check would have to reject was never sent"
