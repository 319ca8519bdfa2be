"""Attacks and defenses from other packages: announced, used, recorded, required, and never silently ignored."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.arrows import ROOT
from support.plugins import install, installed
from test_extending import ATTACK, FAMILY, MONITOR

from medward.attacks.families import known_families
from medward.attacks.suite import chosen_attacks
from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.monitors.table import MONITORS, plugin_monitors
from medward.guard.plugins import find_plugins
from medward.guard.policy import Policy
from medward.guard.screens.mahalanobis import plugin_screens
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

GOLDEN = ROOT / "tests/golden/bundle"
SCREEN = """
import numpy as np
from medward.guard.screens.mahalanobis import ScreenEmbedding


def squares(inputs, outputs, xp):
    return inputs.reshape(len(inputs), -1) ** 2


SQUARES = ScreenEmbedding(name="squares", modality="tabular", embed=squares)
"""
HARDENER = """
from medward.guard.harden.robust.pgd import AdversarialTraining


class Slow(AdversarialTraining):
    name = "slow-pgd"


SLOW = Slow()
"""
TRACING = """
from toy_tracing_attack import AnswerTracing


def attacks(spec, decide):
    return [AnswerTracing()]
"""
JOURNEY = """
import json, sys
import numpy as np
from pathlib import Path
from sklearn.linear_model import LogisticRegression
from toy_level import LEVEL
from toy_screen import SQUARES
from toy_hardener import SLOW
from toy_tracing import Tracing
from toy_tracing_attack import AnswerTracing
from medward.attacks.families import find_family
from medward.attacks.validate import validate
from medward.guard.bundle.folder import load_bundle
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.types import Query
from medward.guard.accounts.monitors import AccountMonitors
from medward.integrations.contracts import check_attack, check_family, check_hardener, check_monitor, check_screen

rng, folder = np.random.default_rng(0), Path(sys.argv[1])
level = rng.normal(size=(400, 1)) * 3 + rng.normal(size=(400, 3)) * 0.1
check_monitor(LEVEL, noticed=level)
check_screen(SQUARES, strange=level.astype(np.float32) * 2)
check_family(find_family("tracing"))
check_attack(AnswerTracing())
check_hardener(SLOW)
rows = rng.normal(size=(700, 4)).astype(np.float32)
model = LogisticRegression().fit(rows, rows[:, 0] > 0)
bundle = protect(model, Split(rows), Policy(on_error="withhold"), folder / "bundle", classes=["no", "yes"])
bundle = load_bundle(folder / "bundle")
with bundle.guard(state=folder / "state") as guard:
    verdicts = guard.answer(Query(principal=("clinic",), inputs=rows[:1])).verdicts
