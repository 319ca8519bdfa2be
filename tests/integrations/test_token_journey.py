"""`medward serve` with a site's login server: a backend service asks with its token, and the issuer goes away."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.issuer import AUDIENCE, ISSUER, key_address, rsa_key, signed
from support.processes import serving

from medward.guard.audit.log import read_log
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy

ROWS = np.random.default_rng(7).normal(size=(400, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    path = tmp_path_factory.mktemp("tokens") / "bundle"
    return protect(model, Split(ROWS), Policy(on_error="withhold"), path, classes=("no", "yes"))


def test_a_backend_service_asks_and_the_record_names_it(bundle, tmp_path):
    with key_address() as address:
        (tmp_path / "serve.toml").write_text(
            f'[identity]\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\njwks = "{address.url}"\n'
            'organisation = "hospital-a"\nfresh = 1\n'
        )
        with serving(bundle.path, tmp_path, "--config", "serve.toml", "--drain", "0") as server:

            def ask(token):
                body = {"inputs": ROWS[:1].tolist()}
                return httpx.post(
                    f"{server.url}/v1/predict", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30
                ).status_code

            assert ask(signed()) == 200
            assert ask(signed(aud="https://another.example")) == 401
            assert ask(signed(rsa_key(1))) == 401
            address.answer = (500, {}, b"")
            assert ask(signed(jti="j-2")) == 200, "the copy serves while the issuer is away"
            assert httpx.get(f"{server.url}/readyz").status_code == 200
        said = (tmp_path / "stderr").read_text()
    answered = [record for record in read_log(server.state / "audit.jsonl") if "query" in record]
    assert {record["principal"] for record in answered} == {"hospital-a/radiology-pacs"}
    assert all(record["credential"].startswith("token:") for record in answered)
    assert "holds no key yet" not in said
    assert signed().split(".")[1][:40] not in said
