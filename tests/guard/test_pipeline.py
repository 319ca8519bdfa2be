from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.sights import refitted

from medward.guard.accounts.monitors import AccountMonitors
from medward.guard.accounts.names import checked_principal
from medward.guard.accounts.stores import CorruptStateError, MemoryStore
from medward.guard.accounts.transaction import reset_account
from medward.guard.errors import MedwardError, ModelError, UnavailableError
from medward.guard.monitors.strangeness import ScreenReference
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Action, Level, Outputs, Query

WHO = ("hospital-a", "radiology", "key-17")
BENIGN = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
ODD = np.full((1, 3), 60, np.float32)


def ask(guard, rows, who=WHO):
    return guard.answer(Query(principal=who, inputs=rows))


def policy(**sections):
    return Policy.model_validate({"on_error": "withhold", **sections})


class Log:
    def __init__(self, fail=False):
        self.records, self.fail = [], fail

    def append(self, record):
        if self.fail:
            raise UnavailableError("disk full")
        self.records.append(json.loads(json.dumps(record)))


class BrokenStore(MemoryStore):
    def transact_all(self, keys, step, *, ttl=None):
        raise UnavailableError("store is away")


def test_at_level_full_the_answer_is_the_models_own(make_guard, linear_model):
    guard = make_guard(policy(release={"level": "full"}, screen={"action": "allow"}))
    answer = ask(guard, BENIGN)
    assert np.abs(answer.scores - linear_model.predict(BENIGN).scores).max() <= 1e-5
    assert (answer.labels == linear_model.predict(BENIGN).scores.argmax(1)).all()
    assert answer.output == "logits"


@settings(max_examples=60, deadline=None)
@given(
    rows=hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.just(3)), elements=st.floats(-90, 90, width=32)),
    level=st.sampled_from(["full", "rounded", "label"]),
    action=st.sampled_from(["allow", "flag", "coarsen", "withhold"]),
)
def test_no_policy_ever_names_a_class_the_model_did_not(linear_model, linear_profile, rows, level, action):
    guard = Guard(
        model=linear_model,
        profile=linear_profile,
        policy=policy(release={"level": level}, screen={"action": action, "rate": 0.3}),
    )
    answer = ask(guard, rows)
    own = linear_model.predict(rows).scores.argmax(1)
    for label, truth, released, scores in zip(answer.labels, own, answer.levels, answer.scores, strict=True):
        assert label == (-1 if released is Level.WITHHELD else truth)
        if released < Level.LABEL:
            assert scores.argmax() == truth
        else:
            assert np.isnan(scores).all()


def test_an_odd_input_is_withheld_visibly_and_its_neighbours_are_answered(make_guard):
    answer = ask(make_guard(), np.concatenate([BENIGN[:1], ODD, BENIGN[1:2]]))
    assert [level is Level.WITHHELD for level in answer.levels] == [False, True, False]


def test_benign_traffic_is_answered(make_guard):
    guard = make_guard(policy(screen={"rate": 0.01}))
    answer = ask(guard, BENIGN)
    assert sum(level is Level.WITHHELD for level in answer.levels) <= 8
    assert all(verdict.action <= 3 for verdict in answer.verdicts)
    assert "e-process:hospital-a/radiology/key-17" in {verdict.source for verdict in answer.verdicts}


def test_a_thief_is_coarsened_then_withheld_and_other_accounts_are_not(make_guard):
    guard = make_guard(policy(screen={"action": "flag"}))
    rng = np.random.default_rng(0)
    levels = [ask(guard, ODD + rng.normal(size=(1, 3)).astype(np.float32)).levels[0] for _ in range(30)]
    assert levels[0] is Level.ROUNDED
    assert levels[-1] is Level.WITHHELD
    assert levels == sorted(levels)
    assert ask(guard, BENIGN[:1], ("hospital-a", "radiology", "key-18")).levels == (Level.ROUNDED,)
    assert ask(guard, BENIGN[:1]).levels == (Level.WITHHELD,)


def test_a_person_is_told_once_per_rung(make_guard, caplog):
    guard = make_guard(policy(screen={"action": "flag"}))
    rng = np.random.default_rng(0)
    for _ in range(30):
        ask(guard, ODD + rng.normal(size=(1, 3)).astype(np.float32), ("key",))
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(";")[0] for text in said] == [
        "account key: alarm, coarsen",
        "account key: alarm, withhold",
    ]


def test_accounts_that_share_an_attack_meet_at_their_parent(make_guard):
    guard = make_guard(policy(screen={"action": "allow"}, monitor={"parents": "withhold"}))
    rng = np.random.default_rng(0)
    for i in range(30):
        ask(guard, ODD + rng.normal(size=(1, 3)).astype(np.float32), ("org", f"key-{i}"))
    assert ask(guard, BENIGN[:1], ("org", "fresh-key")).levels == (Level.WITHHELD,)
    assert ask(guard, BENIGN[:1], ("elsewhere", "fresh-key")).levels == (Level.ROUNDED,)


