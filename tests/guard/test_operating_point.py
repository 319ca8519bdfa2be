"""A screening model behind the real guard: at every level, for every reason, the side of its threshold leaves."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from support.models import MeanModel, benign_rows
from support.screening import PRIOR, THRESHOLD, rows, screening

from medward.guard.accounts.stores import MemoryStore
from medward.guard.bundle import folder as bundles
from medward.guard.bundle.card import canonical_json, sha256
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.monitors.near_duplicates import ImageSeen
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches
from medward.guard.release.capacity import label_bits, side_bits
from medward.guard.types import Level, Query

WHO = ("hospital-a", "key-17")
BENIGN, ROWS = rows(800, 0), rows(300, 1)


@pytest.fixture(scope="module")
def profiles():
    return {
        (threshold, output, temperature): Profile.fit(
            screening(threshold, output), BENIGN, risk=0.001, secret=1, temperature=temperature, codes=3
        )
        for threshold in (THRESHOLD, None)
        for output in ("logits", "probabilities")
        for temperature in (1.0, 5.0)
    }


@pytest.fixture
def make(profiles):
    def make(threshold=THRESHOLD, output="logits", temperature=1.0, store=None, **sections):
        release = {"temperature": temperature, **sections.pop("release", {})}
        policy = Policy.model_validate(
            {"on_error": "withhold", "screen": {"action": "allow"}, "release": release, **sections}
        )
        return Guard(
            model=screening(threshold, output),
            policy=policy,
            profile=profiles[threshold, output, temperature],
            store=store or MemoryStore(),
        )

    return make


def ask(guard, rows=ROWS):
    return guard.answer(Query(principal=WHO, inputs=rows))


def own_decisions():
    return (ROWS[:, 0] - np.float32(PRIOR) >= np.log(THRESHOLD / (1 - THRESHOLD))).astype(int)


REASONS = {
    "rounded": {},
    "full": {"release": {"level": "full"}},
    "one decimal": {"release": {"decimals": 1}},
    "top": {"release": {"level": "top", "top": 1}},
    "codes": {"release": {"level": "codes"}},
    "label": {"release": {"level": "label"}},
    "strange rows coarsened": {"screen": {"rate": 0.4, "action": "coarsen"}},
    "a spent budget": {"budget": {"total_bits": 400, "label_share": 0.9}},
}


@pytest.mark.parametrize("temperature", [1.0, 5.0])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
@pytest.mark.parametrize("reason", REASONS)
def test_the_decision_at_the_threshold_is_what_leaves(make, reason, output, temperature):
    answer = ask(make(output=output, temperature=temperature, **REASONS[reason]))
    own = own_decisions()
    assert 0.3 < own.mean() < 0.7
    assert (answer.labels == own).all()
    shown = ~np.isnan(answer.scores[:, 1])
    if answer.output == "probabilities":
        assert ((answer.scores[shown, 1] >= THRESHOLD) == own[shown].astype(bool)).all()
    assert {"label": not shown.any(), "full": shown.all()}.get(reason, True)
    if reason in ("strange rows coarsened", "a spent budget"):
        assert Level.LABEL in answer.levels


@pytest.mark.parametrize("reason", ["label", "strange rows coarsened"])
def test_without_the_threshold_the_same_guard_finds_nobody(make, reason):
    # Negative control: this is what the largest class says of a screening model.
    assert own_decisions().sum() > 100
    assert (ask(make(threshold=None, **REASONS[reason])).labels == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    threshold=st.floats(1e-3, 0.999),
    gap=st.lists(st.floats(-12, 12), min_size=1, max_size=5),
    level=st.sampled_from(["full", "rounded", "top", "label"]),
    decimals=st.integers(1, 4),
)
def test_the_law_holds_through_the_whole_pipeline(profiles, threshold, gap, level, decimals):
    served = screening(threshold)
    policy = Policy.model_validate(
        {"on_error": "withhold", "screen": {"action": "allow"}, "release": {"level": level, "decimals": decimals}}
    )
    guard = Guard(model=served, policy=policy, profile=profiles[THRESHOLD, "logits", 1.0])
    rows = np.stack([np.array(gap), np.zeros(len(gap)), np.zeros(len(gap))], axis=1).astype(np.float32)
    answer, own = ask(guard, rows), served.spec.decide(served.predict(rows).scores)
    assert (answer.labels == own).all()
    shown = ~np.isnan(answer.scores[:, 1])
    assert ((answer.scores[shown, 1] >= threshold) == own[shown]).all() or level == "full"


def test_the_budget_pays_for_one_step_and_for_one_label(make):
    answer = ask(make(budget={"total_bits": 1000, "label_share": 0.5}))
    (verdict,) = (each for each in answer.verdicts if each.source == f"leakage:{'/'.join(WHO)}")
    levels = np.array(answer.levels)
    spent = (levels == Level.ROUNDED).sum() * side_bits(2) + (levels == Level.LABEL).sum() * label_bits(2)
    assert set(answer.levels) == {Level.ROUNDED, Level.LABEL}
    assert verdict.evidence["bits_total"] == pytest.approx(spent, abs=0.5)


def test_an_answer_at_another_threshold_is_no_repeat(make):
    store, policy = MemoryStore(), {"budget": {"total_bits": 1000}}
    first = make(store=store, **policy)
    moved = dataclasses.replace(first, model=screening(0.3))

    def told(guard):
        return next(each for each in ask(guard, ROWS[:1]).verdicts if "bits_total" in each.evidence).evidence[
            "bits_total"
        ]

    once = told(first)
    assert told(first) == once, "the same again is free"
    assert told(moved) == pytest.approx(2 * once)


def test_screens_know_the_rows_by_what_is_decided_at_the_threshold(profiles):
    means = profiles[THRESHOLD, "logits", 1.0].screening.screen.screens[0].means
    assert means[1, 0] - means[0, 0] > 1, "the two classes lie on either side of the threshold"
    alike = profiles[None, "logits", 1.0].screening.screen.screens[0].means
    np.testing.assert_array_equal(alike[0], alike[1], "the largest class is the same for all rows")


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_probing_is_strange_near_the_threshold_and_not_near_one_half(profiles, output):
    served, profile = screening(output=output), profiles[THRESHOLD, output, 1.0]
    rows = np.zeros((2, 3), np.float32)
    rows[:, 0] = 0.0083, 3.9  # log odds of the threshold, and of one half
    at, half = served.spec.judged(forward_batches(served, rows)).doubt
    assert abs(at) < 0.01 < 3 < abs(half)
    p_at, p_half = profile.fitted["probing"].reference.thresholds.p_values(np.array([at, half]))
    assert p_at == profile.fitted["probing"].reference.thresholds.levels[0] < p_half


def test_the_guard_judges_each_row_beside_its_decision_at_the_threshold(make):
    class Log(list):
        def append(self, record):
            super().append(dict(record))

    guard, log = make(), Log()
    ask(dataclasses.replace(guard, audit=log))
    outputs = guard.model.predict(ROWS)
    judged = guard.model.spec.judged(outputs)

    def p_values(seen):
        return guard.profile.screening.p_values(guard.profile.strangeness(ROWS, seen))

    assert log[0]["p_values"] == p_values(judged).tolist() != p_values(outputs).tolist()
    bets = np.array(log[0]["bets"]["/".join(WHO)]["probing"])
    told = guard.profile.fitted["probing"].reference.thresholds.p_values(judged.doubt)
    assert ((bets == told) | (bets == 1)).all(), "p = 1 stands for a repeat"
    assert (told < 1).any()


def test_near_duplicates_are_told_apart_by_the_decision(image_guard):
    seen = image_guard(0.02)
    assert seen == [1, 0], "a row on either side of the threshold"
    assert image_guard(None) == [0, 0]


@pytest.fixture
def image_guard(monkeypatch):
    class Dim(MeanModel):
        """Light is rare: its probability is a tenth of the mean pixel."""

        def predict(self, inputs):
            outputs = super().predict(inputs)
            light = outputs.scores[:, 1] / 10
            return dataclasses.replace(outputs, scores=np.stack([1 - light, light], axis=1))

    def labels(threshold):
        dim = Dim()
        dim.spec = dataclasses.replace(dim.spec, task=dataclasses.replace(dim.spec.task, threshold=threshold))
        profile = Profile.fit(dim, benign_rows(MeanModel), risk=0.001, secret=1)
        arrivals = []
        seen = "medward.guard.accounts.transaction.ImageSeen"
        monkeypatch.setattr(seen, lambda *parts: arrivals.append(ImageSeen(*parts)) or arrivals[-1])
        rows = np.stack([np.full((1, 4, 6), 0.4), np.full((1, 4, 6), 0.1)]).astype(np.float32)
        ask(Guard(model=dim, policy=Policy(on_error="withhold"), profile=profile), rows)
        return [arrival.label for arrival in arrivals]

    return labels


# From `protect` to a bundle and back


def triage(rows):
    """What a site's function does."""
    risk = 1 / (1 + np.exp(3.9 - rows[:, 0].astype(float)))
    return np.stack([1 - risk, risk], axis=1)


