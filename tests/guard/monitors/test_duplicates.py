from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.attacks.benchmarks.tasks import load_task
from medward.guard.accounts.stores import MemoryStore
from medward.guard.monitors.content_hash import CONTENT_WIDTH, RADIUS, ContentHash
from medward.guard.monitors.near_duplicates import (
    CLUSTER_ROOM,
    OTHERS,
    TABLES,
    ClusterMatch,
    DuplicateCount,
    ImageSeen,
    NearDuplicateIndex,
)
from medward.guard.types import Action

MOST = 10.0
INDEX = NearDuplicateIndex(salt=b"secret", calibration="c", slices=3, ttl=1000.0, most=MOST)
CODE = "0123456789abcdef"
FAR = int(RADIUS) * 10
LADDER = ((30.0, Action.COARSEN), (60.0, Action.WITHHOLD))


def image(number, shift=0, *, digest=None, label=0, study="", code=CODE, sender="clinic"):
    content = np.full(CONTENT_WIDTH, number * FAR, np.int16)
    content[: CONTENT_WIDTH // 2] += shift
    organisation, _, study = study.rpartition("/")
    return ImageSeen(content, code, digest or f"{number}:{shift}", label, organisation or sender, study)


def ask(arrivals, index=INDEX, lists=None, now=0.0):
    keys = index.keys([each.code for each in arrivals])
    return index.step({key: (lists or {}).get(key) for key in keys}, arrivals, now)


def shaken(n, seed=0, label=0):
    """Copies of one image, each changed in another direction."""
    rng = np.random.default_rng(seed)
    return [
        ImageSeen(rng.integers(-4, 5, CONTENT_WIDTH).astype(np.int16), CODE, f"{seed}/{i}", label) for i in range(n)
    ]


def kinds(arrivals, **settings):
    return [found.kind for found in ask(arrivals, **settings)[1]]


def test_changed_copies_count_and_identical_bytes_and_other_images_do_not():
    assert kinds([image(0), image(0), image(1), image(0, 2), image(0, 2), image(2)]) == [
        "new",
        "exact",
        "new",
        "changed",
        "exact",
        "new",
    ]
    assert all(found.weight == 0 for found in ask([image(0)] * 20)[1])


def test_what_other_organisations_do_costs_little_and_ones_own_accounts_all_count():
    theirs = [image(0, i, sender=f"other {i % 6}") for i in range(1, 25)]
    found = ask([image(0), *theirs, image(0, 30), image(0, 31)])[1]
    assert max(each.weight for each in found[:25]) >= 2
    assert found[-2].weight <= 2 + OTHERS
    assert found[-1].weight > found[-2].weight
    assert ask([image(0), *(image(0, i) for i in range(1, 13))])[1][-1].weight == MOST


def test_the_first_image_is_known_for_good():
    assert kinds([image(0), *shaken(30), image(0)])[-1] == "exact"


def test_every_further_copy_weighs_more_and_none_more_than_most():
    weights = [found.weight for found in ask(shaken(20))[1]]
    assert weights[:5] == [0, 1, 2, 3, 4]
    assert weights[-1] == MOST
    assert max(weights) == MOST


def test_a_walk_is_followed_step_by_step():
    walk = [image(0, 4 * i) for i in range(12)]
    assert np.abs(walk[-1].content - walk[0].content).max() > 2 * RADIUS
    assert kinds(walk) == ["new"] + ["changed"] * 11
    assert kinds([walk[0], walk[-1]]) == ["new", "new"], "negative control: without the steps between"


def test_steps_in_one_direction_and_changing_labels_weigh_double():
    walked = ask([image(0, i) for i in range(5)])[1][-1]
    assert walked.aligned == pytest.approx(1, abs=0.01)
    assert walked.weight == 8
    plain = ask(shaken(5))[1][-1]
    assert plain.aligned < 0.8
    assert plain.weight == 4
    flipped = ask([replace(each, label=i % 2) for i, each in enumerate(shaken(5))])[1][-1]
    assert flipped.flips == 4
    assert flipped.weight == 8


def test_slices_of_the_declared_study_are_free_until_there_are_too_many():
    series = [image(0, i, study="hospital/1") for i in range(6)]
    assert kinds(series) == ["new", "study", "study", "study", "changed", "changed"]


def test_naming_new_studies_buys_nothing():
    assert kinds([image(0, i, study=f"hospital/{i}") for i in range(4)]) == ["new", "changed", "changed", "changed"]
    assert kinds([image(0, i, study=f"hospital/{i // 2}") for i in range(10)]).count("study") == INDEX.slices
    assert kinds([image(0), image(0, 1, study="hospital/1")]) == ["new", "changed"]


def test_what_was_not_seen_for_its_time_is_forgotten_and_what_was_is_not():
    lists, _ = ask([image(0)])
    lists, _ = ask([image(0, 1)], lists=lists, now=900.0)
    assert [each.kind for each in ask([image(0, 2)], lists=lists, now=1800.0)[1]] == ["changed"]
    after, found = ask([image(0, 2)], lists=lists, now=1900.0)
    assert found == [ClusterMatch("new")]
    assert all(len(each) == 1 for each in after.values())


def test_a_cluster_under_attack_outlasts_a_flood_of_other_images():
    flood = [image(i) for i in range(5, 60)]
    lists, _ = ask([image(0), image(0, 1), image(0, 2), image(1), *flood])
    assert [each.kind for each in ask([image(0, 3), image(1)], lists=lists, now=1.0)[1]] == ["changed", "new"]


def test_a_copy_whose_code_is_partly_another_is_still_found_and_the_newest_record_counts():
    bits = int(CODE, 16)
    other = [f"{bits ^ (1 << i):016x}" for i in range(64)]
    shared = [len(set(INDEX.keys([code])) & set(INDEX.keys([CODE]))) for code in other]
    assert min(shared) >= 1
    assert np.mean(shared) > TABLES / 2
    moved = other[shared.index(min(shared))]
    lists: dict = {}
    for i in range(6):
        arrival = image(0, i, code=moved if i % 2 else CODE)
        after, found = ask([arrival], lists=lists, now=float(i))
        lists.update(after)
        assert found[0].members == i


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 3), st.booleans()), max_size=60))
def test_a_batch_is_its_rows_one_by_one_and_the_lists_stay_small(asked):
    arrivals = [
        image(number, shift, code=f"{code:x}" * 16, study="s" * study, label=shift % 2)
        for number, shift, code, study in asked
    ]
    together, found = ask(arrivals)
    lists: dict = {key: [] for key in together}
    singly = []
    for arrival in arrivals:
        after, (one,) = ask([arrival], lists=lists)
        lists.update(after)
        singly.append(one)
    assert (together, found) == (lists, singly)
    for clusters in together.values():
        assert len(clusters) <= CLUSTER_ROOM
        assert len({each["id"] for each in clusters}) == len(clusters)
        assert len(json.dumps(clusters)) < 2048
    assert all((one.weight > 0) == (one.kind == "changed") and one.weight <= MOST for one in found)