def test_alpha_is_split_over_the_levels_of_a_path(make_guard):
    guard = make_guard(policy(screen={"action": "flag"}))
    rng = np.random.default_rng(0)
    rows = [ODD + rng.normal(size=(1, 3)).astype(np.float32) for _ in range(40)]
    asked = [
        sum(ask(guard, row, who).levels[0] is not Level.WITHHELD for row in rows)
        for who in [("alone",), tuple("abcdefgh")]
    ]
    assert 0 < asked[0] <= asked[1] < len(rows)
    for depth in (1, 3):
        rungs = AccountMonitors.of(guard.policy, guard.profile, depth).combined.ladder
        assert [alpha * depth for alpha, _ in rungs] == [
            pytest.approx(rung.false_alarm) for rung in guard.policy.monitor.ladder
        ]


def test_reset_forgets_one_account(make_guard):
    guard = make_guard(policy(screen={"action": "flag"}))
    rng = np.random.default_rng(0)
    for _ in range(30):
        ask(guard, ODD + rng.normal(size=(1, 3)).astype(np.float32))
    guard.reset(WHO)
    assert ask(guard, BENIGN[:1]).levels == (Level.ROUNDED,)


def test_a_reset_is_on_record_before_the_account_is_forgotten(make_guard):
    store, audit = MemoryStore(), Log()
    guard = make_guard(store=store, audit=audit)
    ask(guard, BENIGN[:1])
    guard.reset(WHO)
    assert store.get("/".join(WHO)) is None
    assert store.get("/".join(WHO[:2])) is not None
    assert audit.records[1:] == [{"event": "reset", "principal": "hospital-a/radiology/key-17"}]

    with pytest.raises(UnavailableError):
        reset_account(store, WHO[:2], Log(fail=True))
    assert store.get("/".join(WHO[:2])) is not None
    reset_account(store, WHO[:2], None)
    assert store.get("/".join(WHO[:2])) is None


@pytest.mark.parametrize(("on_error", "level"), [("withhold", Level.WITHHELD), ("flag", Level.ROUNDED)])
def test_a_failing_defense_is_handled_as_the_site_chose(make_guard, on_error, level):
    guard = make_guard(Policy(on_error=on_error), store=BrokenStore(), audit=(audit := Log()))
    assert ask(guard, BENIGN[:2]).levels == (level, level)
    assert audit.records[0]["verdicts"][-1]["source"].startswith("error:account:")


def test_a_failing_store_does_not_switch_off_the_screen(make_guard):
    guard = make_guard(Policy(on_error="flag"), store=BrokenStore())
    assert ask(guard, np.concatenate([BENIGN[:1], ODD])).levels == (Level.ROUNDED, Level.WITHHELD)


def test_a_failing_parent_does_not_clear_an_accounts_alarm(make_guard):
    class HalfBroken(MemoryStore):
        broken = False

        def transact_all(self, keys, step, *, ttl=None):
            if self.broken and WHO[0] in keys:
                raise CorruptStateError("that row is corrupt")
            return super().transact_all(keys, step, ttl=ttl)

    store = HalfBroken()
    guard = make_guard(Policy(on_error="flag", screen={"action": "flag"}), store=store)
    rng = np.random.default_rng(0)
    for _ in range(30):
        ask(guard, ODD + rng.normal(size=(1, 3)).astype(np.float32))
    store.broken = True
    assert ask(guard, BENIGN[:1]).levels == (Level.WITHHELD,)


def test_a_failing_screen_leaves_standing_alarms_standing(make_guard, linear_profile):
    class NoScreen(ScreenReference):
        def see(self, inputs, outputs):
            raise RuntimeError("no screen today")

    broken = NoScreen(screen=linear_profile.screening.screen, scores=linear_profile.reference)
    store = MemoryStore()
    rng = np.random.default_rng(0)
    for _ in range(30):
        ask(make_guard(policy(screen={"action": "flag"}), store=store), ODD + rng.normal(size=(1, 3)))
    guard = make_guard(Policy(on_error="flag"), store=store, profile=refitted(linear_profile, screen=broken))
    assert ask(guard, BENIGN[:1]).levels == (Level.WITHHELD,)
    assert ask(guard, BENIGN[:1], ("someone", "else")).levels == (Level.ROUNDED,)


def pushed(n, seed=3):
    """Ordinary rows that all carry one perturbation."""
    return (np.random.default_rng(seed).normal(size=(n, 3)) * 0.3 + [9, 0, 0]).astype(np.float32)


