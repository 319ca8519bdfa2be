"""What the claims about evaded report models rest on: whom a guard knows, what leaves it, and what is smoothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import report_evasion_guarded as guarded
import torch
from support.report_networks import VOCABULARY, encoder_decoder

from medward.attacks.base import AttackData
from medward.attacks.target import open_oracle
from medward.attacks.whitebox.report_network import white_box_writer
from medward.guard import models
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.certified.propagation import network_box, traced_network
from medward.guard.pipeline import Guard
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport

FINDINGS = ("effusion", "cardiomegaly", "pneumothorax")
PLAN = guarded.GuardedPlan(steps=2, epochs=1)


def noise_images(n, seed):
    return np.random.default_rng(seed).random((n, 1, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def scene():
    """A network of random weights behind a guard that knows 300 images of noise."""
    writer = encoder_decoder(1)
    task = WrittenReport(findings=FINDINGS, length=6, vocabulary=VOCABULARY)
    spec = ModelSpec(name="writer", modality="image", shape=(1, 16, 16), task=task, low=0.0, high=1.0)
    model = models.wrap(writer, spec=spec, sample=noise_images(2, 0))
    network, _ = white_box_writer(model, noise_images(40, 1), most=2)
    profile = Profile.fit(model, noise_images(300, 4), risk=guarded.GUARDED.monitor.calibration_risk)
    rows, bare = noise_images(6, 2), open_oracle(model)
    return guarded.GuardedScene(
        name="noise",
        digest="noise",
        spec=model.spec,
        network=network,
        bare=bare,
        guard=Guard(model=model, policy=guarded.GUARDED, profile=profile),
        data=AttackData(craft=Split(noise_images(4, 1)), test=Split(rows), reference=bare(rows).labels),
        idle=guarded.idle_screen(profile, guarded.GUARDED.screen.rate),
    )


def test_no_patient_is_attacked_and_known_to_the_guard():
    test = Split(noise_images(30, 0), patients=np.arange(30) // 2)
    mine = guarded.attacked_rows(test, guarded.GuardedPlan(patients=6))
    assert len(np.unique(test.patients[mine])) == 6
    assert mine.sum() == 12
    assert not set(test.patients[mine]) & set(test.patients[~mine])
    assert guarded.attacked_rows(Split(noise_images(30, 0)), guarded.GuardedPlan(rows=7)).sum() == 7


def test_a_report_is_changed_or_withheld_and_who_knows_the_guard_loses_nothing(scene, monkeypatch):
    assert scene.idle == ""
    found = guarded.attacked(scene, PLAN, 0, 26, universal=False)
    assert np.mean(found["bare"]) > 0.3
    assert np.mean(found["clean withheld"]) < 0.2, "images like those that the guard knows"
    assert found["flags"] == []
    changed, withheld, knowing = (np.array(found[name]) for name in ("guarded", "withheld", "knowing"))
    assert len(changed) == len(withheld) == len(scene.data.test)
    assert not (changed & withheld).any()
    assert not (changed & ~np.array(found["bare"])).any(), "a guard changes no findings"
    assert changed.any()
    assert knowing.any()
    nothing = guarded.attacked(scene, PLAN, 0, 0, universal=True)
    assert not any(nothing["bare"] + nothing["knowing"] + nothing["noise"])


@pytest.mark.parametrize("blind", [False, True])
def test_who_knows_the_guard_also_tries_what_who_does_not_know_it_found(scene, monkeypatch, blind):
    """Of the two searches one finds nothing: the other's changes are counted."""
    search_by = guarded.changed_by

    def one_finds_nothing(plan, search, x, craft, *, universal):
        knows = search.detector is not None
        return x if knows == blind else search_by(plan, search, x, craft, universal=universal)

    whole = guarded.attacked(scene, PLAN, 0, 26, universal=False)
    monkeypatch.setattr(guarded, "changed_by", one_finds_nothing)
    found = guarded.attacked(scene, PLAN, 0, 26, universal=False)
    assert any(found["knowing"])
    assert found["guarded"] == (whole["guarded"] if blind else [False] * len(scene.data.test))
    assert not blind or found["knowing"] == whole["guarded"]


def test_a_guard_that_refuses_all_lets_no_change_leave(scene):
    far = np.broadcast_to(np.eye(16, dtype=np.float32), (2, 1, 16, 16)).copy()  # no noise, so no image it knows
    rows = AttackData(craft=scene.data.craft, test=Split(far), reference=scene.bare(far).labels)
    found = guarded.attacked(replace(scene, data=rows), PLAN, 0, 3, universal=False)
    assert all(found["clean withheld"] + found["withheld"] + found["noise withheld"])
    assert not any(found["guarded"] + found["knowing"] + found["noise"])


def test_no_bounds_follow_a_tower_with_attention():
    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = encoder_decoder(1).tower

        def forward(self, x):
            return self.tower(x).last_hidden_state

    with pytest.raises(MedwardError, match="cannot be followed"):
        network_box(traced_network(Tower().eval()), *[torch.from_numpy(noise_images(2, 0))] * 2)
