"""What must not change unnoticed: a bundle on disk, findings byte for byte, HTTP schemas, a log that replays.

`tests/golden/make.py` makes these files anew, which is a decision and not a repair.
"""

from __future__ import annotations

import json

from golden import make

from medward.guard.audit.log import read_log, verify_log
from medward.guard.audit.replay import replay_log
from medward.guard.bundle import folder as bundle


def golden(name: str) -> str:
    return (make.HERE / name).read_text()


def test_a_bundle_on_disk_loads_and_answers_as_it_did(tmp_path):
    loaded = bundle.load_bundle(make.HERE / "bundle")
    assert make.asked(loaded, tmp_path / "audit.jsonl") == golden("answers.json")
    levels = [each["level"] for each in json.loads(golden("answers.json"))]
    assert levels[:40].count("rounded") > 35  # the clinic
    assert levels[-1] == "withheld"  # the thief


def test_findings_are_the_same_byte_for_byte():
    assert make.findings(bundle.load_bundle(make.HERE / "bundle")) == golden("findings.json")


def test_http_schemas_and_answers_are_the_same():
    assert make.schemas(make.HERE / "bundle") == golden("schemas.json")


def test_a_log_on_disk_is_whole_and_replays():
    loaded = bundle.load_bundle(make.HERE / "bundle")
    log = make.HERE / "audit.jsonl"
    assert (verify_log(log).records, verify_log(log).torn) == (80, 0)
    found = replay_log(read_log(log), [loaded.policy], loaded.profile)
    assert (found.verdicts, found.restarts) == (160, {})
