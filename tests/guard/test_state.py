"""What outlives a restart: the state folder of a guard, and one sentence where nothing says where it is."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medward.guard.accounts.stores import MemoryStore, SQLiteStore
from medward.guard.audit.log import read_log, verify_log
from medward.guard.bundle import folder as bundles
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.policy import Policy
from medward.guard.state import open_state, read_salt, shared_salt
from medward.guard.types import Action, Query
from medward.integrations.serving import load_app

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(400, 4)).astype(np.float32)
STRANGE = RNG.normal(size=(60, 4)) + 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    path = tmp_path_factory.mktemp("kept") / "bundle"
    policy = Policy(on_error="withhold", screen={"action": "flag"})
    return protect(model, Split(ROWS), policy, path, classes=("no", "yes"))


def asked(guard, rows, who="key"):
    """The strictest action of each answer to rows asked one by one."""
    answers = [guard.answer(Query(principal=(who,), inputs=row[None])) for row in rows]
    return [max(verdict.action for verdict in answer.verdicts) for answer in answers]


def test_a_guard_that_is_told_nothing_says_what_is_missing(bundle):
    with pytest.raises(MedwardError, match=r'no store, audit, salt,.* write guard\(state="state/"\)'):
        bundle.guard()
    with pytest.raises(MedwardError, match="no audit, salt,"):
        bundle.guard(store=MemoryStore())
    with pytest.raises(MedwardError, match="give one of them"):
        bundle.guard(state="state", ephemeral=True)


def test_in_memory_is_said_once(bundle, caplog):
    bundles._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "medward"):
        guards = [bundle.guard(ephemeral=True) for _ in range(2)]
        bundle.guard(store=MemoryStore(), ephemeral=True)  # which was said by the caller
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["guard"]
    assert len({guard.salt for guard in guards}) == 2
    assert all(len(guard.salt) == 32 for guard in guards)


def test_a_guard_started_again_on_its_state_knows_its_accounts_and_another_does_not(bundle, tmp_path):
    first = bundle.guard(state=tmp_path / "state")
    assert asked(first, STRANGE[:1]) == [Action.FLAG], "one strange row is flagged only"
    assert asked(first, STRANGE)[-1] is Action.WITHHOLD
    first.close()
    with bundle.guard(state=str(tmp_path / "state")) as again:
        assert asked(again, ROWS[:1]) == [Action.WITHHOLD], "an alarm stands"
        assert asked(again, ROWS[:1], who="other") == [Action.ALLOW]
        assert again.salt == first.salt
    for fresh in (bundle.guard(ephemeral=True), bundle.guard(state=tmp_path / "elsewhere")):
        assert asked(fresh, ROWS[:1]) == [Action.ALLOW]
        fresh.close()
    assert verify_log(tmp_path / "state" / "audit.jsonl").records == 63


def test_one_s_own_application_and_a_server_share_a_state_folder(bundle, tmp_path):
    with bundle.guard(state=tmp_path) as guard:
        asked(guard, ROWS[:1])
    served = load_app(bundle.path, state=tmp_path, anonymous=True)
    assert served.title == "Medward"
    with bundle.guard(state=tmp_path) as guard:
        asked(guard, ROWS[:1])
    first, second = read_log(tmp_path / "audit.jsonl")
    assert first["inputs"] == second["inputs"], "one salt"
    assert tmp_path.joinpath("salt").stat().st_mode & 0o777 == 0o600


def test_an_explicit_part_takes_the_place_of_the_folder_s(bundle, tmp_path):
    store = MemoryStore()
    guard = bundle.guard(state=tmp_path, store=store)
    assert guard.store is store
    assert not (tmp_path / "accounts.db").exists()
    other = bundle.guard(state=tmp_path / "replica", store=store)
    assert other.salt == guard.salt, "replicas of one store have one salt"
    assert bundle.guard(state=tmp_path / "third", store=store, salt=b"mine").salt == b"mine"


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MedwardError, match="cannot hold the guard's state"):
        open_state(tmp_path / "file")


def test_the_folder_is_its_owner_s(tmp_path):
    opened = open_state(tmp_path / "new" / "state")
    assert isinstance(opened.store, SQLiteStore)
    assert (tmp_path / "new" / "state").stat().st_mode & 0o777 == 0o700
    opened.store.close()


def test_files_are_their_owner_s_in_a_folder_that_all_may_read(tmp_path):
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state").chmod(0o755)
    opened = open_state(tmp_path / "state")
    opened.store.transact("clinic/key", lambda _: ({"seen": 1}, None))
    opened.audit.append({"query": "1"})
    modes = {each.name: each.stat().st_mode & 0o077 for each in (tmp_path / "state").iterdir()}
    assert {"accounts.db", "accounts.db-wal", "audit.jsonl", "salt"} <= set(modes)
    assert set(modes.values()) == {0}
    opened.store.close()


def test_threads_that_open_a_new_folder_at_once_have_one_salt(tmp_path):
    for turn in range(20):
        (tmp_path / str(turn)).mkdir()
        path, ready = tmp_path / str(turn) / "salt", Barrier(4)

        def made(path=path, ready=ready):
            ready.wait()
            return read_salt(path)

        with ThreadPoolExecutor(4) as pool:
            salts = [each.result() for each in [pool.submit(made) for _ in range(4)]]
        assert set(salts) == {path.read_bytes()}
        assert [each.name for each in path.parent.iterdir()] == ["salt"]


def test_the_salt_is_made_once_and_a_short_one_is_refused(tmp_path):
    salt = read_salt(tmp_path / "salt")
    assert len(salt) == 32
    assert read_salt(tmp_path / "salt") == salt
    assert [each.name for each in tmp_path.iterdir()] == ["salt"]
    (tmp_path / "salt").write_bytes(salt[:31])
    with pytest.raises(IntegrityError, match="32 bytes, got 31"):
        read_salt(tmp_path / "salt")


def test_the_salt_of_a_store_is_that_of_the_first_to_ask():
    store = MemoryStore()
    assert shared_salt(store, b"1" * 32) == b"1" * 32
    assert shared_salt(store, b"2" * 32) == b"1" * 32
    assert shared_salt(MemoryStore(), b"2" * 32) == b"2" * 32
