from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.models import MeanModel

from medward.guard.accounts.stores import CorruptStateError, MemoryStore, SQLiteStore
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.types import Action, Level, Query

SHAPE = (1, 16, 16)
LADDER = [{"count": 30, "action": "flag"}, {"count": 60, "action": "coarsen"}, {"count": 120, "action": "withhold"}]
POLICY = Policy.model_validate({"on_error": "withhold", "screen": {"action": "flag"}, "duplicates": {"ladder": LADDER}})


def pictures(n, seed):
    """Smooth random fields, no two alike."""
    coarse = np.random.default_rng(seed).uniform(size=(n, 1, 4, 4))
    return np.kron(coarse, np.ones((4, 4))).astype(np.float32) * 0.8 + 0.1


@pytest.fixture(scope="module")
def profile():
    return Profile.fit(MeanModel(shape=SHAPE), pictures(300, 0), risk=0.001, secret=0)


@pytest.fixture
def guard(profile):
    return Guard(model=MeanModel(shape=SHAPE), policy=POLICY, profile=profile, store=MemoryStore(), salt=b"s")


def ask(guard, image, who=("clinic", "a"), study=""):
    return guard.answer(Query(principal=who, inputs=image[None], study=study))


def changed(n, seed=1):
    """One picture and small changes of it."""
    image = pictures(1, 99)[0]
    return image + 0.004 * np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)


def counted(answer):
    [verdict] = [each for each in answer.verdicts if each.source.startswith("duplicates:")]
    return verdict


def test_who_asks_about_small_changes_of_one_image_is_acted_upon_for_good(guard):
    answers = [ask(guard, image) for image in changed(25)]
    actions = [counted(answer).action for answer in answers]
    assert actions == sorted(actions)
    assert actions[0] is Action.ALLOW
    assert actions[-1] is Action.WITHHOLD
    assert answers[-1].levels == (Level.WITHHELD,)
    other = pictures(1, 7)[0]
    assert ask(guard, other).levels == (Level.WITHHELD,), "the account, not the query"
    assert ask(guard, other, ("clinic", "b")).levels == (Level.ROUNDED,), "nobody else"


@pytest.mark.parametrize("wrong", [1.79e9 + 3650 * 86400, 0.0, float("nan"), float("inf"), -1e12])
def test_a_clock_that_jumps_loses_no_near_duplicate_and_keeps_none_for_ever(guard, wrong):
    now = [1.79e9]
    guard = dataclasses.replace(guard, store=MemoryStore(clock=lambda: now[0]))
    images = changed(15)
    for i, image in enumerate(images):
        now[0] = wrong if i in (7, 9) else 1.79e9 + i
        last = counted(ask(guard, image))
    assert last.evidence["members"] == len(images) - 1  # beside the first
    for day in range(1, 34):
        now[0] = 1.79e9 + day * 86400
        ask(guard, pictures(1, day)[0])
    assert counted(ask(guard, images[0])).evidence["members"] == 0


@pytest.mark.parametrize("wrong", [0.0, 4.07e9], ids=["1970", "2099"])
@pytest.mark.parametrize("whose", ["guard", "host"])
def test_a_process_started_at_a_wrong_time_loses_nothing_that_others_share(guard, tmp_path, wrong, whose):
    """Clocks are set right soon after a start: of the process alone, or of the host, the store's clock with it."""
    now = [1.79e9]

    def started(clock):
        store = SQLiteStore(tmp_path / "state.db", clock=clock if whose == "host" else lambda: 1.79e9)
        return dataclasses.replace(guard, clock=clock, store=store)

    images, others = changed(12), pictures(3, 5)
    right = started(lambda: 1.79e9)
    for image in images[:6]:
        ask(right, image)
    now[0] = wrong
    late = started(lambda: now[0])
    ask(late, others[0])
    ask(late, images[6])
    now[0] = 1.79e9 + 5
    ask(late, others[1])
    for asked, image in zip((late, right, late, right), images[7:], strict=False):
        last = ask(asked, image)
    assert counted(last).evidence["members"] == 10  # beside the first
    again = started(lambda: 1.79e9 + 60)
    assert counted(ask(again, images[11])).evidence["members"] == 11