def test_the_index_is_bounded_whatever_is_sent():
    rng = np.random.default_rng(0)
    keys = INDEX.keys([rng.bytes(8).hex() for _ in range(500)])
    assert len(keys) == len(set(keys)) <= TABLES * 500
    assert len(INDEX.keys([CODE, CODE])) == TABLES
    assert all(key.startswith("//near/") for key in keys), "no principal's key starts so"


def test_the_salt_decides_what_is_looked_up_together():
    other = replace(INDEX, salt=b"other")
    for code in (CODE, "0" * 16):
        assert not set(INDEX.keys([code])) & set(other.keys([code]))
    one, two = f"{1:016x}", f"{1 << 20:016x}"
    assert len({len(set(replace(INDEX, salt=bytes([i])).keys([one, two]))) for i in range(20)}) > 1
    assert NearDuplicateIndex(salt=b"", calibration="").keys([CODE])


def count(found, ladder=LADDER, allowance=0.05):
    monitor = DuplicateCount(ladder=ladder, allowance=allowance)
    state, actions = monitor.start(), []
    for each in found:
        state, verdict = monitor.step(state, each)
        actions.append(verdict.action)
    return actions


def test_an_account_that_asks_about_one_image_again_and_again_alarms_and_stays_alarmed():
    _, found = ask(shaken(15))
    actions = count([*found, *[ClusterMatch("new")] * 10_000])
    assert actions.index(Action.COARSEN) == 8
    assert actions.index(Action.WITHHOLD) == 11
    assert actions[-1] is Action.WITHHOLD
    assert set(count([ClusterMatch("exact", 9, 9)] * 1000 + [ClusterMatch("study", 9, 9)] * 1000)) == {Action.ALLOW}