@pytest.fixture
def idle_screens(linear_profile):
    """The profile with screens that find nothing strange."""
    screen = dataclasses.replace(linear_profile.screening, scores=np.full_like(linear_profile.reference, 1e9))
    return refitted(linear_profile, screen=screen, embedding=None, probing=None)


def sources(answer, action):
    return {verdict.source for verdict in answer.verdicts if verdict.action.label == action}


def test_a_perturbation_shared_by_an_accounts_requests_is_noticed_and_a_reset_clears_it(make_guard, idle_screens):
    guard = make_guard(policy(screen={"action": "allow"}), profile=idle_screens)
    levels = [ask(guard, row[None], ("key",)).levels[0] for row in pushed(30)]
    assert levels[0] is Level.ROUNDED
    assert levels == sorted(levels)
    last = ask(guard, BENIGN[:1], ("key",)).verdicts[-1]
    assert last.action is Action.WITHHOLD
    assert last.evidence["share:shared"] > 0.9
    guard.reset(("key",))
    assert ask(guard, BENIGN[:1], ("key",)).levels == (Level.ROUNDED,)
    off = make_guard(policy(screen={"action": "allow"}, monitor={"shared": False}), profile=idle_screens)
    assert {ask(off, row[None], ("key",)).levels[0] for row in pushed(30)} == {Level.ROUNDED}


def test_a_batch_is_watched_as_single_queries_are(make_guard, idle_screens):
    states = []
    for size in (1, 6):
        store = MemoryStore()
        guard = make_guard(profile=idle_screens, store=store)
        for batch in np.split(pushed(12), 12 // size):
            ask(guard, batch)
        states.append([store.get("/".join(WHO[:depth])) for depth in (1, 2, 3)])
    assert states[0] == states[1]
    assert states[0][0]["e-process"]["peak"] > 0


def test_switching_the_shared_monitor_off_and_on_clears_no_alarm(make_guard, idle_screens):
    store, quiet = MemoryStore(), {"screen": {"action": "allow"}}
    on = make_guard(policy(**quiet), profile=idle_screens, store=store)
    off = make_guard(policy(**quiet, monitor={"shared": False}), profile=idle_screens, store=store)
    ask(on, pushed(30), ("key",))
    assert ask(off, BENIGN[:1], ("key",)).levels == (Level.WITHHELD,)
    assert ask(on, BENIGN[:1], ("key",)).levels == (Level.WITHHELD,)


def test_a_state_of_medward_0_1_keeps_its_alarm(make_guard):
    store = MemoryStore()
    guard = make_guard(store=store)
    ask(guard, ODD + np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32), ("key",))
    peak = store.get("key")["e-process"]["peak"]
    alone = {"calibration": "old", "n": 30, "hits": [30], "peak": peak, "recent": []}
    for state in (alone, {"e-process": {**alone, "peak": 0.0}, "shared": alone, "direction": {"n": 30}}):
        store.transact("key", lambda _, state=state: (state, None))
        assert ask(guard, BENIGN[:1], ("key",)).levels == (Level.WITHHELD,)


def test_failing_residuals_take_nothing_away_from_the_others(make_guard, linear_profile):
    class Broken:
        reference, radius, repeat_radius, fingerprint = linear_profile.fitted["residuals"].reference, 0, 0, "x"
        reference_strata = linear_profile.fitted["residuals"].reference_strata
        places = linear_profile.fitted["residuals"].places

        def see(self, inputs, outputs):
            raise RuntimeError("no residuals today")

    profile = refitted(linear_profile, residuals=Broken())
    answer = ask(make_guard(Policy(on_error="flag"), profile=profile), np.concatenate([BENIGN[:1], ODD]))
    assert answer.levels == (Level.ROUNDED, Level.WITHHELD)
    assert sources(answer, "flag") == {"error:residuals:RuntimeError"}
    assert ask(make_guard(profile=profile), BENIGN[:1]).levels == (Level.WITHHELD,)


def test_a_profile_without_residuals_is_refused_where_the_policy_needs_them(make_guard, linear_profile):
    with pytest.raises(MedwardError, match=r"monitor\.shared = false"):
        make_guard(profile=refitted(linear_profile, residuals=None))


def test_states_are_kept_as_long_as_the_policy_says(make_guard):
    kept = []

    class Spy(MemoryStore):
        def transact_all(self, keys, step, *, ttl=None):
            kept.append((len(keys), ttl))
            return super().transact_all(keys, step, ttl=ttl)

    ask(make_guard(policy(monitor={"ttl_days": 2}), store=Spy()), BENIGN[:1])
    assert kept == [(3, 2 * 86400)]


def test_an_answer_leaves_only_after_it_is_on_record(make_guard):
    with pytest.raises(UnavailableError):
        ask(make_guard(audit=Log(fail=True)), BENIGN[:1])
    assert ask(make_guard(Policy(on_error="flag"), audit=Log(fail=True)), BENIGN[:1]).labels[0] >= 0