def test_a_fresh_account_takes_over_what_the_image_has_seen(guard):
    for image in changed(12):
        ask(guard, image)
    fresh = counted(ask(guard, changed(1, seed=2)[0], ("clinic", "b"))).evidence["count"]
    elsewhere = counted(ask(guard, changed(1, seed=3)[0], ("elsewhere", "b"))).evidence["count"]
    assert fresh > 10
    assert elsewhere < 5, "what others do costs an organisation little"


def test_patients_repeats_and_slices_of_a_study_count_nothing(guard):
    for image in pictures(60, 5):
        assert counted(ask(guard, image)).evidence["peak"] < 10
    for _ in range(30):
        resent = ask(guard, pictures(1, 6)[0], ("clinic", "b"))
    slices = [ask(guard, image, ("clinic", "c"), study="1.2.3") for image in changed(15)]
    assert counted(resent).evidence["peak"] == 0
    assert counted(slices[-1]).evidence["peak"] == 0
    assert counted(ask(guard, changed(1, seed=9)[0], ("other", "d"), study="1.2.3")).evidence["count"] > 0, "not theirs"


def test_by_default_it_tells_a_person_and_no_more(profile):
    policy = Policy.model_validate({**POLICY.model_dump(), "duplicates": {}})
    guard = Guard(model=MeanModel(shape=SHAPE), policy=policy, profile=profile)
    answers = [ask(guard, image) for image in changed(40)]
    assert {counted(answer).action for answer in answers} == {Action.ALLOW, Action.FLAG}


def test_it_is_off_where_a_site_says_so(profile):
    policy = Policy.model_validate({**POLICY.model_dump(), "duplicates": {"watch": False}})
    guard = Guard(model=MeanModel(shape=SHAPE), policy=policy, profile=profile)
    answers = [ask(guard, image) for image in changed(25)]
    assert not [each for each in answers[-1].verdicts if each.source.startswith("duplicates:")]


def test_one_transaction_takes_it_all_and_a_corrupt_list_is_a_failure_on_record(guard, monkeypatch):
    calls, whole = [], MemoryStore.transact_all

    def transact_all(self, keys, step, *, ttl=None):
        calls.append(list(keys))
        if any(key.startswith("//near/") for key in keys) and len(calls) > 1:
            raise CorruptStateError("a list is torn")
        return whole(self, keys, step, ttl=ttl)

    monkeypatch.setattr(MemoryStore, "transact_all", transact_all)
    ask(guard, pictures(1, 3)[0])
    assert len(calls) == 1
    assert calls[0][:2] == ["clinic", "clinic/a"]
    answer = ask(guard, pictures(1, 4)[0])
    assert "error:duplicates:CorruptStateError" in {verdict.source for verdict in answer.verdicts}
    assert answer.levels == (Level.WITHHELD,)
    assert [verdict for verdict in answer.verdicts if verdict.source == "e-process:clinic/a"]


class TornStore(MemoryStore):
    """One list cannot be read until it is deleted."""

    torn = None

    def transact_all(self, keys, step, *, ttl=None):
        self.get(self.torn) if self.torn in keys else None
        return super().transact_all(keys, step, ttl=ttl)

    def get(self, key):
        if key == self.torn:
            raise CorruptStateError(f"the state of {key!r} is corrupt")
        return super().get(key)

    def delete(self, key):
        self.torn = None if key == self.torn else self.torn
        super().delete(key)


def test_a_list_that_cannot_be_read_is_forgotten_and_the_next_query_is_answered(guard):
    image, store = pictures(1, 3)[0], TornStore()
    guard = dataclasses.replace(guard, store=store)
    ask(guard, image)
    store.torn = next(key for key in store._states if key.startswith("//near/"))
    failed = ask(guard, image)
    assert "error:duplicates:CorruptStateError" in {verdict.source for verdict in failed.verdicts}
    assert ask(guard, image).levels == (Level.ROUNDED,)


def test_the_map_comes_back_with_the_profile(profile):
    again = Profile.from_arrays(profile.to_arrays())
    assert again.contents.fingerprint == profile.contents.fingerprint
    images = changed(4)
    assert (again.contents.see(images)[0] == profile.contents.see(images)[0]).all()