def test_good_conduct_earns_no_credit():
    found = ask(shaken(15))[1]
    assert count([*[ClusterMatch("new")] * 10_000, *found])[10_000:] == count(found)


def test_fresh_accounts_start_where_others_stopped():
    lists, _ = ask(shaken(12))
    _, found = ask(shaken(4, seed=1), lists=lists, now=1.0)
    assert count(found).index(Action.COARSEN) == 3
    _, found = ask(shaken(4, seed=1), index=replace(INDEX, most=30.0), lists=ask(shaken(40))[0], now=1.0)
    assert count(found)[:3] == [Action.COARSEN, Action.COARSEN, Action.WITHHOLD]
    assert Action.COARSEN not in count(ask(shaken(4, seed=1))[1]), "negative control: an image nobody attacked"


def test_a_few_copies_here_and_there_are_paid_off_by_other_queries():
    usual = [ClusterMatch("changed", 1, 0, 1.0, 1.0), *[ClusterMatch("new")] * 19]
    assert set(count(usual * 100)) == {Action.ALLOW}
    assert Action.COARSEN in count(usual[:10] * 100), "negative control: twice the allowance"


@given(st.lists(st.floats(0, MOST), max_size=40), st.floats(5, 60), st.floats(0, 0.5))
def test_the_count_is_the_largest_excess_over_the_allowance_of_any_stretch(weights, limit, allowance):
    found = [ClusterMatch("changed", weight=weight) for weight in weights]
    ladder = ((limit, Action.FLAG),)
    actions = count(found, ladder, allowance)
    stretches = [(i, j) for j in range(1, len(weights) + 1) for i in range(j)]
    largest = max((sum(weights[i:j]) - allowance * (j - i - 1) for i, j in stretches), default=0.0)
    if abs(largest - limit) > 1e-3:
        assert (Action.FLAG in actions) == (largest >= limit)
    assert count(found[: math.ceil(limit / MOST) - 1], ladder, allowance).count(Action.FLAG) == 0
    assert actions == sorted(actions)


def test_a_cluster_dated_later_than_now_is_kept_as_if_seen_now():
    lists, _ = INDEX.step(ask(shaken(3), now=4e9)[0], [], 1000.0)
    assert ask(shaken(1, seed=1), lists=lists, now=999.0 + INDEX.ttl)[1][0].members == 3
    assert ask(shaken(1, seed=1), lists=lists, now=1001.0 + INDEX.ttl)[1][0].kind == "new"


def test_accounts_and_lists_are_one_transaction_of_a_store():
    store, monitor = MemoryStore(), DuplicateCount(ladder=LADDER)

    def query(account, arrival, now):
        keys = [account, *INDEX.keys([arrival.code])]

        def step(states):
            lists, (found,) = INDEX.step(dict(zip(keys[1:], states[1:], strict=True)), [arrival], now)
            state, verdict = monitor.step(states[0] or monitor.start(), found)
            return [state, *lists.values()], verdict.action

        return store.transact_all(keys, step, ttl=INDEX.ttl)

    actions = [query(f"a/{i % 4}", arrival, float(i)) for i, arrival in enumerate(shaken(24))]
    assert Action.COARSEN in actions
    assert actions[:8] == [Action.ALLOW] * 8


@pytest.mark.data
def test_patients_are_told_apart_and_copies_of_a_radiograph_are_found():
    task = load_task("pneumoniamnist", seed=0)
    contents = ContentHash.fit(task.splits["calibration"].inputs, seed=0)
    images = task.splits["holdout"].inputs
    copies = np.clip(images[-200:] * 0.95 + np.random.default_rng(0).normal(size=images[-200:].shape) * 0.01, 0, 1)
    arrivals = [ImageSeen(*each, str(i), 0) for i, each in enumerate(zip(*contents.see(images), strict=True))]
    lists, found = ask(arrivals)
    assert sum(each.kind != "new" for each in found) <= 0.003 * len(images)
    arrivals = [ImageSeen(*each, f"copy {i}", 0) for i, each in enumerate(zip(*contents.see(copies), strict=True))]
    _, found = ask(arrivals, lists=lists, now=1.0)
    assert sum(each.kind == "changed" for each in found) >= 190