SAID = {"name": "triage", "classes": ("no effusion", "effusion"), "output": "probabilities"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    labels = np.random.default_rng(2).random(len(BENIGN)) < triage(BENIGN)[:, 1] * 4
    estimator = LogisticRegression().fit(BENIGN, labels.astype(int))
    out = tmp_path_factory.mktemp("operated") / "bundle"
    return protect(estimator, Split(ROWS), Policy(on_error="withhold"), out, threshold=0.07), estimator


def test_a_bundle_keeps_its_operating_point(made):
    bundle, estimator = made
    loaded = bundles.load_bundle(bundle.path)
    assert loaded.model.spec.threshold == loaded.card.spec.threshold == 0.07
    assert json.loads((bundle.path / "card.json").read_text())["spec"]["task"]["threshold"] == 0.07
    own = estimator.predict_proba(ROWS)[:, 1] >= 0.07
    assert 0.1 < own.mean() < 0.9
    labels = ask(loaded.guard(ephemeral=True)).labels
    answered = labels >= 0
    assert answered.mean() > 0.8
    assert (labels[answered] == own[answered]).all()


def test_a_card_of_the_first_release_still_loads(made, tmp_path):
    bundle, _ = made

    def rewritten(change):
        content = json.loads((bundle.path / "card.json").read_text())
        task = content["spec"].pop("task")
        content["format"] = 1
        content["spec"] |= {each: task[each] for each in ("classes", "output", "threshold")}
        change(content["spec"])
        content.pop("digest")
        return canonical_json({**content, "digest": sha256(canonical_json(content))})

    card = bundles.Card.from_bytes(rewritten(lambda spec: spec.pop("threshold")))
    assert card.spec.threshold is None
    for wrong in (0.0, 1.5):
        with pytest.raises(IntegrityError, match="threshold"):
            bundles.Card.from_bytes(rewritten(lambda spec, wrong=wrong: spec.update(threshold=wrong)))


def test_protect_refuses_a_threshold_it_cannot_operate(tmp_path):
    with pytest.raises(MedwardError, match=r"^threshold: must be a probability above 0 and below 1, got 2"):
        protect(triage, Split(ROWS), Policy(on_error="withhold"), tmp_path / "b", threshold=2, **SAID)
    assert not (tmp_path / "b").exists()