def test_the_record_holds_digests_and_evidence_but_no_input_values(make_guard):
    audit = Log()
    ask(make_guard(audit=audit, salt=b"a"), np.full((1, 3), 0.123456, np.float32))
    text = json.dumps(audit.records)
    assert "0.1234" not in text
    record = audit.records[0]
    assert len(record["inputs"][0]) == 16
    assert record["levels"] == ["rounded"]
    assert record["policy"] == Policy(on_error="withhold").fingerprint
    other = Log()
    ask(make_guard(audit=other, salt=b"b"), np.full((1, 3), 0.123456, np.float32))
    assert other.records[0]["inputs"] != record["inputs"], "digests must be keyed, or small inputs can be guessed"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.zeros((0, 3)), "got \\(0, 3\\)"),
        (np.zeros((1, 4)), "expected shape \\(n >= 1, 3\\), got \\(1, 4\\)"),
        (np.array([[np.nan, 0, 0]]), "finite"),
        (np.array([[1e39, 0, 0]]), "finite"),
        (np.array([[101.0, 0, 0]]), "<= 100, got 101"),
        ([["x", 0, 0]], "numbers"),
        ([[1, 2], [3]], "numeric array"),
        (None, "numbers"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make_guard, rows, says):
    with pytest.raises(MedwardError, match=says):
        ask(make_guard(), rows)


def test_a_model_that_gives_nan_is_not_answered(make_guard, linear_model):
    class Broken:
        spec = linear_model.spec

        def predict(self, inputs):
            return Outputs(np.full((len(inputs), 3), np.nan))

    audit = Log()
    with pytest.raises(ModelError, match=r"could not answer this input$"):
        ask(make_guard(model=Broken(), audit=audit), BENIGN[:1])
    assert audit.records[0]["event"] == "model failed"
    assert audit.records[0]["principal"] == "/".join(WHO)


def test_bounds_that_float32_cannot_hold_are_still_legal_values():
    for low, high in ((-2.1179, 2.64), (-1.99, 2.13), (0.1, 0.9)):
        spec = ModelSpec(
            name="m",
            modality="tabular",
            shape=(2,),
            task=Classification(classes=("a", "b"), output="logits"),
            low=low,
            high=high,
        )
        assert spec.check(np.array([[low, high]], np.float32)).shape == (1, 2)
        with pytest.raises(MedwardError, match="<="):
            spec.check(np.array([[low, high + 0.001]]))


@pytest.mark.parametrize(
    "who",
    [
        (),
        ("",),
        ("a/b",),
        ("a",) * 9,
        ("x" * 129,),
        ("a\n",),
        "abc",
        (" ",),
        ("a\u200bb",),
        ("a\u3164",),
        ("a\uff0fb",),
    ],
)
def test_principals_that_could_be_confused_are_refused(who):
    with pytest.raises(MedwardError, match="principal"):
        checked_principal(who)


@pytest.mark.parametrize(
    ("who", "words"),
    [(None, "got NoneType"), (5, "got int"), ((5,), "a level is a text, got int"), ((b"a",), "got bytes")],
)
def test_what_is_no_path_is_one_sentence(who, words, make_guard):
    with pytest.raises(MedwardError, match=words):
        make_guard().answer(Query(principal=who, inputs=BENIGN[:1]))


SPELLINGS = ("Clinic A", "clinic a", " clinic  a ", "CLINIC\u00a0A", "\uff23linic A")


def test_names_that_print_alike_are_one_account(make_guard):
    """Taking turns under five spellings must be noticed as soon as asking under one."""
    rows = np.random.default_rng(0).normal(size=(20, 1, 3)).astype(np.float32) + np.float32([30, -30, 30])

    def noticed(spellings):
        guard = make_guard(Policy(on_error="withhold", screen={"action": "flag"}))
        asked = [(spellings[i % len(spellings)], "key") for i in range(len(rows))]
        return [guard.answer(Query(principal=who, inputs=row)).levels[0] for who, row in zip(asked, rows, strict=True)]

    assert noticed(SPELLINGS) == noticed(SPELLINGS[:1])
    assert noticed(SPELLINGS)[-1] is Level.WITHHELD
    assert {checked_principal((name,)) for name in SPELLINGS} == {("clinic a",)}
    assert (
        checked_principal(("klinik-ä",)) == checked_principal(("klinik-a\u0308",)) != checked_principal(("klinik-a",))
    )


def test_a_reset_finds_the_account_under_any_spelling(make_guard):
    store = MemoryStore()
    make_guard(store=store).answer(Query(principal=("clinic a",), inputs=np.zeros((1, 3), np.float32)))
    assert store.get("clinic a") is not None
    reset_account(store, ("Clinic  A",), None)
    assert store.get("clinic a") is None


def test_guard_is_frozen(make_guard):
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_guard().policy = None
