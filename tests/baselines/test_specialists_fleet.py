"""The fleet's arithmetic is the deployed step's, where classes are rare too."""

from __future__ import annotations

import numpy as np
import specialists as bench
import stealing_benign
from stealing import fleet
from support.models import LinearModel

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.monitors.base import CONTENT_CODES
from medward.guard.monitors.shared_perturbation import SharedPerturbation, VectorSeen
from medward.guard.profile import Profile, forward_batches


def test_the_fleet_agrees_with_the_deployed_step_on_rare_classes():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 500, p=[0.84, 0.09, 0.07])
    rows = (6 * np.eye(3)[labels] + rng.normal(size=(500, 3)) * (1 + 0.5 * labels[:, None])).astype(np.float32)
    profile = Profile.fit(LinearModel(), rows[:400], risk=0.001, secret=0)
    assert profile.strata is not None
    sight = {
        **bench.sight_of(bench.POLICY, profile, rows, forward_batches(LinearModel(), rows)),
        CONTENT_CODES: ["0"] * 500,
    }
    pool = {
        **{part: np.asarray(column) for part, column in sight.items()},
        CONTENT_CODES: np.arange(500).astype(np.uint64),
    }
    pool[CONTENT_CODES] = pool[CONTENT_CODES] * np.uint64(0x9E3779B97F4A7C15)
    scene = stealing_benign.Draw(AccountMonitors.of(bench.POLICY, profile, 1), pool, labels, 240)
    asked = np.stack([rng.permutation(500)[:120], rng.permutation(np.flatnonzero(labels))[:60].repeat(2)])
    assert stealing_benign.agree(scene, asked) == 2


def test_the_fleet_leaves_markings_out_of_directions_as_the_deployed_step_does():
    rng, side = np.random.default_rng(0), 8
    places = np.stack(np.meshgrid(range(side), range(side)), axis=-1).reshape(-1, 2).astype(np.float32)
    reference = rng.normal(size=(400, side * side)).astype(np.float32)
    part = SharedPerturbation(reference=reference, risk=0.01, places=places, slack=0.0)
    vectors = rng.normal(size=(6, 90, side * side)).astype(np.float32)
    vectors[1:3, :, :5] += 6  # a marking on every image, and from the third account on a change of all of it
    vectors[2:4, 40:] += rng.normal(size=side * side).astype(np.float32)
    vectors[4] += np.float32(5) * rng.choice((-1, 1), 90)[:, None] * (np.arange(side * side) == 9)  # of either sign
    vectors[5, :, rng.permutation(side * side)[:16]] += 8  # dots all over
    watched = fleet._Watched(part, len(vectors))
    here = np.stack([watched.step(each, None, np.zeros(6, np.int64)) for each in vectors.transpose(1, 0, 2)], axis=1)
    deployed = [part.judge(part.start(), [VectorSeen(each, "") for each in own])[1] for own in vectors]
    np.testing.assert_array_equal(here, deployed)
    plain = SharedPerturbation(reference=reference, risk=0.01, slack=0.0)
    assert plain.judge(plain.start(), [VectorSeen(each, "") for each in vectors[1]])[1] != deployed[1]


def test_summaries_say_never_where_it_is_never():
    assert bench.summary([3, 5, np.inf]) == {"n": 3, "median": 5, "p90": None, "never": 1}