splits = {name: Split(rng.normal(size=(n, 4)).astype(np.float32)) for name, n in (("train", 120), ("test", 80))}
splits = {name: Split(each.inputs, model.predict(each.inputs).astype(np.int64)) for name, each in splits.items()}
report = validate(bundle, splits, folder / "out", names=["tracing-answers"], progress=False)
plain = load_bundle(sys.argv[2])
print(json.dumps({
    "plugins": bundle.card.plugins,
    "evidence": dict(verdicts[-1].evidence),
    "versions": report.provenance.versions,
    "screens": [each.name for each in bundle.profile.screening.screen.screens],
    "family": report.findings[0].family,
    "plain": AccountMonitors.of(plain.policy, plain.profile, 1).combined.calibration,
    "plain_plugins": plain.card.plugins,
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages with a toy of each kind."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "medward-level", {"toy_level": MONITOR}, {"monitors": {"level": "toy_level:LEVEL"}}, "1.2")
    install(folder, "medward-squares", {"toy_screen": SCREEN}, {"screens": {"squares": "toy_screen:SQUARES"}})
    install(folder, "medward-slow", {"toy_hardener": HARDENER}, {"hardeners": {"slow-pgd": "toy_hardener:SLOW"}})
    traced = FAMILY.lstrip() + "\n\nTRACING = Tracing()\n"
    install(
        folder,
        "medward-tracing",
        {"toy_tracing": traced, "toy_tracing_attack": ATTACK.lstrip(), "toy_attacks": TRACING},
        {"families": {"tracing": "toy_tracing:TRACING"}, "attacks": {"tracing": "toy_attacks:attacks"}},
        "0.3",
    )
    return folder


@pytest.fixture(scope="module")
def journey(site, tmp_path_factory):
    """What a process in which the toys are installed says, and where its bundle is."""
    out = tmp_path_factory.mktemp("journey")
    paths = os.pathsep.join([str(site), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", JOURNEY, str(out), str(GOLDEN)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), out / "bundle"


def test_plugins_hold_the_contracts_take_part_and_are_on_record(journey):
    said, _ = journey
    assert said["plugins"] == {"monitors:level": "medward-level 1.2", "screens:squares": "medward-squares 1.0"}
    assert "share:level" in said["evidence"]
    assert said["screens"] == ["rows", "joint", "squares"]
    assert said["family"] == "tracing"
    used = {name: said["versions"].get(name) for name in ("medward-level", "medward-squares", "medward-tracing")}
    assert used == {"medward-level": "1.2", "medward-squares": "1.0", "medward-tracing": "0.3"}
    assert "medward-slow" not in said["versions"], "it was not used"


def test_what_is_installed_changes_nothing_of_a_bundle_made_without_it(journey):
    said, _ = journey
    plain = load_bundle(GOLDEN)
    assert said["plain"] == AccountMonitors.of(plain.policy, plain.profile, 1).combined.calibration
    assert said["plain_plugins"] == {}


def test_a_bundle_whose_plugin_is_missing_is_refused_by_name_and_another_version_is_said(
    journey, site, caplog, tmp_path
):
    _, bundle = journey
    with pytest.raises(
        MedwardError, match=r"monitor 'level' of medward-level 1\.2, .*; pip install medward-level==1\.2"
    ):
        load_bundle(bundle)
    with installed(site):
        assert load_bundle(bundle).profile.plugins == ("level",)
        assert caplog.text == ""
    install(tmp_path, "medward-level", {"toy_level": MONITOR}, {"monitors": {"level": "toy_level:LEVEL"}}, "2.0")
    install(tmp_path, "medward-squares", {"toy_screen": SCREEN}, {"screens": {"squares": "toy_screen:SQUARES"}})
    with installed(tmp_path), caplog.at_level(logging.WARNING, "medward"):
        load_bundle(bundle)
    assert "monitor 'level' is of medward-level 2.0, the bundle was calibrated with medward-level 1.2" in caplog.text


SPEC = ModelSpec(
    name="m", modality="tabular", shape=(4,), task=Classification(classes=("no", "yes"), output="probabilities")
)
BROKEN = {
    "cannot be imported: No module named 'nowhere'": ("monitors", "level", "import nowhere\n", plugin_monitors),
    r"is a int and not a Monitor": ("monitors", "level", "IT = 3\n", plugin_monitors),
    "Medward has one of that name": (
        "monitors",
        "strange",
        "from medward.guard.monitors.strangeness import STRANGE as IT\n",
        plugin_monitors,
    ),
    "calls itself 'level' and not as it is announced": (
        "monitors",
        "height",
        "from toy_level import LEVEL as IT\n",
        plugin_monitors,
    ),
    "source and prefix must be 'level' and 'level.'": (
        "monitors",
        "level",
        "from dataclasses import replace\nfrom toy_level import LEVEL\nIT = replace(LEVEL, prefix='residuals.')\n",
        plugin_monitors,
    ),
    "a name is lower-case letters": ("monitors", "Le vel", "IT = 3\n", plugin_monitors),
    "is a str and not a ScreenEmbedding": ("screens", "dots", "IT = 'x'\n", plugin_screens),
    "lacks name, controls": ("families", "tracing", "IT = 3\n", known_families),
    "cannot make its attacks: ZeroDivisionError": (
        "attacks",
        "mine",
        "def IT(spec, decide):\n    return 1 / 0\n",
        lambda: chosen_attacks(SPEC, ["mine"]),
    ),
    "the name of its attack 'membership-loss' is taken": (
        "attacks",
        "mine",
        "from medward.attacks.membership import LossThreshold\ndef IT(spec, decide):\n    return [LossThreshold()]\n",
        lambda: chosen_attacks(SPEC, ["mine"]),
    ),
    "of an unknown family, 'tracing'": (
        "attacks",
        "mine",
        "from toy_tracing_attack import AnswerTracing\ndef IT(spec, decide):\n    return [AnswerTracing()]\n",
        lambda: chosen_attacks(SPEC, ["mine"]),
    ),
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_plugin_that_cannot_be_used_is_one_sentence(said, tmp_path):
    group, name, text, used = BROKEN[said]
    install(tmp_path, "medward-toys", {"toy_level": MONITOR, "toy_tracing_attack": ATTACK.lstrip()}, {})
    install(tmp_path, "medward-broken", {"toy_broken": text}, {group: {name: "toy_broken:IT"}})
    with installed(tmp_path), pytest.raises(MedwardError, match=said) as caught:
        used()
    assert "medward-broken 1.0" in str(caught.value)
    assert "\n" not in str(caught.value)
    used_without = [each.name for each in find_plugins(group)]
    assert used_without == [], "the control: it is gone with its folder"


def test_two_packages_of_one_name_are_refused(tmp_path):
    for name in ("medward-one", "medward-two"):
        module = name.replace("-", "_")
        install(tmp_path, name, {module: MONITOR}, {"monitors": {"level": f"{module}:LEVEL"}})
    with installed(tmp_path), pytest.raises(MedwardError, match=r"name is taken by medward-(one|two) 1\.0"):
        plugin_monitors()


def test_a_broken_plugin_stops_who_would_leave_it_out_and_nobody_else(tmp_path):
    install(tmp_path, "medward-broken", {"toy_broken": "import nowhere\n"}, {"monitors": {"level": "toy_broken:IT"}})
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    with installed(tmp_path):
        with pytest.raises(MedwardError, match="cannot be imported"):
            protect(model, Split(rows), Policy(on_error="flag"), tmp_path / "bundle", classes=["no", "yes"])
        assert load_bundle(GOLDEN).profile.plugins == ()
    assert not (tmp_path / "bundle").exists()
    assert len(MONITORS) == 5
