"""The endpoint answers as its own OpenAPI schema says, whatever is sent."""

from __future__ import annotations

import pytest
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from support.fuzz import KINDS, PREDICTS, Endpoint, statuses

from medward.integrations.serving.dicomweb_routes import STORE_PATH

CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_describes_the_endpoint_and_no_request_breaks_it(kind, tmp_path):
    endpoint = Endpoint(kind, tmp_path)
    operations = endpoint.operations()

    def sent(path, mode):
        return statuses(operations[path], endpoint.token(path), mode, examples=25, checks=CHECKS)

    allowed = {path: sent(path, GenerationMode.POSITIVE) for path in operations}
    rarely = ("/infer", STORE_PATH)  # no made-up tensor or text is what they ask for
    unanswered = {path: seen for path, seen in allowed.items() if 200 not in seen and not path.endswith(rarely)}
    assert not unanswered
    for path in PREDICTS:
        assert 422 in sent(path, GenerationMode.NEGATIVE), "what a check would have to reject was never sent"
